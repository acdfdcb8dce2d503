"""UnitreeRobot: a G1 on the network, behind the same six methods as the simulated one."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.real.control_client import CUTS, ControlClient, command_record, cut_off, open_client
from neon_sim.real.control_config import CONTROL_DT
from neon_sim.real.control_records import Order
from neon_sim.real.errors import ControlProcessError, NotArmedError
from neon_sim.real.preflight import Finding
from neon_sim.real.robot_config import RobotConfig
from neon_sim.real.safety_log import SafetyLog
from neon_sim.real.safety_stop import MOVABLE, STOPPED, Phase
from neon_sim.real.sense_source import Place
from neon_sim.real.senses import RobotSenses
from neon_sim.real.transport import Link
from neon_sim.robot import RobotCommand, RobotState
from neon_sim.safety import all_finite
from neon_sim.sensors.sensor import SensorConfig
from neon_sim.walker import Walker

_ARMS: Final = np.isin(np.arange(joints.NUM_JOINTS), joints.GROUPS["arms"])
_LEGS: Final = np.isin(np.arange(joints.NUM_JOINTS), joints.GROUPS["legs"])
_HOME_ENOUGH: Final = 1e-3  # rad, of the targets
_BEYOND_RAMP_S: Final = 5.0
_TOLD: Final = ("phase", "reasons", *CUTS, "stale_senses")
_PATIENCE_S: Final = 3.0  # the battery speaks at 20 Hz, the services when they are asked


class UnitreeRobot:
    """The robot of `RobotConfig`, from the moment on at which its control runs. It is not armed then.

    Every method but `arm` leaves an unarmed robot unmoved. Times in states are seconds since the last `reset`, by the
    robot's own clock.

    Args:
        config: where it is and how it is commanded.
        sensors: name -> config of every sense that `sense` may be asked for.

    Raises:
        ValueError: a sense that this robot has not, unless the config masks those.
        SenseError: a sense does not come, unless the config masks it. In lock-step nothing comes before time passes: it
            is zeros until its first frame.
        ControlProcessError: its control did not start. LinkError (in its words): the network is not as configured.
    """

    def __init__(self, config: RobotConfig, sensors: Mapping[str, SensorConfig] | None = None) -> None:
        self.config = config
        self.dt = CONTROL_DT
        self.max_velocity = np.minimum(Walker.max_velocity, config.control.safety.max_velocity)
        absent = config.senses.absent(sensors or {})
        if absent and config.absent_senses == "refuse":
            raise ValueError(
                f"This robot has no sense {', '.join(absent)} connected. Say where it is (RobotConfig.senses), leave "
                'it out of the env\'s sensors, or set absent_senses="mask" to see zeros.'
            )
        self._log = SafetyLog(None if config.log is None else config.log / "commands.jsonl")
        self._client: ControlClient = open_client(config)
        self._start_s = 0.0
        self._owned = _ARMS  # what the env holds while it rests: what it last commanded, but never the legs
        self._said: dict[str, Any] = {}
        self._closed = False
        self._link: Link | None = None
        self._senses: RobotSenses | None = None
        with ExitStack() as undo:
            undo.callback(self.close)
            self._senses = self._open_senses(sensors or {})
            undo.pop_all()

    @property
    def phase(self) -> Phase:
        """What the control does now."""
        return Phase(int(self._client.status()["phase"]))

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it stopped, in words; empty while it goes on."""
        return tuple(self._client.words()["reasons"])

    @property
    def late_counts(self) -> np.ndarray:
        """How late the control's ticks have been so far: counts (160,) for `late_quantile_us`, zeros in lock-step."""
        return self._client.status()["late_counts"].copy()

    def check(self, gantry: bool = False) -> tuple[Finding, ...]:
        """Look at everything that must be true before arming; nothing moves. gantry: as for `arm`."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            self._client.order(Order.CHECK, gantry)
            findings = self._findings()
            if all(finding.good for finding in findings) or time.monotonic() > deadline_s:
                return findings
            time.sleep(0.1)  # services and battery may not have spoken yet

    def arm(self, gantry: bool = False) -> None:
        """Bring the robot to its home pose, gains and positions rising slowly, and let it stand and follow commands.

        To be called by a person who sees the robot, or by a program that such a person has just told so. After a stop
        it is the only way on.

        Args:
            gantry: you say that the robot hangs in its gantry, or that it may fall where it is.

        Raises:
            NotArmedError: something stands against it, in words.
        """
        self.check(gantry)
        self.pause()
        if not self._client.order(Order.ARM, gantry):
            wrong = [f"{finding.name}: {finding.words}" for finding in self._findings() if not finding.good]
            raise NotArmedError(wrong or ("its state is faulty: call check()",), "arm")
        self._log.write("arm", self._client.now_s(), gantry=gantry)
        ramp_s = self.config.control.stop.ramp_s
        deadline_s = self._client.now_s() + ramp_s + _BEYOND_RAMP_S
        while ramp_s > 0.0 and self.phase is Phase.RAMPING:
            if self._client.now_s() > deadline_s:
                raise ControlProcessError("The robot did not come out of its ramp. Call halt(), and look at its log.")
            self._client.wait_step()
        if self.phase in STOPPED:
            raise NotArmedError(self.reasons, "arm")

    def disarm(self) -> None:
        """Lower the robot and damp it; on high_level give the arms back. Returns at once."""
        self._client.order(Order.DISARM)
        self._log.write("disarm", self._client.now_s())

    def halt(self) -> None:
        """Damp it now: a standing robot falls."""
        self._client.order(Order.HALT)
        self._log.write("halt", self._client.now_s())

    def release_mode(self) -> None:
        """Make the robot's own motion service let go of it: it falls unless it hangs or is armed at once."""
        self._client.order(Order.RELEASE_MODE)

    def reset(self, rng: np.random.Generator) -> RobotState:
        """Begin an episode. An armed robot moves its arms home at `home_speed`, its waist too if the env had it, and
        stands; an unarmed one does nothing. rng is not used: a real robot begins where it is.

        Raises:
            NotArmedError: it has stopped since a person last armed it.
            ControlProcessError: no state has come in `wait_s`.
        """
        self._wait_for_state()
        if self.phase in STOPPED:
            raise NotArmedError(self.reasons, "begin an episode")
        if self.phase is not Phase.UNARMED:
            self._go_home()
            self.pause()
        self._start_s = float(self._client.status()["state_s"])
        return self.read()

    def write(self, command: RobotCommand) -> RobotCommand:
        """Hand a command to the control, and return what is really sent as far as it is decided.

        In real time the walker's joints in it are those of the control step before. After a stop the command changes
        nothing; `safety` says so.

        Raises:
            NotArmedError: nobody has armed the robot.
            ValueError: a number that is not finite, a negative gain, or legs on high_level. Nothing was sent.
        """
        self._check(command)
        if self.phase is Phase.UNARMED:
            raise NotArmedError((), "write a command")
        now_s = self._client.now_s()
        self._client.send(command_record(command, now_s))
        self._log.command(now_s, command)
        self._owned = command.owned_mask & ~_LEGS
        status = self._client.status()
        sent = np.where(command.owned_mask, command.joint_target, status["joint_target"])
        if self.config.clock == "lock_step" or self.phase not in MOVABLE:
            sent = status["joint_target"].copy()
        return RobotCommand(
            sent, command.owned_mask, command.kp, command.kd, command.velocity.copy(), float(command.height)
        )

    def pause(self) -> None:
        """Let an armed robot stand where it is until the next command: silence is no fault meanwhile."""
        self._client.send(command_record(self._resting(joints.HOME), self._client.now_s(), pauses=True))

    def advance(self) -> None:
        """Wait until it is time for the next command."""
        self._client.wait_step()

    def read(self) -> RobotState:
        """Return the newest state."""
        status = self._client.status()
        names = ("joint_pos", "joint_vel", "joint_torque", "joint_target", "quat_wxyz", "gyro", "gravity_b")
        return RobotState(float(status["state_s"]) - self._start_s, **{name: status[name].copy() for name in names})

    def sense(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the newest frame of each named sense; a masked one is zeros."""
        assert self._senses is not None
        return self._senses.frames(names, *self._now())

    def safety(self) -> dict[str, Any]:
        """What the control cut off the last command, and whether it goes on: plain values for `info["safety"]`.

        phase, reasons (why it stopped), stopped, masked (senses that are zeros), stale_senses (name -> why it has given
        nothing new for a second), state_age_s, late_ms, log_error (why no log is kept any more), and the names of what
        was cut: position, speed, velocity, self_distance (joints that bring an arm too near to the robot itself).
        """
        assert self._senses is not None
        status = self._client.status()
        phase = Phase(int(status["phase"]))
        info = {
            "phase": phase.name.lower(),
            "stopped": phase in STOPPED,
            "reasons": self.reasons,
            **cut_off(status),
            "masked": self._senses.masked,
            "stale_senses": self._senses.stale(float(status["state_s"])),
            "state_age_s": float(status["age_s"]),
            "late_ms": float(status["late_ms"]),
            "log_error": self._log.error,
        }
        told = {key: info[key] for key in _TOLD}
        if told != self._said:
            self._log.write("safety", self._client.now_s(), **told)
        self._said = told
        return info

    def close(self) -> None:
        """Lower an armed robot, damp it, and end its control. Safe to call twice."""
        if not self._closed:
            self._closed = True
            if self._senses is not None:
                self._senses.close()
            if self._link is not None:
                self._link.close()
            self._client.close()
            self._log.close()

    def _open_senses(self, sensors: Mapping[str, SensorConfig]) -> RobotSenses:
        senses = RobotSenses(self.config.senses, sensors, Place(self._join, self.config.link.interface))
        with ExitStack() as undo:
            undo.callback(senses.close)
            if self.config.clock == "real_time":
                senses.wait(self._now, self.config.wait_s, self.config.absent_senses == "mask")
            undo.pop_all()
        return senses

    def _join(self) -> Link:
        """The network for the senses: the control's if that is in this process, or one of our own."""
        shared = self._client.link()
        if shared is not None:
            return shared
        if self._link is None:
            self._link = Link(self.config.link)
        return self._link

    def _now(self) -> tuple[float, np.ndarray]:
        status = self._client.status()
        return float(status["state_s"]), status["joint_pos"]

    def _findings(self) -> tuple[Finding, ...]:
        return tuple(Finding(**finding) for finding in self._client.words()["findings"])

    def _check(self, command: RobotCommand) -> None:
        numbers = (command.joint_target, command.kp, command.kd, command.velocity, np.array([command.height]))
        if not all_finite(*numbers):
            raise ValueError("A command must be finite. Nothing was sent. Look at the policy's output.")
        if command.kp.min() < 0.0 or command.kd.min() < 0.0:
            raise ValueError("Gains must not be negative. Nothing was sent.")
        if self.config.control.path == "high_level" and command.owned_mask[joints.GROUPS["legs"]].any():
            raise ValueError('On high_level the legs are the robot\'s own. Use control_mode "arms_only", or low_level.')

    def _wait_for_state(self) -> None:
        deadline_s = time.monotonic() + self.config.wait_s
        while not self._client.status()["has_state"]:
            if time.monotonic() > deadline_s:
                raise ControlProcessError(
                    f"No state has come in {self.config.wait_s:g} s. Is the robot on, and are interface "
                    f"{self.config.link.interface!r} and domain {self.config.link.domain} right? check() says more."
                )
            time.sleep(0.01)

    def _go_home(self) -> None:
        target = self._client.status()["joint_target"].copy()
        step = self.config.home_speed * self.dt
        while self.phase not in STOPPED:
            way = np.where(self._owned, joints.HOME - target, 0.0)
            if np.abs(way).max() <= _HOME_ENOUGH:
                break
            target = target + np.clip(way, -step, step)
            command, now_s = self._resting(target), self._client.now_s()
            self._client.send(command_record(command, now_s))
            self._log.command(now_s, command)
            self._client.wait_step()
        if self.phase in STOPPED:
            raise NotArmedError(self.reasons, "move the arms home")

    def _resting(self, target: np.ndarray) -> RobotCommand:
        return RobotCommand(target, self._owned, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)

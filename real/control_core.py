"""What the control process thinks, without its network, its clock or its shared memory: states and commands in, a
message out, 500 times a second. The same core runs in the control process and in a lock-step test.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.real import safety_stop
from neon_sim.real.command_paths import CommandPath, Outgoing, Plan, make_path
from neon_sim.real.control_config import CONTROL_DT, ControlConfig
from neon_sim.real.control_records import StatusSheet, text_of
from neon_sim.real.safety_stop import Phase, Stop
from neon_sim.real.state_faults import AGE, StateMonitor
from neon_sim.robot import RobotState
from neon_sim.safety import SafetyLimits, all_finite, limit
from neon_sim.walker import HEIGHT_RANGE, Walker

_NOT_LEGS: Final = np.isin(np.arange(joints.NUM_JOINTS), joints.GROUPS["legs"], invert=True)
_ARMS: Final = np.isin(np.arange(joints.NUM_JOINTS), joints.GROUPS["arms"])
_WAIST: Final = _NOT_LEGS & ~_ARMS
_NEAR_HOME: Final = 0.1  # rad; a step of a target that no motor answers with a leap
MAX_KP: Final = 500.0  # N m/rad; the stiffest that anybody gives a G1 (Menagerie), and in simulation
MAX_KD: Final = 50.0  # N m s/rad; our own choice


class _Wish(NamedTuple):
    """What is wanted of the joints for one control step."""

    target: np.ndarray  # (29,) rad
    owned_mask: np.ndarray  # (29,) bool
    kp: np.ndarray
    kd: np.ndarray
    velocity: np.ndarray  # (3,)
    height: float  # m


_REST: Final = _Wish(joints.HOME, _ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)
_CUTS: Final = ("position_mask", "speed_mask", "velocity_mask", "distance_mask")  # of a report and of `STATUS`


class ControlCore:
    """One robot's control, from its first state on.

    Attributes:
        monitor: judges the states. stop: where the state machine is. steps: how often the env was told to decide.
    """

    def __init__(self, config: ControlConfig, walker: Walker | None = None) -> None:
        self.config = config
        self.monitor = StateMonitor(config.limits)
        self.stop = Stop()
        self.steps = 0
        self._walker = walker or Walker()
        self._limits = SafetyLimits(config.safety)
        self._path: CommandPath | None = None
        self._command: np.ndarray | None = None
        self._asked_s: float | None = None  # when the env last asked for something; None while it pauses
        self._wish = _REST
        self._target = joints.HOME.copy()  # of this control step
        self._from, self._way = self._target, np.zeros(joints.NUM_JOINTS)  # how this step's ticks lead there
        # Joints that the walker has taken over and not caught up with yet, and how far a target of those may go in one
        # step: as fast as the env may ask, and no faster than a joint may turn without being damped for it.
        self._late = np.zeros(joints.NUM_JOINTS, dtype=bool)
        self._late_step = np.minimum(self._limits.speed, config.limits.joint_speed) * CONTROL_DT
        self._start = joints.HOME.copy()  # where the ramp began
        self._ticks, self._lead = 0, round(config.lead_s / config.tick_s)
        self._ticked_s: float | None = None
        self._sheet = StatusSheet()
        self._shown: np.ndarray | None = None  # the target in it, if all of it is ours
        self._said: tuple[Any, ...] = ((), ())
        self._words = text_of((), ())
        self.findings: list[dict[str, Any]] = []

    def take(self, sample: bytes, now_s: float) -> bool:
        """Read one LowState sample; True if it is a new state."""
        return self.monitor.take(sample, now_s)

    def obey(self, command: np.ndarray) -> None:
        """Take the env's newest command, a record of `COMMAND`. One with a number that is not finite never came."""
        numbers = (command[name] for name in ("joint_target", "kp", "kd", "velocity", "height", "time_s"))
        if all_finite(*(np.atleast_1d(number) for number in numbers)):
            self._command = command
            self._asked_s = None if command["pauses"] else float(command["time_s"])

    def arm(self, now_s: float, objections: Sequence[str]) -> None:
        """Arm; the objections are the preflight's.

        Raises:
            NotArmedError: it objects, or the state is faulty.
        """
        self._go(safety_stop.arm(self.stop, now_s, [*objections, *self.monitor.visible(now_s)]))

    def disarm(self, now_s: float) -> None:
        """Lower the robot, then damp it."""
        self._go(safety_stop.disarm(self.stop, now_s))

    def halt(self, now_s: float, reason: str = "stopped by hand") -> None:
        """Damp it now."""
        self._go(safety_stop.halt(self.stop, now_s, reason))

    def tick(self, now_s: float, writers: int = 1, orphaned: bool = False, charge: float | None = None) -> Outgoing:
        """Let one tick pass, and return what is to be sent.

        writers: on the path's topic, this one among them. orphaned: the env's process is gone. charge: of the battery,
        per cent, None = not known.
        """
        faults, stall = self.monitor.faults(now_s), self._stall(now_s)
        if stall:  # what came meanwhile may not have been read yet: an old state is this process's fault
            faults = (*(fault for fault in faults if not fault.startswith(AGE)), *stall)
        if writers > 1:
            faults += (f"second writer: {writers - 1} more on {self._topic}",)
        self._let_pass(now_s, faults, self._silence_s(now_s, orphaned))
        lowest = self.config.limits.charge
        if charge is not None and charge < lowest:
            reason = f"low battery: {charge:.0f} %, the limit is {lowest:.0f} %"
            self._go(safety_stop.disarm(self.stop, now_s, reason))
        place = self._ticks % self.config.ticks
        self._ticks += 1
        if place == 0:
            self._control_step(now_s)
        if place == (-self._lead) % self.config.ticks:
            self.steps += 1
        if self._path is None:
            return Outgoing(None)
        return self._path.outgoing(self.stop, self._plan(now_s, place), self.config.tick_s)

    def state(self) -> RobotState | None:
        """What the robot senses now; None before its first state."""
        record = self.monitor.record
        if record is None:
            return None
        motors, imu = record["motor_state"][: joints.NUM_JOINTS], record["imu_state"]
        quat = imu["quaternion"].astype(np.float64)
        return RobotState(
            time_s=self.monitor.clock.tick_s,
            joint_pos=motors["q"].astype(np.float64),
            joint_vel=motors["dq"].astype(np.float64),
            joint_torque=motors["tau_est"].astype(np.float64),
            joint_target=np.where(self._told(), self._target, motors["q"]),
            quat_wxyz=quat,
            gyro=imu["gyroscope"].astype(np.float64),
            gravity_b=gravity_in_body(quat),
        )

    def status(self, now_s: float) -> np.ndarray:
        """What the env may know, a record of `STATUS`: always the same one, which the next call writes over."""
        sheet, told = self._sheet, self._told()
        sheet.show(now_s, self.steps, self.stop, self.monitor.clock, self.monitor.numbers)
        if told is not True:
            self._shown = None
            sheet.fields["joint_target"][:] = np.where(told, self._target, sheet.fields["joint_pos"])
        elif self._shown is not self._target:
            self._shown = sheet.fields["joint_target"][:] = self._target
        return sheet.record

    def words(self) -> bytes:
        """Reasons of the last stop and findings of the last preflight as JSON; the same object while they stay."""
        reasons, findings = self.stop.reasons, self.findings
        if reasons is not self._said[0] or findings is not self._said[1]:
            self._said, self._words = (reasons, findings), text_of(reasons, findings)
        return self._words

    @property
    def _topic(self) -> str:
        return "the command topic" if self._path is None else self._path.topic

    def _silence_s(self, now_s: float, orphaned: bool) -> float | None:
        if orphaned:
            return np.inf
        return None if self._asked_s is None else now_s - self._asked_s

    def _stall(self, now_s: float) -> tuple[str, ...]:
        before_s, self._ticked_s = self._ticked_s, now_s
        if before_s is None or now_s - before_s <= self.config.stall_s:
            return ()
        return (f"stalled control: no processor for {1e3 * (now_s - before_s):.0f} ms, nothing was sent meanwhile",)

    def _let_pass(self, now_s: float, faults: tuple[str, ...], silence_s: float | None) -> None:
        """Follow the state machine until it rests: a phase that lasts no time is left in the tick that enters it."""
        before = None
        while before is not self.stop:
            before = self.stop
            self._go(safety_stop.advance(before, self.config.stop, now_s, faults, silence_s))

    def _go(self, stop: Stop) -> None:
        """Enter a phase: what begins there is set up."""
        before, self.stop = self.stop.phase, stop
        if stop.phase is before:
            return
        record = self.monitor.record
        if stop.phase is Phase.RAMPING and record is not None:
            self._start = record["motor_state"]["q"][: joints.NUM_JOINTS].astype(np.float64)
            self._path = make_path(self.config.path, int(record["mode_machine"]), self.config.stop.ramp_s)
            self._wish, self._late = _REST, np.zeros(joints.NUM_JOINTS, dtype=bool)
        if before is Phase.RAMPING and stop.phase is Phase.STANDING:
            self._target = joints.HOME.copy()
            if record is not None:  # without a ramp arms may be astray: they begin there, and `reset` moves them
                measured = record["motor_state"]["q"][: joints.NUM_JOINTS].astype(np.float64)
                astray = _ARMS & (np.abs(measured - joints.HOME) > _NEAR_HOME)
                self._target[astray] = measured[astray]
            self._go_to(self._target)  # from there
            self._walker.reset()
            self._ticks = 0  # the first control step is now, as it is after a reset in simulation
        if before in safety_stop.STOPPED and stop.phase is Phase.STANDING and not self._walks and record is not None:
            # The arms were given back meanwhile: begin where they are.
            self._target = record["motor_state"]["q"][: joints.NUM_JOINTS].astype(np.float64)
            self._go_to(self._target)

    def _go_to(self, target: np.ndarray, late: np.ndarray | bool = False) -> None:
        """Begin a control step with a target (29,) rad: in a straight line for some joints, at once for the others.

        late: joints (29,) that go in a straight line although the env does not own them.
        """
        before, self._target = self._target, target
        interpolate = self.config.interpolate
        moves = self._wish.owned_mask | late if interpolate == "owned" else interpolate == "all"
        self._from = np.where(moves, before, target)
        self._way = np.where(moves, target - before, 0.0)

    def _told(self) -> np.ndarray | bool:
        """Which joints (29,) have a target of ours."""
        if self._path is None or self.stop.phase in (Phase.UNARMED, Phase.DAMPING):
            return False
        return True if self._path.walks else _NOT_LEGS

    @property
    def _walks(self) -> bool:
        return self._path is not None and self._path.walks

    def _control_step(self, now_s: float) -> None:
        """Decide the targets of the next 0.02 s."""
        state = None if self.stop.phase in (Phase.UNARMED, Phase.RAMPING, Phase.DAMPING) else self.state()
        if state is None:
            self._go_to(self._target)
            return
        before = self._wish
        wish = self._wish = self._wanted()
        mask = wish.owned_mask if self._walks else wish.owned_mask | _WAIST
        target, velocity, report = limit(wish.target, self._target, mask, wish.velocity, self._limits, CONTROL_DT)
        for name in _CUTS:
            self._sheet.fields[name][:] = getattr(report, name)
        self._wish = wish._replace(velocity=velocity)
        late: np.ndarray | bool = False
        if self._walks:
            target, late = self._walk(state, before.owned_mask, target)
            if not all_finite(target):
                self.halt(now_s, "walker: a target is not finite")
                return
        # What is sent is a float32: keep what is really sent.
        self._go_to(target.astype(np.float32).astype(np.float64), late)

    def _walk(self, state: RobotState, owned_before: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Let the walker fill the joints (29,) that it owns. Those that it has taken over from the env, which come
        second, do not leap to where it wants them."""
        wish, legs = self._wish, joints.GROUPS["legs"]
        if owned_before[legs].any() and not wish.owned_mask[legs].any():
            self._walker.reset()  # it was not asked for a while: its past is another's
        walk = np.array((*wish.velocity, wish.height))
        target = self._walker.step(state, walk, wish.owned_mask, target)
        late = (self._late | owned_before) & ~wish.owned_mask
        self._late = late
        if late.any():
            near = np.clip(target, self._target - self._late_step, self._target + self._late_step)
            self._late = late & (near != target)
            target = np.where(late, near, target)
        return target, late

    def _wanted(self) -> _Wish:
        """The env's wish while it may have one; else its last one with the arms held and nowhere to go."""
        command, last = self._command, self._wish
        if self.stop.phase is Phase.RUNNING and command is not None:
            return _Wish(
                target=command["joint_target"].copy(),
                owned_mask=command["owned_mask"].copy(),
                kp=command["kp"].clip(0.0, MAX_KP),
                kd=command["kd"].clip(0.0, MAX_KD),
                velocity=command["velocity"].copy(),
                height=float(command["height"]),
            )
        height = last.height
        if self.stop.phase is Phase.LOWERING:
            height = HEIGHT_RANGE[0]  # the walker goes there slowly
        return last._replace(
            target=self._target, owned_mask=last.owned_mask & _NOT_LEGS, velocity=np.zeros(3), height=height
        )

    def _plan(self, now_s: float, place: int) -> Plan:
        """The targets of this tick, between those of the last control step and of this one."""
        wish, stop = self._wish, self.stop
        if stop.phase is Phase.RAMPING:
            whole_s = self.config.stop.ramp_s
            share = min(1.0, (now_s - stop.since_s) / whole_s) if whole_s > 0.0 else 1.0
            target = (1.0 - share) * self._start + share * joints.HOME
            return Plan(target, wish.kp, wish.kd, np.zeros(3), share)
        target = self._from + (place + 1) / self.config.ticks * self._way
        return Plan(target, wish.kp, wish.kd, wish.velocity, 1.0)

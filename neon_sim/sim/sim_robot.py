"""SimRobot: the G1 and its world in MuJoCo, behind the same six methods as the robot."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.robot import RobotCommand, RobotState
from neon_sim.sensors.sensor import Sensor, SensorConfig
from neon_sim.sim.divergence import started_over
from neon_sim.sim.domain import DomainRandomization, as_info, draw_domain
from neon_sim.sim.embodiment import Embodiment
from neon_sim.sim.faults import Fault, StuckJoint, as_faults, lost_sensors
from neon_sim.sim.frames import IMU, Frames
from neon_sim.sim.latency import Latency, Reading
from neon_sim.sim.model import build_model, substeps_of
from neon_sim.sim.noise import DRAW_SIZE, SensorNoise
from neon_sim.sim.order import Order
from neon_sim.sim.places import Places
from neon_sim.sim.pushes import Pushes
from neon_sim.sim.rounding import rounded, single
from neon_sim.walker import Walker

_STATE_SPEC = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class SimRobot:
    """Robot and World in one: PD control by native actuators, one `mj_step` call per control period.

    Args:
        spec: the scene, or its compiled model with `physics_dt` in it, which this robot then keeps for itself; the G1
            comes first. A variant of it that lacks joints reads zero there, and what those are told is ignored.
        sensors: name -> config of every sensor that `sense` may be asked for.
        physics_dt: s, must divide `control_dt`.
        control_dt: s, 0.02 = 50 Hz.
        settle_s: s for which `reset` lets the robot stand in its home pose before an episode begins.
        noise: errors of encoders and IMU in all that `read` returns, and so in all that the walker sees; None = none.
        randomization: what each `reset` draws anew; None = every episode has the nominal robot, and nothing is drawn.
        round_to_float32: what is read and what is sent to the motors are float32 numbers, as on the robot's wire; then
            both do the same (`tests/test_real_robot.py`).

    Attributes:
        joint_map: which of the 29 joints this robot has, and where.
    """

    def __init__(
        self,
        spec: mujoco.MjSpec | mujoco.MjModel,
        sensors: Mapping[str, SensorConfig],
        physics_dt: float = 0.002,
        control_dt: float = 0.02,
        settle_s: float = 0.4,
        noise: SensorNoise | None = None,
        randomization: DomainRandomization | None = None,
        round_to_float32: bool = False,
    ) -> None:
        self.substeps, self.dt = substeps_of(physics_dt, control_dt), control_dt
        self.model = build_model(spec, physics_dt) if isinstance(spec, mujoco.MjSpec) else spec
        if self.model.opt.timestep != physics_dt:
            raise ValueError(f"The compiled model steps {self.model.opt.timestep} s, physics_dt is {physics_dt}.")
        self.data = mujoco.MjData(self.model)
        self._embodiment = Embodiment(self.model)
        self.joint_map = self._embodiment.joint_map
        self._kept, count = self.joint_map.kept, self.joint_map.count
        # Views of MuJoCo's own memory, made once: each `data.qpos` would make a new one.
        self._pelvis_quat, self._joint_pos = self.data.qpos[3:7], self.data.qpos[7 : 7 + count]
        self._gyro, self._joint_vel = self.data.qvel[3:6], self.data.qvel[6 : 6 + count]
        self._torque, self._ctrl = self.data.actuator_force[:count], self.data.ctrl[:count]
        self.walker = Walker()
        self.max_velocity = self.walker.max_velocity
        self._frames, self._places = Frames(self.model, sensors), Places(self.model, self.data)
        self._settle_steps = round(settle_s / control_dt)
        self.randomization, self._rounds = randomization, round_to_float32
        self._latency: Latency | None = None  # none at all costs nothing
        self._pushes: Pushes | None = None
        self._target = joints.HOME.copy()
        self._state: RobotState | None = None  # what was read since the last step
        self._order: Order | None = None
        self._age = 0  # control periods since the last `write`
        self.noise = self._own_noise = noise
        self._noise_rng = np.random.default_rng(0)
        self._noise_draw = np.zeros(DRAW_SIZE)

    def reset(self, rng: np.random.Generator) -> RobotState:
        """Stand up in the home pose with up to 0.02 rad of joint noise, and let it settle.

        Where faults break the physics meanwhile, the episode begins unsettled, as the robot was put.
        """
        self._randomize(rng)
        pose = joints.HOME + rng.uniform(-0.02, 0.02, joints.NUM_JOINTS)
        if self.noise is not None:  # without noise nothing is drawn: those episodes stay what they were
            self._noise_rng = np.random.default_rng(rng.integers(1 << 63))
            self._noise_draw = self.noise.draw(self._noise_rng)
        pushes, self._pushes = self._pushes, None  # nobody pushes while it settles
        self._begin(pose)
        hold = self._hold_command()
        for _ in range(self._settle_steps):
            self.write(hold)
            self.advance()
        if started_over((self._settle_steps - 1) * self.dt, self.data.time, self.dt):
            self._begin(pose)
        self.data.time = 0.0
        self._pushes = pushes
        self._frames.reset(rng)
        return self.read()

    def _begin(self, pose: np.ndarray) -> None:
        """Be put up at rest with these joint angles (29,) rad, with motors and walker as they start."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[2] = joints.HOME_HEIGHT
        self.joint_map.place(self.data, pose)
        for fault in self._embodiment.faults:
            if isinstance(fault, StuckJoint):
                self.data.joint(fault.joint).qpos[:] = fault.angle
        self._state, self._order = None, None
        self._target = joints.HOME.copy()
        self._set_gains(joints.KP, joints.KD)
        self._latency = None
        self._follow_latency()
        self.walker.reset()
        mujoco.mj_kinematics(self.model, self.data)

    def write(self, command: RobotCommand) -> RobotCommand:
        """Let the walker fill the joints it owns, hand all 29 targets to the motors, return what was sent."""
        body = self._embodiment
        if command.kp is not body.kp or command.kd is not body.kd:
            self._follow_gains(command.kp, command.kd)
        velocity, mask = command.velocity, command.owned_mask
        walk = np.array((velocity[0], velocity[1], velocity[2], command.height))
        self._order, self._age = Order(walk, _kept(mask), _kept(command.joint_target)), 0
        self._walk(self._order)
        return RobotCommand(self._target, mask, body.kp, body.kd, velocity, command.height)

    def advance(self) -> None:
        """Step the physics for one control period and bring body poses up to date.

        Without a `write` since the last period the robot goes on by itself, as the real one does: the walker keeps the
        last command, and stands still once that is `order.VELOCITY_LASTS_S` old.
        """
        if self._age > 0 and self._order is not None:
            self._walk(self._order.at_age(self._age * self.dt))
        self.simulate()
        self._age += 1

    def send(self, target: np.ndarray) -> None:
        """Hand 29 targets (29,) rad to the motors, without asking the walker: the end of `write`, for who asked it.

        Those of joints that this robot lacks are taken to be zero.
        """
        self._target = self.joint_map.cleared(target)
        if self._latency is None:
            self._ctrl[:] = target[self._kept]
        else:
            self._latency.send(self._target)

    def simulate(self, poses: bool = True) -> None:
        """The physics half of `advance`: asks no walker and may run in a thread of its own.

        poses=False leaves the bodies' poses where they were, for who reads only joints and pelvis and wants them fast.
        """
        if self._pushes is not None:
            self._pushes.push(self.data)
        if self._latency is None:
            mujoco.mj_step(self.model, self.data, nstep=self.substeps)
        else:
            self._step_late(self._latency)
        if poses:
            mujoco.mj_kinematics(self.model, self.data)
        self._state = None
        if self.noise is not None:
            self._noise_draw = self.noise.draw(self._noise_rng)

    def read(self) -> RobotState:
        """Read joint encoders, motor torques and the pelvis IMU; within one control period the noise is the same."""
        late = None if self._latency is None else self._latency.newest()
        quat, joint_pos, joint_vel, joint_torque, gyro = late or self._measure()
        if self._embodiment.values:
            joint_pos = joint_pos + self._embodiment.values["encoder_offset"]
        state = RobotState(
            time_s=self.data.time,
            joint_pos=joint_pos,
            joint_vel=joint_vel if late is None else joint_vel.copy(),
            joint_torque=joint_torque if late is None else joint_torque.copy(),
            joint_target=self._target.copy(),
            quat_wxyz=quat if late is None else quat.copy(),
            gyro=gyro if late is None else gyro.copy(),
            gravity_b=gravity_in_body(quat),
        )
        state = state if self.noise is None else self.noise.add(state, self._noise_draw)
        state = state if not self.joint_map.lacking.size else self.joint_map.cleared_state(state)
        self._state = rounded(state) if self._rounds else state
        return self._state

    def sense(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return a copy of each named sensor's newest frame; a frame is taken when its period has passed.

        The IMU's gyro errs by what `read` adds to it, and is as late.
        """
        gyro_error = None if self.noise is None else self.noise.gyro_error(self._noise_draw)
        return self._frames.sense(names, self.data, gyro_error)

    def sensor(self, name: str) -> Sensor:
        """The sensor object itself, for example to give the microphone a source."""
        return self._frames.sensor(name)

    def object_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) m and quaternion (4,) wxyz of a body, else of a site, in the world frame."""
        return self._places.pose(name)

    def position(self, name: str) -> tuple[float, float, float]:
        """The position half of `object_pose`, x, y, z m, in plain floats: ten times as fast."""
        return self._places.position(name)

    def place_object(self, name: str, pos_w: np.ndarray, quat_wxyz: np.ndarray | None = None) -> None:
        """Put a mocap body, or a body with a free joint and then at rest, at a world pose; None keeps its orientation.

        Raises ValueError for a body that is neither, and for the robot, which `reset` puts in its place.
        """
        self._places.put(name, pos_w, quat_wxyz)

    def apply_fault(self, fault: Fault | Iterable[Fault] | None) -> None:
        """Break something, or several things at once, in place of what was broken; None heals all.

        A fault holds from the next control period on and outlives resets, as broken hardware does.

        Raises:
            ValueError: something that is no fault, or of a sensor or joint that this robot does not have.
        """
        located = self._embodiment.located
        faults = tuple(located(one, self.joint_map.spread(self._joint_pos)) for one in as_faults(fault))
        for name in lost_sensors(faults):
            self._frames.sensor(name)  # refuses a name that is none
        self._embodiment.become(self._embodiment.values, faults)
        self._frames.lost = lost_sensors(faults)
        self._follow_latency()

    @property
    def lost_sensors(self) -> frozenset[str]:
        """Names of the sensors that give zeros."""
        return self._frames.lost

    @property
    def _noisy(self) -> bool:
        return self._own_noise is not None or (self.randomization is not None and self.randomization.noise is not None)

    @property
    def randomized(self) -> dict[str, Any]:
        """What this episode's `reset` drew, by name: plain floats, and an array where there is one per joint."""
        return as_info(self._embodiment.values)

    @property
    def reads_true(self) -> bool:
        """Whether `read` is the truth of this instant: no noise, no latency, no encoder off."""
        return self.noise is None and self._latency is None and not self._embodiment.values

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is broken now."""
        return self._embodiment.faults

    def twin(self) -> "SimRobot":
        """Another robot of the same scene and settings, nominal and healthy, without compiling the scene again."""
        return SimRobot(
            self._embodiment.nominal_model(),
            self._frames.configs,
            self.model.opt.timestep,
            self.dt,
            self._settle_steps * self.dt,
            self._own_noise,
            self.randomization,
            self._rounds,
        )

    def get_state(self) -> dict[str, Any]:
        """Physics, walker, sensors, body, faults, noise and the last command: all that the future depends on."""
        physics = np.empty(mujoco.mj_stateSize(self.model, _STATE_SPEC))
        mujoco.mj_getState(self.model, self.data, physics, _STATE_SPEC)
        return {
            "physics": physics,
            "actuator_force": self.data.actuator_force.copy(),
            "target": self._target.copy(),
            "gains": (self._embodiment.kp.copy(), self._embodiment.kd.copy()),
            "fault": self._embodiment.faults,
            "values": self._embodiment.values,
            "latency": None if self._latency is None else self._latency.get_state(),
            "pushes": None if self._pushes is None else self._pushes.get_state(),
            "walker": self.walker.get_state(),
            "order": self._order,
            "age": self._age,
            "noise": None if not self._noisy else (self._noise_rng.bit_generator.state, self._noise_draw),
            "frames": self._frames.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`. Derived body poses are recomputed; the solver's warm start is part of it.

        Raises ValueError for the state of a robot with sensor noise if this one has none, and the other way round.
        """
        if (state["noise"] is None) == self._noisy:
            raise ValueError("The saved robot and this one must both have sensor noise, or neither. Build both alike.")
        mujoco.mj_setState(self.model, self.data, state["physics"], _STATE_SPEC)
        mujoco.mj_kinematics(self.model, self.data)
        self.data.actuator_force[:] = state["actuator_force"]
        self._target = state["target"].copy()
        self._state = None
        self._embodiment.kp, self._embodiment.kd = (_kept(gain) for gain in state["gains"])
        self._be(state["values"], state["fault"])
        self._latency, self._pushes = None, None
        if state["latency"] is not None:
            self._latency = Latency(self.substeps, 0, 0, self._target)
            self._latency.set_state(state["latency"])
        self._follow_latency()
        if state["pushes"] is not None:
            self._pushes = Pushes(0.0, 1.0, np.random.default_rng(0))
            self._pushes.set_state(state["pushes"])
        self.walker.set_state(state["walker"])
        self._order, self._age = state["order"], state["age"]
        if self.noise is not None:
            self._noise_rng.bit_generator.state, self._noise_draw = state["noise"]
        self._frames.set_state(state["frames"])

    def close(self) -> None:
        """Free the renderers."""
        self._frames.close()

    def _walk(self, order: Order) -> None:
        target = self.walker.step(self._state or self.read(), *order)
        self.send(single(target) if self._rounds else target)

    def _follow_gains(self, kp: np.ndarray, kd: np.ndarray) -> None:
        body = self._embodiment
        if np.array_equal(kp, body.kp) and np.array_equal(kd, body.kd):
            body.kp, body.kd = _kept(kp), _kept(kd)
        else:
            self._set_gains(kp, kd)

    def _set_gains(self, kp: np.ndarray, kd: np.ndarray) -> None:
        self._embodiment.write_gains(_kept(kp), _kept(kd))

    def _measure(self) -> Reading:
        """Encoders, motors and IMU at this instant, without error."""
        spread = self.joint_map.spread
        moving = spread(self._joint_pos), spread(self._joint_vel), spread(self._torque)
        return Reading(self._pelvis_quat.copy(), *moving, self._gyro.copy())

    def _randomize(self, rng: np.random.Generator) -> None:
        """Draw this episode's robot, from a stream of its own; without randomisation nothing is drawn."""
        if self.randomization is None:
            return
        own = np.random.default_rng(rng.integers(1 << 63))
        values = draw_domain(own, self.randomization)
        self._be(values, self._embodiment.faults)
        self._pushes = None
        if values["push_speed"] > 0.0:
            self._pushes = Pushes(float(values["push_speed"]), float(values["push_interval_s"]), own)

    def _be(self, values: Mapping[str, np.ndarray], faults: tuple[Fault, ...]) -> None:
        """Be the robot of these values and faults: body, motors and the size of the noise."""
        if values or self._embodiment.values or faults or self._embodiment.faults:
            self._embodiment.become(values, faults)
        else:
            self._set_gains(self._embodiment.kp, self._embodiment.kd)
        self._frames.lost = lost_sensors(faults)
        if self.randomization is not None and self.randomization.noise is not None and values:
            self.noise = self.randomization.noise.scaled(float(values["noise_scale"]))

    def _follow_latency(self) -> None:
        """Make delay lines as long as the episode's draw and the faults say; those in use keep what is in them."""
        action_s, sensing_s = self._embodiment.latency_s
        self._frames.added_latency_s = {IMU: sensing_s}
        action, sensing = (round(seconds / self.model.opt.timestep) for seconds in (action_s, sensing_s))
        if self._latency is not None:
            self._latency.action, self._latency.sensing = action, sensing
        elif action or sensing:
            self._latency = Latency(self.substeps, action, sensing, self._target)

    def _step_late(self, latency: Latency) -> None:
        for leg in latency.plan():
            self._ctrl[:] = leg.target[self._kept]
            mujoco.mj_step(self.model, self.data, nstep=leg.steps)
            if leg.look:
                latency.see(self._measure())

    def _hold_command(self) -> RobotCommand:
        mask = np.zeros(joints.NUM_JOINTS, dtype=bool)
        mask[joints.GROUPS["arms"]] = True
        gains = self._embodiment.kp, self._embodiment.kd
        return RobotCommand(joints.HOME, mask, *gains, np.zeros(3), joints.HOME_HEIGHT)


def _kept(array: np.ndarray) -> np.ndarray:
    """The array itself if nobody can write to it, so that the next command's is known by identity; else a copy."""
    return array.copy() if array.flags.writeable else array

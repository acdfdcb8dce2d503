"""SimRobot: the G1 and its world in MuJoCo, behind the same six methods as the robot."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.names import nearest
from neon_sim.robot import RobotCommand, RobotState
from neon_sim.sensors.sensor import Sensor, SensorConfig
from neon_sim.sim.faults import ActuatorFault, write_actuators
from neon_sim.sim.model import build_model
from neon_sim.sim.noise import DRAW_SIZE, SensorNoise
from neon_sim.walker import Walker

_STATE_SPEC = int(mujoco.mjtState.mjSTATE_INTEGRATION)
VELOCITY_LASTS_S: Final = 1.0  # how long one command moves the robot: the vendor's LocoClient.Move stops after 1 s
_NQ = 7 + joints.NUM_JOINTS
_NV = 6 + joints.NUM_JOINTS


class _Object(NamedTuple):
    """Views of where MuJoCo keeps a body's or a site's pose in the world."""

    pos_w: np.ndarray  # (3,) m
    matrix_w: np.ndarray  # (9,)
    quat_wxyz: np.ndarray | None  # (4,); a site has none


class _Order(NamedTuple):
    """What the walker was last told, in copies that nobody else writes to."""

    walk: np.ndarray  # (4,) vx, vy m/s, yaw rate rad/s, height m
    owned_mask: np.ndarray  # (29,) bool
    targets: np.ndarray  # (29,) rad


class SimRobot:
    """Robot and World in one: PD control by native actuators, one `mj_step` call per control period.

    Args:
        spec: the scene; the G1 comes first in it, so that its joints are the first 29.
        sensors: name -> config of every sensor that `sense` may be asked for.
        physics_dt: s, must divide `control_dt`.
        control_dt: s, 0.02 = 50 Hz.
        settle_s: s for which `reset` lets the robot stand in its home pose before an episode begins.
        noise: errors of encoders and IMU in all that `read` returns, and so in all that the walker sees; None = none.
    """

    def __init__(
        self,
        spec: mujoco.MjSpec,
        sensors: Mapping[str, SensorConfig],
        physics_dt: float = 0.002,
        control_dt: float = 0.02,
        settle_s: float = 0.4,
        noise: SensorNoise | None = None,
    ) -> None:
        self.substeps = round(control_dt / physics_dt) if physics_dt > 0.0 else 0
        if self.substeps < 1 or abs(self.substeps * physics_dt - control_dt) > 1e-9:
            raise ValueError(f"physics_dt must divide {control_dt} s (e.g. 0.002 or 0.005), got {physics_dt}.")
        self.dt = control_dt
        self.model = build_model(spec, physics_dt)
        self.data = mujoco.MjData(self.model)
        # Views of MuJoCo's own memory, made once: each `data.qpos` would make a new one.
        self._pelvis_quat, self._joint_pos = self.data.qpos[3:7], self.data.qpos[7:_NQ]
        self._gyro, self._joint_vel = self.data.qvel[3:6], self.data.qvel[6:_NV]
        self._torque, self._ctrl = self.data.actuator_force[: joints.NUM_JOINTS], self.data.ctrl[: joints.NUM_JOINTS]
        self.walker = Walker()
        self.max_velocity = self.walker.max_velocity
        self._sensors: dict[str, Sensor] = {name: config.build(self.model) for name, config in sensors.items()}
        self._frames: dict[str, np.ndarray] = {}
        self._next_capture_s: dict[str, float] = {}
        self._settle_steps = round(settle_s / control_dt)
        self._fault: ActuatorFault | None = None
        self._kp, self._kd = joints.KP, joints.KD
        self._target = joints.HOME.copy()
        self._state: RobotState | None = None  # what was read since the last step
        self._order: _Order | None = None
        self._age = 0  # control periods since the last `write`
        self.noise = noise
        self._noise_rng = np.random.default_rng(0)
        self._noise_draw = np.zeros(DRAW_SIZE)
        self._objects: dict[str, _Object] = {}

    def reset(self, rng: np.random.Generator) -> RobotState:
        """Stand up in the home pose with up to 0.02 rad of joint noise, and let it settle."""
        mujoco.mj_resetData(self.model, self.data)
        self._state, self._order = None, None
        self.data.qpos[2] = joints.HOME_HEIGHT
        self.data.qpos[7:_NQ] = joints.HOME + rng.uniform(-0.02, 0.02, joints.NUM_JOINTS)
        if self.noise is not None:  # without noise nothing is drawn: those episodes stay what they were
            self._noise_rng = np.random.default_rng(rng.integers(1 << 63))
            self._noise_draw = self.noise.draw(self._noise_rng)
        self._target = joints.HOME.copy()
        self._set_gains(joints.KP, joints.KD)
        self.walker.reset()
        mujoco.mj_kinematics(self.model, self.data)
        hold = self._hold_command()
        for _ in range(self._settle_steps):
            self.write(hold)
            self.advance()
        self.data.time = 0.0
        for sensor in self._sensors.values():
            sensor.reset(rng)
        self._frames.clear()
        self._next_capture_s.clear()
        return self.read()

    def write(self, command: RobotCommand) -> RobotCommand:
        """Let the walker fill the joints it owns, hand all 29 targets to the motors, return what was sent."""
        if command.kp is not self._kp or command.kd is not self._kd:
            self._follow_gains(command.kp, command.kd)
        velocity, mask = command.velocity, command.owned_mask
        walk = np.array((velocity[0], velocity[1], velocity[2], command.height))
        self._order, self._age = _Order(walk, _kept(mask), _kept(command.joint_target)), 0
        self._walk(self._order)
        return RobotCommand(self._target, mask, self._kp, self._kd, velocity, command.height)

    def advance(self) -> None:
        """Step the physics for one control period and bring body poses up to date.

        Without a `write` since the last period the robot goes on by itself, as the real one does: the walker keeps the
        last command, and stands still once that is `VELOCITY_LASTS_S` old.
        """
        if self._age > 0 and self._order is not None:
            self._go_on(self._order)
        mujoco.mj_step(self.model, self.data, nstep=self.substeps)
        mujoco.mj_kinematics(self.model, self.data)
        self._state = None
        self._age += 1
        if self.noise is not None:
            self._noise_draw = self.noise.draw(self._noise_rng)

    def read(self) -> RobotState:
        """Read joint encoders, motor torques and the pelvis IMU; within one control period the noise is the same."""
        quat = self._pelvis_quat.copy()
        state = RobotState(
            time_s=self.data.time,
            joint_pos=self._joint_pos.copy(),
            joint_vel=self._joint_vel.copy(),
            joint_torque=self._torque.copy(),
            joint_target=self._target.copy(),
            quat_wxyz=quat,
            gyro=self._gyro.copy(),
            gravity_b=gravity_in_body(quat),
        )
        self._state = state if self.noise is None else self.noise.add(state, self._noise_draw)
        return self._state

    def sense(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return a copy of each named sensor's newest frame; a frame is taken when its period has passed."""
        now_s = self.data.time
        frames = {}
        for name in names:
            if name not in self._sensors:
                raise nearest("sensor", name, self._sensors)
            if now_s >= self._next_capture_s.get(name, -np.inf) - 1e-9:
                self._capture(name, now_s)
            frames[name] = self._frames[name].copy()
        return frames

    def sensor(self, name: str) -> Sensor:
        """The sensor object itself, for example to give the microphone a source."""
        if name not in self._sensors:
            raise nearest("sensor", name, self._sensors)
        return self._sensors[name]

    def object_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) m and quaternion (4,) wxyz of a body, else of a site, in the world frame."""
        found = self._objects.get(name) or self._find_object(name)
        if found.quat_wxyz is not None:
            return found.pos_w.copy(), found.quat_wxyz.copy()
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, found.matrix_w)
        return found.pos_w.copy(), quat

    def position(self, name: str) -> tuple[float, float, float]:
        """The position half of `object_pose`, x, y, z m, in plain floats: ten times as fast."""
        x, y, z = (self._objects.get(name) or self._find_object(name)).pos_w.tolist()
        return x, y, z

    def place_object(self, name: str, pos_w: np.ndarray, quat_wxyz: np.ndarray | None = None) -> None:
        """Put a mocap body, or a body with a free joint and then at rest, at a world pose; None keeps its orientation.

        Raises ValueError for a body that is neither, and for the robot, which `reset` puts in its place.
        """
        body = self.model.body(name)
        mocap, joint = int(body.mocapid[0]), int(body.jntadr[0])
        if mocap >= 0:
            self.data.mocap_pos[mocap] = pos_w
            if quat_wxyz is not None:
                self.data.mocap_quat[mocap] = quat_wxyz
        elif joint > 0 and int(self.model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_FREE):  # joint 0 is the robot's
            pose, vel = int(self.model.jnt_qposadr[joint]), int(self.model.jnt_dofadr[joint])
            self.data.qpos[pose : pose + 3], self.data.qvel[vel : vel + 6] = pos_w, 0.0
            if quat_wxyz is not None:
                self.data.qpos[pose + 3 : pose + 7] = quat_wxyz
        else:
            raise ValueError(f"Body {name!r} is neither a mocap body nor a free one; only those can be placed.")
        mujoco.mj_kinematics(self.model, self.data)

    def apply_fault(self, fault: ActuatorFault | None) -> None:
        """Break one motor (or heal all with None). A fault outlives resets, as broken hardware does."""
        self._fault = fault
        write_actuators(self.model, self._kp, self._kd, joints.EFFORT, fault)

    def get_state(self) -> dict[str, Any]:
        """Physics, walker, sensors, noise, fault, gains and the last command: all that the future depends on."""
        physics = np.empty(mujoco.mj_stateSize(self.model, _STATE_SPEC))
        mujoco.mj_getState(self.model, self.data, physics, _STATE_SPEC)
        return {
            "physics": physics,
            "actuator_force": self.data.actuator_force.copy(),
            "target": self._target.copy(),
            "gains": (self._kp.copy(), self._kd.copy()),
            "fault": self._fault,
            "walker": self.walker.get_state(),
            "order": self._order,
            "age": self._age,
            "noise": None if self.noise is None else (self._noise_rng.bit_generator.state, self._noise_draw),
            "sensors": {name: sensor.get_state() for name, sensor in self._sensors.items()},
            "frames": {name: frame.copy() for name, frame in self._frames.items()},
            "next_capture_s": dict(self._next_capture_s),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`. Derived body poses are recomputed; the solver's warm start is part of it.

        Raises ValueError for the state of a robot with sensor noise if this one has none, and the other way round.
        """
        if (state["noise"] is None) != (self.noise is None):
            raise ValueError("The saved robot and this one must both have sensor noise, or neither. Build both alike.")
        mujoco.mj_setState(self.model, self.data, state["physics"], _STATE_SPEC)
        mujoco.mj_kinematics(self.model, self.data)
        self.data.actuator_force[:] = state["actuator_force"]
        self._target = state["target"].copy()
        self._state = None
        self._fault = state["fault"]
        self._set_gains(*state["gains"])
        self.walker.set_state(state["walker"])
        self._order, self._age = state["order"], state["age"]
        if self.noise is not None:
            self._noise_rng.bit_generator.state, self._noise_draw = state["noise"]
        for name, sensor in self._sensors.items():
            sensor.set_state(state["sensors"][name])
        self._frames = {name: frame.copy() for name, frame in state["frames"].items()}
        self._next_capture_s = dict(state["next_capture_s"])

    def close(self) -> None:
        """Free the renderers."""
        for sensor in self._sensors.values():
            sensor.close()

    def _walk(self, order: _Order) -> None:
        self._target = self.walker.step(self._state or self.read(), *order)
        self._ctrl[:] = self._target

    def _go_on(self, order: _Order) -> None:
        if self._age * self.dt >= VELOCITY_LASTS_S - 1e-9:
            order = order._replace(walk=order.walk * (0.0, 0.0, 0.0, 1.0))
        self._walk(order)

    def _find_object(self, name: str) -> "_Object":
        data = self.data
        body = mujoco.mj_name2id(self.model, int(mujoco.mjtObj.mjOBJ_BODY), name)
        if body >= 0:
            found = _Object(data.xpos[body], data.xmat[body], data.xquat[body])
        else:
            site = mujoco.mj_name2id(self.model, int(mujoco.mjtObj.mjOBJ_SITE), name)
            if site < 0:
                raise nearest("object", name, [self.model.body(i).name for i in range(self.model.nbody)])
            found = _Object(data.site_xpos[site], data.site_xmat[site], None)
        self._objects[name] = found
        return found

    def _capture(self, name: str, now_s: float) -> None:
        sensor = self._sensors[name]
        self._frames[name] = sensor.capture(self.data, now_s)
        # The schedule is kept, not restarted, so that 30 Hz on a 50 Hz clock is 30 Hz on average.
        due_s = self._next_capture_s.get(name, now_s)
        self._next_capture_s[name] = max(due_s, now_s - 1.0 / sensor.rate_hz) + 1.0 / sensor.rate_hz

    def _follow_gains(self, kp: np.ndarray, kd: np.ndarray) -> None:
        if np.array_equal(kp, self._kp) and np.array_equal(kd, self._kd):
            self._kp, self._kd = _kept(kp), _kept(kd)
        else:
            self._set_gains(kp, kd)

    def _set_gains(self, kp: np.ndarray, kd: np.ndarray) -> None:
        self._kp, self._kd = _kept(kp), _kept(kd)
        write_actuators(self.model, self._kp, self._kd, joints.EFFORT, self._fault)

    def _hold_command(self) -> RobotCommand:
        mask = np.zeros(joints.NUM_JOINTS, dtype=bool)
        mask[joints.GROUPS["arms"]] = True
        return RobotCommand(joints.HOME, mask, self._kp, self._kd, np.zeros(3), joints.HOME_HEIGHT)


def _kept(array: np.ndarray) -> np.ndarray:
    """The array itself if nobody can write to it, so that the next command's is known by identity; else a copy."""
    return array.copy() if array.flags.writeable else array

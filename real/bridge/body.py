"""The machine behind the bridge: physics in ticks of 2 ms, 29 motors, an IMU, and a gantry to hang it from."""

from typing import Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.real.bridge.config import TICK_S, BridgeConfig
from neon_sim.real.bridge.motors import Motors
from neon_sim.robot import RobotState
from neon_sim.sim.model import build_spec
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.tasks import make_task

_GANTRY: Final = "gantry"
_STIFF: Final = [0.005, 1.0]  # s, damping ratio; MuJoCo's default of 0.02 s lets 33 kg sag until the feet touch
_NUM: Final = joints.NUM_JOINTS


class Body:
    """A G1 that stands in its home pose, as `SimRobot.reset` leaves it, and then does what its motors are told."""

    def __init__(self, config: BridgeConfig) -> None:
        task = make_task(config.task)
        spec = build_spec()
        task.edit_scene(spec)
        if config.gantry:
            hook = spec.add_equality(name=_GANTRY, type=mujoco.mjtEq.mjEQ_WELD, name1="pelvis", name2="world")
            hook.objtype, hook.active = mujoco.mjtObj.mjOBJ_BODY, True
            hook.data[:3], hook.solref = 0.0, _STIFF  # at the pelvis's own origin; MjSpec's default is 1 m beside it
        rng = np.random.default_rng(config.seed)
        self.robot = SimRobot(spec, {}, config.physics_dt, settle_s=config.settle_s)
        task.reset(self.robot.reset(rng), self.robot, rng)
        self.model, self.data = self.robot.model, self.robot.data
        self.ticks = 0
        self._substeps = config.substeps
        self._gantry = config.gantry
        self._driven: Motors | None = None
        data = self.data
        # Views of MuJoCo's own memory, made once. Sensors hold what they read at the beginning of the last tick.
        self.pelvis_pos, self.pelvis_vel = data.qpos[:3], data.qvel[:3]  # m; m/s, world frame
        self.pelvis_quat, self.gyro = data.qpos[3:7], data.qvel[3:6]  # wxyz; rad/s, pelvis frame
        self.joint_pos, self.joint_vel = data.qpos[7 : 7 + _NUM], data.qvel[6 : 6 + _NUM]  # rad, rad/s
        self.joint_acceleration = data.qacc[6 : 6 + _NUM]  # rad/s^2
        self.joint_torque = data.actuator_force[:_NUM]  # N m
        self.pelvis_acceleration = self._sensor("imu-pelvis-linear-acceleration")  # (3,) m/s^2
        self.torso_gyro = self._sensor("imu-torso-angular-velocity")  # (3,) rad/s
        self.torso_acceleration = self._sensor("imu-torso-linear-acceleration")  # (3,) m/s^2
        self.torso_imu_matrix = data.site("imu_in_torso").xmat  # (9,) to the world
        self._ctrl = data.ctrl[:_NUM]
        self._gain, self._bias = self.model.actuator_gainprm[:_NUM, 0], self.model.actuator_biasprm[:_NUM, :3].T

    @property
    def time_s(self) -> float:
        """Simulated time since the start."""
        return self.ticks * TICK_S

    @property
    def hangs(self) -> bool:
        """True while the gantry holds the pelvis."""
        return self._gantry and bool(self.data.eq_active[self.model.equality(_GANTRY).id])

    def hang(self, holds: bool) -> None:
        """Let the robot down (False), or take it up again to where it hung.

        Raises:
            ValueError: this robot has no gantry.
        """
        if not self._gantry:
            raise ValueError("There is no gantry here. Start the bridge with gantry=True (--gantry).")
        self.data.eq_active[self.model.equality(_GANTRY).id] = holds

    def drive(self, motors: Motors) -> None:
        """Tell the motors what to do from now on.

        It is MuJoCo's own affine actuator, so that with dq and tau zero it is `SimRobot`'s PD control to the bit.
        """
        if motors is self._driven:
            return
        bias = self._bias
        self._gain[:] = motors.kp
        bias[0] = motors.kd * motors.dq + motors.tau
        np.negative(motors.kp, out=bias[1])
        np.negative(motors.kd, out=bias[2])
        self._ctrl[:] = motors.q
        self._driven = motors

    def tick(self) -> None:
        """Let 2 ms pass."""
        mujoco.mj_step(self.model, self.data, nstep=self._substeps)
        self.ticks += 1

    def settle_poses(self) -> None:
        """Bring the poses of bodies and sites up to date with the joints."""
        mujoco.mj_kinematics(self.model, self.data)

    def state(self) -> RobotState:
        """What the robot's own programs sense: encoders, motor torques and the pelvis IMU."""
        quat = self.pelvis_quat.copy()
        return RobotState(
            time_s=self.time_s,
            joint_pos=self.joint_pos.copy(),
            joint_vel=self.joint_vel.copy(),
            joint_torque=self.joint_torque.copy(),
            joint_target=self.data.ctrl[:_NUM].copy(),
            quat_wxyz=quat,
            gyro=self.gyro.copy(),
            gravity_b=gravity_in_body(quat),
        )

    def close(self) -> None:
        """Free what the simulation holds."""
        self.robot.close()

    def _sensor(self, name: str) -> np.ndarray:
        sensor = self.model.sensor(name)
        return self.data.sensordata[sensor.adr[0] : sensor.adr[0] + sensor.dim[0]]

"""Futures of one running episode, tried side by side: rows of physics and walkers, without senses and rewards."""

import copy
from typing import TYPE_CHECKING, Final

import mujoco
import numpy as np
from mujoco.batch import Batch

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.g1.kinematics import limb_poses
from neon_sim.safety import SafetyLimits, limit
from neon_sim.sim.divergence import started_over
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.vector_env.senses import eef_rows, proprio_rows
from neon_sim.vector_env.walker import SensedRows, WalkerBatch

if TYPE_CHECKING:
    from neon_sim.env import NeonG1Env

_STATE_SPEC: Final = int(mujoco.mjtState.mjSTATE_INTEGRATION)
_NO_SENSORS: Final = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)


class Forks:
    """N robots that begin where the robot of an env is; the env does not notice.

    They move as it would by the same actions, but for rounding in the walkers, which contacts amplify.

    Args:
        env: a running episode, of a robot that `forkable` accepts.
        count: N.
        threads: that step the physics.

    Attributes:
        fallen: (N,) bool, whose episode would have ended by a fall or by physics that diverged, now or before.
        sensed: what each robot senses about itself now.

    Raises:
        ValueError: for a robot that `forkable` refuses.
    """

    def __init__(self, env: "NeonG1Env", count: int, threads: int = 1) -> None:
        robot = env.robot
        if not isinstance(robot, SimRobot) or not forkable(robot):
            raise ValueError("Only a simulated robot with all joints and that reads the truth has forks.")
        self._model, self._config, self._map = copy.copy(robot.model), env.config, env.action_map
        self._model.opt.disableflags |= _NO_SENSORS
        self._limits, self._dt, self._substeps = SafetyLimits(env.config.safety), robot.dt, robot.substeps
        self._fall_cosine = float(np.cos(env.config.fall_tilt))
        self._batch = Batch(self._model, count, threads)
        mujoco.mj_getState(robot.model, robot.data, self._batch.state[0], _STATE_SPEC)
        self._batch.state[1:] = self._batch.state[0]
        self._qpos, self._qvel, self._time = (self._batch.bind(name) for name in ("qpos", "qvel", "time"))
        self._ctrl, self._force = self._batch.bind("ctrl"), self._batch.bind("actuator_force")
        self._walkers = WalkerBatch(count, robot.walker.weights, self._map.owned_mask)
        self._walkers.load(slice(None), robot.walker.get_state())
        self._rows = np.arange(count)
        self._target = np.tile(robot.read().joint_target, (count, 1))
        self._velocity = np.tile(env.get_state()["velocity"], (count, 1))
        self.fallen = np.zeros(count, dtype=bool)
        self.sensed = self._look(np.tile(robot.data.actuator_force, (count, 1)))  # not known here before a step

    def step(self, actions: np.ndarray) -> None:
        """One control period of all; actions (N, A) in [-1, 1]."""
        target, velocity = self._map.decode(actions)
        mask, before_s = self._map.owned_mask, self._time.copy()
        target, self._velocity, _ = limit(target, self._target, mask, velocity, self._limits, self._dt)
        height = np.full((len(self._rows), 1), self._config.height)
        walk = np.concatenate([self._velocity, height], axis=1)
        self._target = self._walkers.step(self._rows, self.sensed, walk, target)
        self._ctrl[:, : joints.NUM_JOINTS] = self._target
        self._batch.step(nstep=self._substeps)
        self.sensed = self._look(self._force)
        self.fallen |= -self.sensed.gravity_b[:, 2] < self._fall_cosine
        self.fallen |= self._qpos[:, 2] < self._config.fall_height
        self.fallen |= started_over(before_s, self._time, self._dt)

    def proprio(self) -> np.ndarray:
        """(N, 125) float32, `obs["proprio"]` of each."""
        return proprio_rows(self.sensed, self._velocity)

    def eef(self) -> np.ndarray:
        """(N, 14) float32, `obs["eef"]` of each."""
        return eef_rows(self.sensed)

    def pose(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (N, 3) m and quaternion (N, 4) wxyz of a body with a free joint in the world; "pelvis" is one."""
        first = self._model.jnt_qposadr[self._model.body(body).jntadr[0]]
        return self._qpos[:, first : first + 3].copy(), self._qpos[:, first + 3 : first + 7].copy()

    def _look(self, force: np.ndarray) -> SensedRows:
        count = joints.NUM_JOINTS
        joint_pos, quat = self._qpos[:, 7 : 7 + count].copy(), self._qpos[:, 3:7].copy()
        return SensedRows(
            joint_pos=joint_pos,
            joint_vel=self._qvel[:, 6 : 6 + count].copy(),
            joint_torque=force[:, :count].copy(),
            joint_target=self._target,
            quat_wxyz=quat,
            gyro=self._qvel[:, 3:6].copy(),
            gravity_b=gravity_in_body(quat),
            limb_poses=limb_poses(joint_pos),
        )


def forkable(robot: object) -> bool:
    """Whether model and state are all that a robot's motion depends on, and its joints are the G1's 29."""
    return isinstance(robot, SimRobot) and robot.reads_true and not robot.joint_map.lacking.size

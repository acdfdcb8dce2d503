"""Physics of many robots in one call of `mujoco.batch`: no loop over robots, threads of MuJoCo's own.

It moves a robot as the robot's own `mj_step` does, solver warm start included, to the bit (`mujoco.rollout` keeps no
warm start). Each thread has one set of buffers, which stays in its cache; those of 64 robots push each other out.
"""

from collections.abc import Sequence
from typing import Final

import mujoco
import numpy as np
from mujoco.batch import Batch

from neon_sim.g1 import joints
from neon_sim.sim.sim_robot import SimRobot

_STATE_SPEC: Final = int(mujoco.mjtState.mjSTATE_INTEGRATION)
# MuJoCo's own sensors are up to a twentieth of a step, and nobody reads them while the state is here: encoders, motors
# and the pelvis IMU are read off the state.
_NO_SENSORS: Final = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
_NQ: Final = 7 + joints.NUM_JOINTS
_NV: Final = 6 + joints.NUM_JOINTS


class PhysicsBatch:
    """N robots' states, each of them newest either here or in the robot's own `data`.

    Args:
        robots: all of one scene, each with a model of its own. Those that are stepped here have no delay lines and no
            pushes, so that model and state are all that their motion depends on.
        threads: that step them, the caller's included.

    Attributes:
        states: N rows of MuJoCo's mjSTATE_INTEGRATION.
        pos: (N, 36) m, quat_wxyz, rad, and vel: (N, 35); torque: (N, 29) N m; time_s: (N,). Views of what is held here.
        held: (N,) bool, whose newest state is here.
    """

    def __init__(self, robots: Sequence[SimRobot], threads: int) -> None:
        self._robots, self._substeps = robots, robots[0].substeps
        self._batch = Batch(robots[0].model, len(robots), threads)
        self._batch.set_models([robot.model for robot in robots])
        self.states = list(self._batch.state)
        self._ctrl = self._batch.bind("ctrl")[:, : joints.NUM_JOINTS]
        self.pos, self.vel = self._batch.bind("qpos")[:, :_NQ], self._batch.bind("qvel")[:, :_NV]
        self.torque, self.time_s = self._batch.bind("actuator_force")[:, : joints.NUM_JOINTS], self._batch.bind("time")
        self.held = np.zeros(len(robots), dtype=bool)

    def step(self, rows: np.ndarray, targets: np.ndarray) -> None:
        """One control period of the robots `rows` (R,), which are held afterwards; targets (R, 29) rad."""
        for row in rows[~self.held[rows]].tolist():
            robot = self._robots[row]
            mujoco.mj_getState(robot.model, robot.data, self.states[row], _STATE_SPEC)
            robot.model.opt.disableflags |= _NO_SENSORS
        all_of_them = len(rows) == len(self.held)
        self._ctrl[slice(None) if all_of_them else rows] = targets
        self._batch.step(None if all_of_them else rows, nstep=self._substeps)
        self.held[rows] = True

    def release(self, row: int) -> None:
        """Bring a held robot's own data up to date, as if it had stepped itself; the next step takes it from there.

        Contacts and the poses of bodies are not part of it: `mj_kinematics` makes the latter.
        """
        robot = self._robots[row]
        mujoco.mj_setState(robot.model, robot.data, self.states[row], _STATE_SPEC)
        robot.data.actuator_force[: joints.NUM_JOINTS] = self.torque[row]
        self.drop(row)

    def drop(self, row: int) -> None:
        """A robot's own data is newer than what is held here, if anything is."""
        self._robots[row].model.opt.disableflags &= ~_NO_SENSORS
        self.held[row] = False

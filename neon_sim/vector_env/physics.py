"""Physics of many robots in one call of `mujoco.batch`: no loop over robots, threads of MuJoCo's own.

It moves a robot as the robot's own `mj_step` does, solver warm start included, to the bit (`mujoco.rollout` keeps no
warm start). Each thread has one set of buffers, which stays in its cache; those of 64 robots push each other out. So
do 64 equal models (0.2 MB each): robots whose models are equal to the byte are stepped on one and the same.
"""

import copy
from collections.abc import Sequence
from typing import Final

import mujoco
import numpy as np
from mujoco.batch import Batch

from neon_sim.g1 import joints
from neon_sim.sim.joint_map import JointMap
from neon_sim.sim.sim_robot import SimRobot

_STATE_SPEC: Final = int(mujoco.mjtState.mjSTATE_INTEGRATION)
# MuJoCo's own sensors are up to a twentieth of a step, and nobody reads them while the state is here: encoders, motors
# and the pelvis IMU are read off the state.
_NO_SENSORS: Final = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
_NUM: Final = joints.NUM_JOINTS


class PhysicsBatch:
    """N robots' states, each of them newest either here or in the robot's own `data`.

    Args:
        robots: all of one scene and one variant, each with a model of its own. Those that are stepped here have no
            delay lines and no pushes, so that model and state are all that their motion depends on.
        threads: that step them, the caller's included.
        lent: (N,) bool, looked at in every step: whose robot somebody else holds, who may change its model at any time.
            Those are stepped on models of their own.

    Attributes:
        models: N, that the robots were last stepped on.
        states: N rows of MuJoCo's mjSTATE_INTEGRATION.
        pos: (N, 36) m, quat_wxyz, rad, and vel: (N, 35); torque: (N, 29) N m; time_s: (N,). What is held here, with
            zeros for joints that the robots lack.
        held: (N,) bool, whose newest state is here.
    """

    def __init__(self, robots: Sequence[SimRobot], threads: int, lent: np.ndarray) -> None:
        self._robots, self._substeps, self._lent = robots, robots[0].substeps, lent
        self._batch = Batch(robots[0].model, len(robots), threads)
        self.models = [robot.model for robot in robots]
        self._batch.set_models(self.models)
        self._shared: tuple[mujoco.MjModel, np.ndarray] | None = None  # the common model, and as bytes
        self.states = list(self._batch.state)
        self._joints = robots[0].joint_map
        own = self._joints.count
        self._ctrl, self.time_s = self._batch.bind("ctrl")[:, :own], self._batch.bind("time")
        self._own = tuple(
            self._batch.bind(name)[:, : before + own]
            for name, before in (("qpos", 7), ("qvel", 6), ("actuator_force", 0))
        )
        # With all joints there, what MuJoCo keeps is what is asked for; else it is spread out after each step.
        shapes = [(len(robots), part.shape[1] + len(self._joints.lacking)) for part in self._own]
        whole = self._own if own == _NUM else tuple(np.zeros(shape) for shape in shapes)
        self.pos, self.vel, self.torque = whole
        self.held = np.zeros(len(robots), dtype=bool)

    def step(self, rows: np.ndarray, targets: np.ndarray) -> None:
        """One control period of the robots `rows` (R,), which are held afterwards; targets (R, 29) rad."""
        self._hold(rows[~self.held[rows]])
        all_of_them = len(rows) == len(self.held)
        self._ctrl[slice(None) if all_of_them else rows] = targets[:, self._joints.kept]
        self._batch.step(None if all_of_them else rows, nstep=self._substeps)
        if self._joints.count < _NUM:
            self._spread()
        self.held[rows] = True

    def release(self, row: int) -> None:
        """Bring a held robot's own data up to date, as if it had stepped itself; the next step takes it from there.

        Contacts and the poses of bodies are not part of it: `mj_kinematics` makes the latter.
        """
        robot = self._robots[row]
        mujoco.mj_setState(robot.model, robot.data, self.states[row], _STATE_SPEC)
        robot.data.actuator_force[: self._joints.count] = self._own[2][row]
        self.drop(row)

    def drop(self, row: int) -> None:
        """A robot's own data is newer than what is held here, if anything is."""
        self._robots[row].model.opt.disableflags &= ~_NO_SENSORS
        self.held[row] = False

    def _hold(self, rows: np.ndarray) -> None:
        """Take over where robots are, and what is to be stepped of each: the common model if its own is equal to it."""
        if len(rows) == 0:
            return
        models = list(self.models)
        for row in rows.tolist():
            robot = self._robots[row]
            mujoco.mj_getState(robot.model, robot.data, self.states[row], _STATE_SPEC)
            is_its_own = self._lent[row] or robot.randomization is not None
            models[row] = robot.model if is_its_own else self._common(robot.model)
            robot.model.opt.disableflags |= _NO_SENSORS
        if any(new is not old for new, old in zip(models, self.models, strict=True)):
            self.models = models
            self._batch.set_models(models)

    def _common(self, model: mujoco.MjModel) -> mujoco.MjModel:
        """The model that equal ones share, made of the first one asked about; or the model itself."""
        written = np.empty(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, written)
        if self._shared is None:
            shared = copy.copy(model)
            shared.opt.disableflags |= _NO_SENSORS
            self._shared = shared, written
        shared, pattern = self._shared
        return shared if np.array_equal(written, pattern) else model

    def _spread(self) -> None:
        for whole, before, part in zip((self.pos, self.vel, self.torque), (7, 6, 0), self._own, strict=True):
            whole[:, columns_of(self._joints, before)] = part


def columns_of(joint_map: JointMap, before: int) -> slice | np.ndarray:
    """Where a robot's own numbers belong in an array that has `before` others and then 29 in hardware order."""
    if isinstance(joint_map.kept, slice):
        return slice(None)
    return np.concatenate([np.arange(before), before + joint_map.kept])

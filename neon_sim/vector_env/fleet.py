"""Many simulated robots: their physics on threads, and what they sense and truly do as rows of arrays.

Each robot keeps its own model and data, solver warm start included, and so moves as it does alone, to the bit: that is
why the threads call `mj_step` (which lets go of the interpreter) and not `mujoco.rollout`, which keeps no warm start.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.g1.kinematics import limb_poses
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.vector_env.walker import SensedRows, WalkerBatch

_NQ: Final = 7 + joints.NUM_JOINTS
_NV: Final = 6 + joints.NUM_JOINTS


class Fleet:
    """N robots in one clock.

    Args:
        robots: all of one scene.
        owned_mask: (29,) bool; True = the caller commands the joint, the walker the others.
        threads: how many of them step physics.
        poses: whether bodies' poses are brought up to date after each step, for whoever asks where things are.
        exact: whether each robot is walked by its own walker: slower, and equal to a robot alone to the bit.

    Attributes:
        pos: (N, 36) m, quat_wxyz, rad: where pelvis and joints truly are. vel: (N, 35).
        time_s: (N,)
        sensed: what the robots sense, and true: whether that is where they are, in all of them.
    """

    sensed: SensedRows
    true: bool

    def __init__(
        self, robots: Sequence[SimRobot], owned_mask: np.ndarray, threads: int, poses: bool, exact: bool
    ) -> None:
        self.robots, count = tuple(robots), len(robots)
        self._walkers = None if exact else WalkerBatch(count, robots[0].walker.weights, owned_mask)
        self._owned_mask = owned_mask
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._threads, self._poses = threads, poses
        self._views = [(r.data.qpos[:_NQ], r.data.qvel[:_NV], r.data.actuator_force[:29]) for r in robots]
        self.pos, self.vel = np.zeros((count, _NQ)), np.zeros((count, _NV))
        self._torque, self.target = np.zeros((count, 29)), np.zeros((count, 29))
        self.time_s = np.zeros(count)

    def begin(self, row: int) -> None:
        """One robot has been reset by its own hands: take over where it is."""
        robot = self.robots[row]
        if self._walkers is not None:
            self._walkers.load(row, robot.walker.get_state())
        self.target[row] = robot.read().joint_target
        self._take(row)

    def hand_back(self, row: int) -> SimRobot:
        """The robot, knowing all that it would know if it had been stepped alone, and able to be."""
        robot = self.robots[row]
        if self._walkers is not None:
            robot.walker.set_state(self._walkers.state_of(row))
        return robot

    def step(self, rows: np.ndarray, external: np.ndarray, walk: np.ndarray) -> None:
        """One control period of some robots; call `look` before the next one.

        Args:
            rows: (R,) which, rising.
            external: (R, 29) rad, targets of the joints that the caller commands.
            walk: (R, 4) vx, vy m/s, yaw rate rad/s, pelvis height m.
        """
        self.target[rows] = targets = self._walk(rows, external, walk)
        for row, target in zip(rows.tolist(), targets, strict=True):
            self.robots[row].send(target)
        if self._pool is None:
            self._simulate(rows.tolist())
        else:
            parts = np.array_split(rows, self._threads)
            list(self._pool.map(self._simulate, [part.tolist() for part in parts]))

    def look(self) -> None:
        """Make `sensed` what is sensed now."""
        measured: dict[str, np.ndarray] = {
            "joint_pos": self.pos[:, 7:].copy(),
            "joint_vel": self.vel[:, 6:].copy(),
            "joint_torque": self._torque.copy(),
            "quat_wxyz": self.pos[:, 3:7].copy(),
            "gyro": self.vel[:, 3:6].copy(),
        }
        measured["gravity_b"] = gravity_in_body(measured["quat_wxyz"])
        wrong = [row for row, robot in enumerate(self.robots) if not robot.reads_true]
        for row in wrong:
            state = self.robots[row].read()
            for name, array in measured.items():
                array[row] = getattr(state, name)
        self.true = not wrong
        poses = limb_poses(measured["joint_pos"])
        self.sensed = SensedRows(joint_target=self.target.copy(), limb_poses=poses, **measured)

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _walk(self, rows: np.ndarray, external: np.ndarray, walk: np.ndarray) -> np.ndarray:
        """Joint targets (R, 29) rad."""
        if self._walkers is not None:
            return self._walkers.step(rows, self.sensed.of(rows), walk, external)
        mask, robots = self._owned_mask, [self.robots[row] for row in rows.tolist()]
        orders = zip(robots, walk, external, strict=True)
        return np.stack([robot.walker.step(robot.read(), to, mask, given) for robot, to, given in orders])

    def _simulate(self, rows: Sequence[int]) -> None:
        for row in rows:
            self.robots[row].simulate(self._poses)
            self._take(row)

    def _take(self, row: int) -> None:
        self.pos[row], self.vel[row], self._torque[row] = self._views[row]
        self.time_s[row] = self.robots[row].data.time


def infos_of(masks: dict[str, Any], rows: np.ndarray, count: int) -> dict[str, Any]:
    """Gymnasium's vector infos: each array (N, ...) beside a mask `_name` (N,) of the envs that it is of."""
    stepped = np.zeros(count, dtype=bool)
    stepped[rows] = True
    infos: dict[str, Any] = {}
    for name, value in masks.items():
        infos[name] = infos_of(value, rows, count) if isinstance(value, dict) else value
        infos[f"_{name}"] = stepped.copy()
    return infos

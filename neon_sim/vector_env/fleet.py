"""Many simulated robots: their physics on threads, and what they sense and truly do as rows of arrays.

Each robot keeps its own model and state, solver warm start included, and so moves as it does alone, to the bit. Those
that sense the truth at once go through `PhysicsBatch`; those with delays, noise or pushes step themselves on threads.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.g1.kinematics import limb_poses
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.vector_env.physics import PhysicsBatch, columns_of
from neon_sim.vector_env.walker import SensedRows, WalkerBatch

_NUM: Final = joints.NUM_JOINTS
_NQ: Final = 7 + joints.NUM_JOINTS
_NV: Final = 6 + joints.NUM_JOINTS


class Fleet:
    """N robots in one clock.

    Args:
        robots: all of one scene and one variant.
        owned_mask: (29,) bool; True = the caller commands the joint, the walker the others.
        threads: how many of them step physics.
        poses: whether bodies' poses are brought up to date after each step, for whoever asks where things are.
        exact: whether each robot is walked by its own walker: slower, and equal to a robot alone to the bit.

    Attributes:
        watched: whether robots' own data is brought up to date after each step, and read before the next one; else
            only `hand_back` does.
        physics: what steps those that are plain; None = each steps itself.
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
        self._first_limb = 2 if owned_mask.all() or exact else 0  # only walkers ask where legs are
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._threads, self._poses = threads, poses
        # Whose robot somebody else holds, who may break it between two steps: those are looked at in every one.
        self._lent = np.full(count, poses or exact)
        self.physics = None if poses or exact else PhysicsBatch(self.robots, threads, self._lent)
        self.watched = False
        self._plain = np.ones(count, dtype=bool)  # who may go through `_physics`: what it senses is the truth
        self._lacking = robots[0].joint_map.lacking
        self._parts = [columns_of(robots[0].joint_map, before) for before in (7, 6, 0)]
        own = robots[0].joint_map.count
        self._views = [(r.data.qpos[: 7 + own], r.data.qvel[: 6 + own], r.data.actuator_force[:own]) for r in robots]
        self.pos, self.vel = np.zeros((count, _NQ)), np.zeros((count, _NV))
        self._torque, self.target = np.zeros((count, _NUM)), np.zeros((count, _NUM))
        self.time_s = np.zeros(count)

    def begin(self, row: int) -> None:
        """One robot has been reset by its own hands: take over where it is."""
        robot = self.robots[row]
        if self.physics is not None:
            self.physics.drop(row)
        self._plain[row] = robot.reads_true
        if self._walkers is not None:
            self._walkers.load(row, robot.walker.get_state())
        self.target[row] = robot.read().joint_target
        self._take(row)

    def hand_back(self, row: int) -> SimRobot:
        """The robot, knowing all that it would know if it had been stepped alone, and able to be."""
        robot = self.robots[row]
        self._lent[row] = True
        self._release(np.array([row]))
        if self._walkers is not None:
            robot.walker.set_state(self._walkers.state_of(row))
        return robot

    def release_all(self) -> None:
        """Bring the data of all robots up to date."""
        self._release(np.arange(len(self.robots)))

    def watch(self) -> None:
        """Keep it so from now on, after each step."""
        self.release_all()
        self.watched = True
        self._lent[:] = True

    def step(self, rows: np.ndarray, external: np.ndarray, walk: np.ndarray) -> None:
        """One control period of some robots; call `look` before the next one.

        Args:
            rows: (R,) which, rising.
            external: (R, 29) rad, targets of the joints that the caller commands.
            walk: (R, 4) vx, vy m/s, yaw rate rad/s, pelvis height m.
        """
        targets = self._walk(rows, external, walk)
        targets[:, self._lacking] = 0.0
        for row in np.flatnonzero(self._lent).tolist():
            self._plain[row] = self.robots[row].reads_true
        if self.physics is not None:
            plain = self._plain[rows]
            self._step_together(self.physics, rows[plain], targets[plain])
            rows, targets = rows[~plain], targets[~plain]
        if len(rows):
            self._step_each(rows, targets)

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
        wrong = np.flatnonzero(~self._plain).tolist()
        for row in wrong:
            state = self.robots[row].read()
            for name, array in measured.items():
                array[row] = getattr(state, name)
        self.true = not wrong
        poses = limb_poses(measured["joint_pos"], first=self._first_limb)
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

    def _step_together(self, physics: PhysicsBatch, rows: np.ndarray, targets: np.ndarray) -> None:
        """Step robots that are plain, and let go of those that no longer are."""
        for row in np.flatnonzero(physics.held & ~self._plain).tolist():
            physics.release(row)
        if len(rows) == 0:
            return
        physics.step(rows, targets)
        every = slice(None) if len(rows) == len(self.robots) else rows
        self.target[every], self.time_s[every] = targets, physics.time_s[every]
        self.pos[every], self.vel[every] = physics.pos[every], physics.vel[every]
        self._torque[every] = physics.torque[every]
        if self.watched:
            self._release(rows)

    def _release(self, rows: np.ndarray) -> None:
        """Let robots know where they are and what their motors were told last."""
        if self.physics is None:
            return
        for row in rows[self.physics.held[rows]].tolist():
            self.physics.release(row)
            self.robots[row].send(self.target[row].copy())

    def _step_each(self, rows: np.ndarray, targets: np.ndarray) -> None:
        """Let robots step themselves, on threads."""
        self.target[rows] = targets
        for row, target in zip(rows.tolist(), targets, strict=True):
            self.robots[row].send(target)
        if self._pool is None:
            self._simulate(rows.tolist())
        else:
            parts = np.array_split(rows, self._threads)
            list(self._pool.map(self._simulate, [part.tolist() for part in parts]))

    def _simulate(self, rows: Sequence[int]) -> None:
        for row in rows:
            self.robots[row].simulate(self._poses)
            self._take(row)

    def _take(self, row: int) -> None:
        for whole, columns, part in zip((self.pos, self.vel, self._torque), self._parts, self._views[row], strict=True):
            whole[row, columns] = part
        self.time_s[row] = self.robots[row].data.time

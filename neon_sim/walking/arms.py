"""What arms do while the legs walk, and waists that are not the walker's: they go anywhere, at any speed."""

from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.locomotion.stepper import CONTROL_DT, OWN

ARMS: Final = slice(15, 29)
_WAIST: Final = slice(12, 15)
_FREE: Final = slice(12, 29)  # what is moved here
_WAIST_REACH: Final = (0.6, 0.15, 0.25)  # rad of yaw, roll and pitch to either side
_WAIST_PACE: Final = 0.4  # of the arms' speed


class Arms:
    """Arms and waists of B robots, one row each; attributes are arrays, and all of its state.

    Attributes:
        targets: (B, 29) rad, where waist and arms are sent now; the legs' columns mean nothing.
        goal, speed: (B, 29) rad and rad/s, where the targets go.
        until: (B,) s to the next goal.
        owns_waist: (B,) 1.0 where the waist is the walker's, else 0.0.
    """

    def __init__(self, count: int) -> None:
        self.targets = np.tile(joints.HOME, (count, 1))
        self.goal = np.tile(joints.HOME, (count, 1))
        self.speed = np.ones((count, joints.NUM_JOINTS))
        self.until = np.zeros(count)
        self.owns_waist = np.ones(count)

    def reset(self, rows: np.ndarray, joint_pos: np.ndarray, free_waist: float, rng: np.random.Generator) -> None:
        """Some robots begin at `joint_pos` (R, 29); a share of `free_waist` of them moves its waist by itself."""
        self.targets[rows] = self.goal[rows] = joint_pos
        self.owns_waist[rows] = rng.random(len(rows)) < free_waist
        self.until[rows] = 0.0

    def advance(self, most_speed: float, rng: np.random.Generator) -> None:
        """20 ms later: new goals at up to `most_speed` rad/s for those who have been long enough at theirs."""
        self.until -= CONTROL_DT
        rows = np.flatnonzero(self.until <= 0.0)
        if len(rows):
            self._choose(rows, most_speed, rng)
        reach = self.speed[:, _FREE] * CONTROL_DT
        self.targets[:, _FREE] += np.clip(self.goal[:, _FREE] - self.targets[:, _FREE], -reach, reach)

    def beside(self, own: np.ndarray) -> np.ndarray:
        """Targets (B, 29) of whole robots whose walker wants `own` (B, 15)."""
        targets = self.targets.copy()
        targets[:, OWN] = own
        targets[:, _WAIST] = np.where(self.owns_waist[:, None] > 0.0, own[:, _WAIST], self.targets[:, _WAIST])
        return targets

    def _choose(self, rows: np.ndarray, most_speed: float, rng: np.random.Generator) -> None:
        count, size = len(rows), joints.NUM_JOINTS
        goal = rng.uniform(0.9 * joints.LOWER, 0.9 * joints.UPPER, (count, size))
        goal[:, _WAIST] = rng.uniform(-1.0, 1.0, (count, 3)) * _WAIST_REACH
        near = joints.HOME + rng.normal(0.0, 0.3, (count, size))
        goal[:, ARMS] = np.where(rng.random((count, 1)) < 0.3, near[:, ARMS], goal[:, ARMS])
        self.goal[rows] = np.clip(goal, joints.LOWER, joints.UPPER)
        speed = rng.uniform(0.3, 1.0, (count, size)) * most_speed
        speed[:, _WAIST] *= _WAIST_PACE
        self.speed[rows] = speed
        self.until[rows] = rng.uniform(0.5, 3.0, count)

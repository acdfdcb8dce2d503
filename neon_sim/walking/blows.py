"""What is done to the robots: pushes, which jolt the whole body, and punches, a force on one link for 0.08 s."""

from typing import Final

import numpy as np

from neon_sim.locomotion.stepper import CONTROL_DT
from neon_sim.sim.batch import JOINT_BODIES

PUNCH_STEPS: Final = 4  # control steps, 0.08 s
_LONG_AGO: Final = 9.0  # s


class Blows:
    """Pushes and punches of B robots, one row each; attributes are arrays, and all of its state.

    Attributes:
        until_push, until_punch: (B,) s to the next one.
        since_punch: (B,) s from the last one's beginning.
        steps_left: (B,) control steps that a punch still acts, the present one included.
        body: (B,) index into `JOINT_BODIES` of where it lands.
        force_w: (B, 3) N.
    """

    def __init__(self, count: int) -> None:
        self.until_push = np.zeros(count)
        self.until_punch = np.zeros(count)
        self.since_punch = np.full(count, _LONG_AGO)
        self.steps_left = np.zeros(count, dtype=np.intp)
        self.body = np.zeros(count, dtype=np.intp)
        self.force_w = np.zeros((count, 3))

    def reset(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        """Some robots begin: nothing is done to them for a second at least."""
        self.until_push[rows] = rng.uniform(1.0, 6.0, len(rows))
        self.until_punch[rows] = rng.uniform(1.0, 4.0, len(rows))
        self.since_punch[rows], self.steps_left[rows] = _LONG_AGO, 0

    def push(self, most: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Who is pushed in this step (R,), and by how much (R, 2) m/s, at most `most` along each axis."""
        self.until_push -= CONTROL_DT
        rows = np.flatnonzero(self.until_push <= 0.0)
        velocity = rng.uniform(-most, most, (len(rows), 2))
        self.until_push[rows] = rng.uniform(2.0, 6.0, len(rows))
        return rows, velocity

    def punch(self, most: float, allowed: np.ndarray, rng: np.random.Generator) -> int:
        """20 ms later: `steps_left` says on whom a punch acts now. Returns how many began.

        Args:
            most: N; each punch is 0.4 to 1 of it. 0 = nobody is punched, and nobody's time runs.
            allowed: (B,) bool, who may be.
            rng: draws size, direction and body.
        """
        self.since_punch += CONTROL_DT
        self.steps_left = np.maximum(self.steps_left - 1, 0)
        if most <= 0.0:
            return 0
        self.until_punch -= CONTROL_DT
        rows = np.flatnonzero((self.until_punch <= 0.0) & allowed)
        count = len(rows)
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        self.force_w[rows] = direction * (most * rng.uniform(0.4, 1.0, count))[:, None]
        self.body[rows] = rng.integers(len(JOINT_BODIES), size=count)
        self.steps_left[rows], self.since_punch[rows] = PUNCH_STEPS, 0.0
        self.until_punch[rows] = rng.uniform(1.2, 4.5, count)
        return count

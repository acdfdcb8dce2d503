"""What is done to the robots: pushes, which jolt the whole body, and punches, a force on one link for 0.08 s."""

from typing import Final

import numpy as np

from neon_sim.locomotion.stepper import CONTROL_DT
from neon_sim.sim.batch import JOINT_BODIES

PUNCH_STEPS: Final = 4  # control steps, 0.08 s
_LONG_AGO: Final = 9.0  # s


class Blows:
    """Pushes and punches of B robots, one row each; attributes are arrays, and all of its state.

    Each blow is drawn when the one before it is over, not when it lands: the critic may know what is coming, and what
    is known beforehand makes no noise in the advantages (an input-dependent baseline, Mao et al. 2019).

    Attributes:
        until_push, until_punch: (B,) s to the next one.
        since_punch: (B,) s from the last one's beginning.
        steps_left: (B,) control steps that a punch still acts, the present one included.
        body: (B,) index into `JOINT_BODIES` of where the punch that acts, or else the next one, lands.
        share_w: (B, 3) its force in units of the ceiling.
        push_w: (B, 2) the next push in units of the hardest.
        force_w: (B, 3) N, of the punch that acts or was last.
    """

    def __init__(self, count: int) -> None:
        self.until_push = np.zeros(count)
        self.until_punch = np.zeros(count)
        self.since_punch = np.full(count, _LONG_AGO)
        self.steps_left = np.zeros(count, dtype=np.intp)
        self.body = np.zeros(count, dtype=np.intp)
        self.share_w = np.zeros((count, 3))
        self.push_w = np.zeros((count, 2))
        self.force_w = np.zeros((count, 3))

    def reset(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        """Some robots begin: nothing is done to them for a second at least."""
        self.until_push[rows] = rng.uniform(1.0, 6.0, len(rows))
        self.until_punch[rows] = rng.uniform(1.0, 4.0, len(rows))
        self.since_punch[rows], self.steps_left[rows] = _LONG_AGO, 0
        self.push_w[rows] = rng.uniform(-1.0, 1.0, (len(rows), 2))
        self._draw_punch(rows, rng)

    def push(self, most: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Who is pushed in this step (R,), and by how much (R, 2) m/s, at most `most` along each axis."""
        self.until_push -= CONTROL_DT
        rows = np.flatnonzero(self.until_push <= 0.0)
        velocity = most * self.push_w[rows]
        self.push_w[rows] = rng.uniform(-1.0, 1.0, (len(rows), 2))
        self.until_push[rows] = rng.uniform(2.0, 6.0, len(rows))
        return rows, velocity

    def punch(self, most: np.ndarray, allowed: np.ndarray, rng: np.random.Generator) -> int:
        """20 ms later: `steps_left` says on whom a punch acts now. Returns how many began.

        Args:
            most: (B,) N, each robot's ceiling; each punch is 0.4 to 1 of it. Where all are 0 nobody's time runs.
            allowed: (B,) bool, who may be.
            rng: draws size, direction and body of the punches after these.
        """
        self.since_punch += CONTROL_DT
        self._draw_punch(np.flatnonzero(self.steps_left == 1), rng)
        self.steps_left = np.maximum(self.steps_left - 1, 0)
        if most.max() <= 0.0:
            return 0
        self.until_punch -= CONTROL_DT
        rows = np.flatnonzero((self.until_punch <= 0.0) & allowed)
        self.force_w[rows] = self.share_w[rows] * most[rows, None]
        self.steps_left[rows], self.since_punch[rows] = PUNCH_STEPS, 0.0
        self.until_punch[rows] = rng.uniform(1.2, 4.5, len(rows))
        return len(rows)

    def _draw_punch(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        count = len(rows)
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        self.share_w[rows] = direction * rng.uniform(0.4, 1.0, count)[:, None]
        self.body[rows] = rng.integers(len(JOINT_BODIES), size=count)

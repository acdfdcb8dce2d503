"""Who is told to go where: half of the robots hear velocities, the others are steered towards waypoints."""

from typing import Final

import numpy as np

from neon_sim.locomotion.posture import HEIGHT_RANGE
from neon_sim.locomotion.stepper import CONTROL_DT
from neon_sim.sim.batch import Truth

Speed = tuple[float, float, float, float]  # `Difficulty.speed`

_WAYPOINT_REACH: Final = 0.7  # m from the world's origin, where robots begin, each axis
_WAYPOINT_SPEED: Final = 0.5  # m/s at most on the way
_DISTANCE_GAIN, _TURN_GAIN = 1.2, 1.5  # 1/s
_THERE: Final = (0.05, 0.06)  # m and rad at which a waypoint is reached


class Orders:
    """What B robots are told, one row each; attributes are arrays, and all of its state.

    Attributes:
        command: (B, 4) vx, vy m/s, yaw rate rad/s, pelvis height m.
        waypoint: (B, 3) m, m, rad in the world: where those who follow waypoints go.
        follows: (B,) bool, who does.
        until: (B,) s to the next order.
    """

    def __init__(self, count: int) -> None:
        self.command = np.zeros((count, 4))
        self.waypoint = np.zeros((count, 3))
        self.follows = np.arange(count) % 4 >= 2
        self.until = np.zeros(count)

    def reset(self, rows: np.ndarray, pose: np.ndarray, height: np.ndarray, rng: np.random.Generator) -> None:
        """Some robots begin: they are to stay at `pose` (R, 3) m, m, rad and `height` (R,) m for a moment."""
        self.command[rows] = 0.0
        self.command[rows, 3] = height
        self.waypoint[rows] = pose
        self.until[rows] = rng.uniform(0.0, 1.5, len(rows))

    def advance(self, truth: Truth, speed: Speed, standing: float, rng: np.random.Generator) -> None:
        """20 ms later: new orders for those whose time has come, and steering.

        Args:
            truth: where everybody is.
            speed: the range that commands are drawn from.
            standing: share of commands that say: stand.
            rng: draws them.
        """
        self.until -= CONTROL_DT
        rows = np.flatnonzero(self.until <= 0.0)
        if len(rows):
            self._order(rows, speed, standing, rng)
        self._steer(truth, speed)

    def _order(self, rows: np.ndarray, speed: Speed, standing: float, rng: np.random.Generator) -> None:
        count = len(rows)
        back, forward, side, turn = speed
        ranges = ((back, forward), (-side, side), (-turn, turn))
        command = np.stack([rng.uniform(low, high, count) for low, high in ranges], axis=1)
        single = rng.random(count) < 0.4  # along or about one axis only
        keep = np.eye(3)[rng.integers(3, size=count)]
        command = np.where(single[:, None], command * keep, command)
        command[rng.random(count) < standing] = 0.0
        self.command[rows, :3] = command
        change = rng.random(count) < 0.5
        self.command[rows, 3] = np.where(change, rng.uniform(*HEIGHT_RANGE, count), self.command[rows, 3])
        self.waypoint[rows, :2] = rng.uniform(-_WAYPOINT_REACH, _WAYPOINT_REACH, (count, 2))
        self.waypoint[rows, 2] = rng.uniform(-np.pi, np.pi, count)
        self.until[rows] = rng.uniform(3.0, 7.0, count)

    def _steer(self, truth: Truth, speed: Speed) -> None:
        follow = self.follows
        cos, sin = (part[follow] for part in truth.heading)
        offset = self.waypoint[follow, :2] - truth.pos_w[follow, :2]
        ahead = np.stack([cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]], axis=1)
        turn = _wrapped(self.waypoint[follow, 2] - np.arctan2(sin, cos))
        distance = np.linalg.norm(ahead, axis=1)
        _, forward, _, most_turn = speed
        most_turn = min(most_turn, 1.0)
        pace = np.minimum(_DISTANCE_GAIN * distance, min(_WAYPOINT_SPEED, forward))
        wanted = np.empty((len(turn), 3))
        wanted[:, :2] = ahead * (pace / np.maximum(distance, 1e-6))[:, None]
        wanted[:, 2] = np.clip(_TURN_GAIN * turn, -most_turn, most_turn)
        wanted[(distance < _THERE[0]) & (np.abs(turn) < _THERE[1])] = 0.0
        self.command[follow, :3] = wanted


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2.0 * np.pi) - np.pi

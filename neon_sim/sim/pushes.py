"""Pushes: the whole robot is jolted sideways every few seconds, as legged_gym trains."""

import math
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np


class Pushes:
    """One push every `interval_s`, of one size and in any horizontal direction; the first after one interval.

    Args:
        speed: m/s added to the velocity of the pelvis.
        interval_s: s between two pushes.
        rng: draws the directions.

    Raises:
        ValueError: a speed that is negative, or an interval that is not positive.
    """

    def __init__(self, speed: float, interval_s: float, rng: np.random.Generator) -> None:
        if not speed >= 0.0 or not interval_s > 0.0:
            raise ValueError(f"Pushes want speed >= 0 m/s and interval_s > 0 s, got {speed} and {interval_s}.")
        self.speed, self.interval_s, self._rng = speed, interval_s, rng
        self._count = 0  # pushes so far

    def due(self, now_s: float) -> np.ndarray | None:
        """The velocity (2,) m/s, world frame, of the push that has become due by `now_s`; None if there is none."""
        if now_s < (self._count + 1) * self.interval_s - 1e-9:
            return None
        self._count += 1
        heading = float(self._rng.uniform(-math.pi, math.pi))
        return self.speed * np.array((math.cos(heading), math.sin(heading)))

    def push(self, data: mujoco.MjData) -> None:
        """Jolt the robot, which comes first in the data, if a push has become due by now."""
        velocity = self.due(data.time)
        if velocity is not None:
            data.qvel[:2] += velocity

    def get_state(self) -> dict[str, Any]:
        """Everything that later pushes depend on."""
        return {
            "speed": self.speed,
            "interval_s": self.interval_s,
            "count": self._count,
            "rng": self._rng.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned."""
        self.speed, self.interval_s, self._count = state["speed"], state["interval_s"], state["count"]
        self._rng.bit_generator.state = state["rng"]

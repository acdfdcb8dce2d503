"""ActionChunks: one step of this env is a chunk of actions, for policies that think in chunks."""

from numbers import Integral
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class ActionChunks(gymnasium.Wrapper[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray], np.ndarray]):
    """Actions are (length, A), carried out one after the other; the rewards are summed.

    The last observation and info are returned, with `info["steps"]`, how many of the chunk's actions were carried out:
    fewer than `length` when the episode ended on the way.

    Args:
        env: with a Box action space of one action.
        length: of a chunk; 16 is NeonVLA's.

    Raises:
        ValueError: a length below 1.
    """

    def __init__(self, env: gymnasium.Env[dict[str, np.ndarray], np.ndarray], length: int = 16) -> None:
        super().__init__(env)
        if not isinstance(length, Integral) or length < 1:
            raise ValueError(f"A chunk has at least 1 action, a whole number of them, got length={length!r}.")
        self.length = length
        one: Any = env.action_space
        self.action_space = spaces.Box(
            np.tile(one.low, (length, 1)), np.tile(one.high, (length, 1)), (length, *one.shape), one.dtype
        )

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Carry out a chunk (length, A).

        Raises:
            ValueError: another shape.
        """
        if np.shape(action) != self.action_space.shape:
            raise ValueError(f"Step with a chunk of shape {self.action_space.shape}, got {np.shape(action)}.")
        total, steps = 0.0, 0
        for one in action:
            obs, reward, terminated, truncated, info = self.env.step(one)
            total, steps = total + float(reward), steps + 1
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, {**info, "steps": steps}

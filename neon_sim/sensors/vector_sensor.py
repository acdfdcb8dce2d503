"""What senses of a few numbers share: white noise, a bias that lasts an episode, limits, and a saved state."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np


def vector_space(limit: np.ndarray) -> gymnasium.spaces.Box:
    """(N,) float32 between -limit and limit."""
    limit = limit.astype(np.float32)
    return gymnasium.spaces.Box(-limit, limit, dtype=np.float32)


class VectorSensor(ABC):
    """A sense of N numbers; what is special about one is its `measure`.

    Args:
        rate_hz: frames per second of simulated time.
        limit: (N,) largest size of each entry; what is beyond it reads as the limit.
        noise: (N,) 1 sigma, anew in every frame; all zero = nothing is drawn.
        bias: (N,) 1 sigma of a constant that is drawn once per episode; None = none.
    """

    def __init__(self, rate_hz: float, limit: np.ndarray, noise: np.ndarray, bias: np.ndarray | None = None) -> None:
        self._rate_hz, self._lowest, self._highest, self._noise = rate_hz, -limit, limit, noise
        self._bias_spread = np.zeros_like(noise) if bias is None else bias
        self._bias = np.zeros(len(noise))
        self._is_noisy = bool(noise.any() or self._bias_spread.any())
        self._rng = np.random.default_rng(0)

    @abstractmethod
    def measure(self, data: mujoco.MjData) -> np.ndarray:
        """The truth (N,), a fresh array."""

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self._rate_hz

    def reset(self, rng: np.random.Generator) -> None:
        """Draw this episode's bias and noise stream; without them nothing is taken from `rng`."""
        if self._is_noisy:
            self._rng = np.random.default_rng(rng.integers(1 << 63))
            self._bias = self._bias_spread * self._rng.standard_normal(len(self._noise))

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """(N,) float32: the truth, with its errors, within the limits."""
        value = self.measure(data)
        if self._is_noisy:
            value += self._bias + self._noise * self._rng.standard_normal(len(value))
        np.maximum(value, self._lowest, out=value)
        return np.minimum(value, self._highest, out=value).astype(np.float32)

    def get_state(self) -> dict[str, Any]:
        """Bias and noise stream."""
        return {"bias": self._bias.copy(), "rng": self._rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        self._bias = state["bias"].copy()
        self._rng.bit_generator.state = state["rng"]

    def close(self) -> None:  # noqa: B027 (nothing to do is the right default, not a gap)
        """Nothing to free."""

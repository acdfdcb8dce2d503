"""FlatObservation: the vectors of the observation as one, for plain RL."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from neon_sim.names import nearest


class FlatObservation(gymnasium.ObservationWrapper[np.ndarray, np.ndarray, dict[str, np.ndarray]]):
    """One float32 vector out of some keys, in the order in which they are named.

    Args:
        env: with a one-level Dict observation.
        keys: to take; each must be a vector of floats. With the sensor "state" name it too, and nothing is hidden.

    Raises:
        ValueError: a key that is not observed, or that is no float vector.
    """

    def __init__(
        self, env: gymnasium.Env[dict[str, np.ndarray], np.ndarray], keys: tuple[str, ...] = ("proprio", "eef")
    ) -> None:
        super().__init__(env)
        observed: Any = env.observation_space
        boxes = []
        if not keys:
            raise ValueError(f"FlatObservation joins at least one key of {', '.join(observed.spaces)}; got none.")
        for key in keys:
            if key not in observed.spaces:
                raise nearest("observation key", key, observed.spaces)
            box = observed[key]
            if len(box.shape) != 1 or box.dtype != np.float32:
                raise ValueError(f"FlatObservation joins float32 vectors; {key!r} is {box}. Leave it out of keys.")
            boxes.append(box)
        self._keys = keys
        low, high = (np.concatenate([getattr(box, end) for box in boxes]) for end in ("low", "high"))
        self.observation_space = spaces.Box(low, high, dtype=np.float32)

    def observation(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """(sum of the keys' lengths,) float32."""
        return np.concatenate([observation[key] for key in self._keys])

"""Policies that know everything or nothing: what a trained one is compared with."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

STEPS = 16


class ExpertPolicy:
    """The task's scripted solution; it reads the simulation's truth."""

    def __init__(self, env: Any) -> None:
        self.env = env

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Nothing to forget."""

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """It looks at the truth instead."""

    def act(self) -> np.ndarray:
        """(1, 16, A)."""
        return self.env.expert_chunk(STEPS)[None]


class RandomPolicy(ExpertPolicy):
    """Uniform targets, each held for a chunk; seeded by the episode, whichever process plays it."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._rng: np.random.Generator | None = None

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the stream of the episode before."""
        self._rng = None

    def act(self) -> np.ndarray:
        """(1, 16, A)."""
        if self._rng is None:
            self._rng = np.random.default_rng(self.env.np_random_seed)
        action = self._rng.uniform(-1.0, 1.0, self.env.action_map.dim)
        return np.tile(action, (1, STEPS, 1))


class ZeroPolicy(ExpertPolicy):
    """Action 0: the home pose."""

    def act(self) -> np.ndarray:
        """(1, 16, A)."""
        return np.zeros((1, STEPS, self.env.action_map.dim))


REFERENCES: dict[str, Callable[[Any], ExpertPolicy]] = {
    "expert": ExpertPolicy,
    "random": RandomPolicy,
    "zero": ZeroPolicy,
}

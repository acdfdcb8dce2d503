"""A policy whose answers are timed."""

import time
from collections.abc import Mapping

import numpy as np

from neon_sim.inference.neon_policy import NeonPolicy


class Timed:
    """A policy, and how long each of its answers took in CPU time of this process, eyes included.

    Attributes:
        answers_ms: of the answers since the last reset.
    """

    def __init__(self, policy: NeonPolicy) -> None:
        self.policy = policy
        self.answers_ms: list[float] = []

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Pass on, and begin a new list."""
        self.policy.reset(env_ids)
        self.answers_ms = []

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Pass on."""
        self.policy.observe(obs, now_s)

    def act(self) -> np.ndarray:
        """Pass on, with a watch."""
        began = time.process_time()
        chunk = self.policy.act()
        self.answers_ms.append(1e3 * (time.process_time() - began))
        return chunk

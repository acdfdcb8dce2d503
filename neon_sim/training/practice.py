"""A policy that practises beside what it was asked for, so that it has something to learn from."""

import numpy as np
import torch
from torch import Tensor

from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.goal import HANDS, make_goal
from neon_sim.model.neon_vla import NeonVLA


class PractisingPolicy(NeonPolicy):
    """A NeonPolicy that, while it learns, moves each episode's goals by one random offset (goal babbling)."""

    def __init__(self, model: NeonVLA, noise_m: float, rng: np.random.Generator) -> None:
        super().__init__(model)
        self.noise_m, self.rng = noise_m, rng
        self.offset = torch.zeros(1, 5)

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the clip and draw a new offset."""
        super().reset(env_ids)
        offset = self.rng.normal(0.0, self.noise_m, 3) if self.noise_m > 0 else np.zeros(3)
        self.offset = make_goal(torch.zeros(1, dtype=torch.int64), torch.from_numpy(offset)[None].float())
        self.offset[:, :HANDS] = 0.0

    def choose_goal(self, goal: Tensor) -> Tensor:
        """The read goal plus this episode's offset."""
        return goal + self.offset

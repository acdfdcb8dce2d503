"""A policy that practises beside what it was asked for, so that it has something to learn from."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neon_sim.g1.kinematics import palm_poses
from neon_sim.inference.neon_policies import NeonPolicies
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.goal import GOAL_SCALE_M, HANDS, make_goal
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

    @property
    def offset_m(self) -> np.ndarray:
        """(3,) m, pelvis frame: how far beside the ball this episode's goal is."""
        return self.offset[0, HANDS:].numpy() * GOAL_SCALE_M


class PractisingPolicies(NeonPolicies):
    """A PractisingPolicy for each of N robots; they draw their offsets one after the other."""

    policies: tuple[PractisingPolicy, ...]

    def __init__(self, model: NeonVLA, noise_m: float, rng: np.random.Generator, robots: int) -> None:
        super().__init__([PractisingPolicy(model, noise_m, rng) for _ in range(robots)])
        self.rng = rng


def missed_by(env: Any, policy: PractisingPolicy) -> float:
    """m from the palm to where it was sent: the ball, moved by what was practised. Simulation only, for the record."""
    truth = env.privileged()
    palm_b = palm_poses(env.robot.read().joint_pos)[0][truth["hand"]]
    return float(np.linalg.norm(palm_b - truth["target_pos_b"] - policy.offset_m))

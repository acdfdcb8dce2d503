"""NeonPolicies: one NeonPolicy for each robot of a NeonG1VectorEnv, all on one network, which is asked once for all."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from neon_sim.inference.neon_policy import Decision, NeonPolicy
from neon_sim.model.video_backbone import BackboneFeatures


class NeonPolicies:
    """Robots that see, hear and remember apart, and think in one batch: for `neon_sim.rollout.rollout`.

    Args:
        policies: one for each robot, in the order of the rows.

    Raises:
        ValueError: none, more than one network among them, or one with a guide, a real-time plan or a way to answer of
            its own, which look at one robot.
    """

    def __init__(self, policies: Sequence[NeonPolicy]) -> None:
        if len({id(policy.model) for policy in policies}) != 1:
            raise ValueError("NeonPolicies wants one policy or more, all on the same network.")
        if any(policy.guide is not None or policy.plan is not None for policy in policies):
            raise ValueError("Policies side by side have no guide and no real-time plan: run such a robot by itself.")
        if any(type(policy).decode is not NeonPolicy.decode for policy in policies):
            raise ValueError("Policies side by side answer by their network: run one that routes or plans by itself.")
        self.policies = tuple(policies)
        self.model = self.policies[0].model

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the past of the given robots (all by default)."""
        for row in range(len(self.policies)) if env_ids is None else env_ids:
            self.policies[row].reset()

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float, rows: Iterable[int]) -> None:
        """Show the robots `rows` their rows of an observation (N, ...)."""
        for row in rows:
            self.policies[row].observe({name: value[row] for name, value in obs.items()}, now_s)

    @torch.no_grad()
    def perceive(self, rows: Iterable[int]) -> tuple[BackboneFeatures, dict[str, Tensor]]:
        """Features and senses of the robots `rows`, (len(rows), ...)."""
        clips, words, senses = zip(*(self.policies[row].sense() for row in rows), strict=True)
        joined = {name: torch.cat([sensed[name] for sensed in senses]) for name in senses[0]}
        return self.model.encode(torch.cat(clips), list(words), joined.get("audio")), joined

    @torch.no_grad()
    def act(self, rows: Sequence[int]) -> np.ndarray:
        """Chunks (N, 16, A), those of the robots `rows`; the others' are zero, and they decide nothing.

        Heads that sample draw the noise of all from the first of these robots' generator.
        """
        features, senses = self.perceive(rows)
        asked = [self.policies[row] for row in rows]
        goal = asked[0].layer.goal(features, senses)
        goal = torch.cat([policy.choose_goal(goal[i : i + 1]) for i, policy in enumerate(asked)])
        chunk = asked[0].decode(features, senses, goal)
        for i, policy in enumerate(asked):
            own = {name: value[i : i + 1] for name, value in senses.items()}
            seen = BackboneFeatures(*(part[i : i + 1] for part in (features.tokens, features.pooled, features.text)))
            policy.decision, policy.steps_taken = Decision(seen, own, goal[i : i + 1], chunk[i : i + 1]), 0
        answer = np.zeros((len(self.policies), *chunk.shape[1:]), dtype=np.float32)
        answer[list(rows)] = chunk.cpu().numpy()
        return answer

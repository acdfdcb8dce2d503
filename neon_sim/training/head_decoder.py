"""The part of a policy that learns online, as a module of its own, and what its weights are worth to it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.training.fisher import Fisher, fisher_diagonal, gaussian_nll, sampled_target

ACTION_STD = 0.01  # of the Gaussian that a chunk is the mean of; a normalised Fisher does not depend on it


class HeadDecoder(nn.Module):
    """The part that learns online: goal embedding and action heads, on frozen fused features."""

    def __init__(self, model: NeonVLA) -> None:
        super().__init__()
        self.goal_embed, self.action_head = model.goal_embed, model.action_head

    def forward(self, fused: Tensor, goal: Tensor, state: Tensor | None = None, tokens: Tensor | None = None) -> Tensor:
        """What `NeonVLA.decode` does, on a module of its own: (B, D), (B, 5) -> chunk (B, T, A).

        state (B, A), tokens (B, N, D): where `head_context` gives them.
        """
        told = torch.cat([fused, self.goal_embed(goal)], dim=-1)
        return self.action_head(told, state=state, tokens=tokens, goal=goal)


def head_context(model: NeonVLA, features: BackboneFeatures, senses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the heads look at besides fused features and goal, (B, ...) by name: "state" where they are state-relative,
    "tokens" where they attend to the backbone's; {} for others.
    """
    state = model.action_state(senses) if model.action_head.config.state_relative else None
    context = {} if state is None else {"state": state}
    return context if model.action_head.context is None else context | {"tokens": features.tokens}


def head_fisher(
    decoder: HeadDecoder,
    fused: Tensor,
    goals: Tensor,
    samples: int,
    seed: int,
    context: Mapping[str, Tensor] | None = None,
) -> Fisher:
    """Exact diagonal Fisher of the heads on at most `samples` rows of fused (N, D), goals (N, 5) and their context.

    Targets are drawn from the policy's own Gaussian, so it is the true Fisher and no label is needed. Of a head that
    samples it is the Fisher given the noise that it starts from, and takes one backward pass for each row.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(fused), generator=generator)[:samples]
    given = {"fused": fused, "goal": goals, **(context or {})}
    batch = {name: value[rows] for name, value in given.items()}
    if decoder.action_head.config.head_type != "chunking":
        return _fisher_given_noise(decoder, batch, seed)
    with torch.no_grad():
        batch["target"] = sampled_target(decoder(**batch), ACTION_STD, generator)

    def sample_loss(module: nn.Module, part: Any) -> Tensor:
        return gaussian_nll(module(**{name: part[name] for name in given}), part["target"], ACTION_STD)

    return fisher_diagonal(decoder, sample_loss, batch)


def _fisher_given_noise(decoder: HeadDecoder, batch: dict[str, Tensor], seed: int) -> Fisher:
    """Mean and target of a row must come from the same starting noise, so the target is drawn beside the mean."""

    def sample_loss(module: nn.Module, part: Any) -> Tensor:
        mean = module(**part)
        return gaussian_nll(mean, mean.detach() + ACTION_STD * torch.randn_like(mean), ACTION_STD)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return fisher_diagonal(decoder, sample_loss, batch, method="loop")

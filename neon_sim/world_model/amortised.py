"""A head that answers at once what a planner has to search for: (z, z_goal, steps to go) -> actions.

A 3 x 512 MLP on frozen latents, distilled from CEM, or taught from recorded behaviour with what was reached as the goal
(hindsight, as in GC-IDM, arXiv 2605.08732). A tenth of a millisecond a decision, and a good seed for a planner.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AmortisedConfig:
    """Sizes of the head and of its training."""

    dim: int = 128  # of a latent
    action_dim: int = 10
    plan_steps: int = 5  # actions that it gives at once
    hidden: int = 512
    layers: int = 3
    max_steps: int = 50  # steps to go that it can tell apart: 5 s
    learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    batch: int = 256


class Pairs(NamedTuple):
    """What to imitate, one row each."""

    latents: Tensor  # (N, D)
    goals: Tensor  # (N, D)
    steps: Tensor  # (N,) int64 steps to go, 1 or more
    actions: Tensor  # (N, plan_steps, A)
    weight: Tensor  # (N, plan_steps) 0 where an action is not to be imitated


class AmortisedHead(nn.Module):
    """MLP with GELU; its output is bounded by tanh to the action space's [-1, 1]."""

    def __init__(self, config: AmortisedConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AmortisedConfig()
        widths = [2 * config.dim + 2, *[config.hidden] * config.layers]
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.net = nn.Sequential(*layers, nn.Linear(config.hidden, config.plan_steps * config.action_dim))

    def forward(self, latents: Tensor, goals: Tensor, steps: Tensor) -> Tensor:
        """latents, goals (B, D), steps to go (B,) -> actions (B, plan_steps, A) in [-1, 1].

        More steps than max_steps count as max_steps, fewer than one as one.
        """
        to_go = steps.clamp(1, self.config.max_steps).to(latents).unsqueeze(-1)
        x = torch.cat([latents, goals - latents, to_go / self.config.max_steps, 1.0 / to_go], dim=-1)
        return torch.tanh(self.net(x)).unflatten(-1, (self.config.plan_steps, self.config.action_dim))


def imitation_loss(predicted: Tensor, pairs: Pairs) -> Tensor:
    """Mean squared error of the actions that have weight, divided by how many those are (D16)."""
    error = (predicted - pairs.actions).square().mean(-1) * pairs.weight
    return error.sum() / pairs.weight.sum().clamp(min=1e-6)


def hindsight_pairs(
    latents: Tensor,
    actions: Tensor,
    count: int,
    config: AmortisedConfig,
    generator: torch.Generator,
    lengths: Tensor | None = None,
) -> Pairs:
    """Draw `count` pairs from recorded sequences: what was reached is the goal of what was done.

    latents (S, T, D), actions (S, T - 1, A) between them. The start is uniform, the goal 1 to max_steps later in the
    same sequence; only actions before the goal have weight. lengths (S,): moments of each sequence, what follows is
    padding; None: all of them. Raises ValueError for sequences without a step.
    """
    sequences, length = latents.shape[:2]
    if actions.shape[:2] != (sequences, length - 1) or length < 2:
        raise ValueError(
            f"hindsight_pairs wants latents (S, T >= 2, D) and actions (S, T - 1, A), got {tuple(latents.shape)} and "
            f"{tuple(actions.shape)}."
        )

    if lengths is not None and int(lengths.min()) < 2:
        raise ValueError(f"hindsight_pairs wants two moments or more of each sequence, got one of {lengths.min()}.")
    ends = torch.full((sequences,), length) if lengths is None else lengths
    ends = ends.to(latents.device)

    def draw(low: Tensor | int, high: Tensor | int) -> Tensor:
        share = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64).to(latents.device)
        return (low + share * (high - low)).long()  # low to high - 1: the share is below one in double precision

    row = draw(0, sequences)
    last = ends[row] - 1
    start = draw(0, last)
    steps = draw(1, (last - start).clamp(max=config.max_steps) + 1)
    place = torch.arange(config.plan_steps, device=latents.device)
    within = (start[:, None] + place).clamp(max=length - 2)
    weight = (place < steps[:, None]).to(latents)
    return Pairs(latents[row, start], latents[row, start + steps], steps, actions[row[:, None], within], weight)


def distillation_pairs(latents: Tensor, goals: Tensor, steps: Tensor, plans: Tensor, config: AmortisedConfig) -> Pairs:
    """Pairs that say what a planner chose: latents, goals (N, D), steps (N,), plans (N, H, A), H >= plan_steps."""
    if plans.shape[1] < config.plan_steps:
        raise ValueError(f"The head gives {config.plan_steps} actions, the plans have {plans.shape[1]}. Plan further.")
    weight = latents.new_ones(len(latents), config.plan_steps)
    return Pairs(latents, goals, steps, plans[:, : config.plan_steps], weight)


def fit_amortised(
    head: AmortisedHead,
    draw: Callable[[int], Pairs],
    updates: int,
    on_update: Callable[[int, float], None] | None = None,
) -> float:
    """Train with AdamW on fresh pairs: `draw(batch)` gives them. Returns the mean loss of the last tenth.

    on_update(update, loss) is called after each: a progress bar, a log.
    """
    config = head.config
    optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    losses: list[Tensor] = []  # read at the end: a GPU need not be waited for
    head.train()
    for update in range(updates):
        pairs = draw(config.batch)
        loss = imitation_loss(head(pairs.latents, pairs.goals, pairs.steps), pairs)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if on_update is not None:
            on_update(update, float(losses[-1]))
    head.eval()
    tail = losses[-max(1, updates // 10) :]
    return float(torch.stack(tail).double().mean()) if tail else 0.0

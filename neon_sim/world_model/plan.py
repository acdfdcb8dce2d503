"""What planners speak of: a cost, a box, a plan, and noise to search with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Cost = Callable[[Tensor], Tensor]  # candidates (B, N, H, A) -> what each costs, (B, N); inf: not allowed


@dataclass(frozen=True)
class Box:
    """Limits of the actions, (A,) or (H, A) each; every candidate that a planner asks about lies within."""

    low: Tensor
    high: Tensor

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or not bool((self.low <= self.high).all()):
            raise ValueError(
                f"A box wants low <= high in every entry, got {self.low.tolist()} and {self.high.tolist()}."
            )

    @classmethod
    def unit(cls, actions: int) -> "Box":
        """[-1, 1] for each of `actions` entries, the action space of everything here."""
        return cls(-torch.ones(actions), torch.ones(actions))

    @property
    def half(self) -> Tensor:
        """Half the width: what a planner's sigma is a share of."""
        return 0.5 * (self.high - self.low)

    def clip(self, actions: Tensor) -> Tensor:
        """(..., H, A) -> the nearest within."""
        return torch.minimum(torch.maximum(actions, self.low), self.high)

    def center(self, batch: int, horizon: int) -> Tensor:
        """A start for want of a better one, (B, H, A)."""
        middle = 0.5 * (self.high + self.low)
        return middle.expand(batch, horizon, middle.shape[-1]).clone()


@dataclass(frozen=True)
class Plan:
    """What a planner found."""

    actions: Tensor  # (B, H, A)
    cost: Tensor  # (B,) of these actions, as the cost sees it
    elites: Tensor  # (B, K, H, A) good candidates of the last iteration, best first: seeds for the next replan
    trace: Tensor  # (iterations, B) lowest cost seen so far, after each iteration


def shifted(actions: Tensor, steps: int) -> Tensor:
    """Warm start: (..., H, A) without its first `steps` actions, which were executed, the last one repeated."""
    if steps == 0:
        return actions
    kept = actions[..., steps:, :]
    return torch.cat(
        [kept, actions[..., -1:, :].expand(*actions.shape[:-2], actions.shape[-2] - kept.shape[-2], -1)], -2
    )


def held(cost: Cost, steps: int) -> Cost:
    """The cost of plans whose every action is held for `steps` model steps: a longer horizon in fewer numbers."""
    return lambda candidates: cost(candidates.repeat_interleave(steps, dim=2))


def smoothed(cost: Cost, weight: float, before: Tensor | None = None) -> Cost:
    """The cost, and weight x the squared change from each action to the next: what makes no difference stays as it is.

    before: (B, A) what is done now, so that the first action of a plan is a change as well; None: nothing yet.
    """

    def smooth(candidates: Tensor) -> Tensor:
        changes = candidates.diff(dim=2).square().sum((-1, -2))
        if before is not None:
            changes = changes + (candidates[:, :, 0] - before[:, None].to(candidates)).square().sum(-1)
        return cost(candidates) + weight * changes

    return smooth


def colored_noise(shape: tuple[int, ...], beta: float, generator: torch.Generator) -> Tensor:
    """Unit Gaussian noise (..., H, A) whose power falls with frequency to the `beta` along H; 0 is white.

    The slower the noise, the further a plan gets from where it is: iCEM's point (Pinneri et al. 2020, section 3.1).
    """
    *lead, horizon, actions = shape
    white = torch.randn(*lead, actions, horizon, generator=generator, device=generator.device)
    if beta == 0.0 or horizon == 1:
        return white.transpose(-1, -2)
    frequency = torch.fft.rfftfreq(horizon, device=white.device)
    frequency[0] = frequency[1]  # the constant part is as strong as the slowest wave
    gain = frequency ** (-0.5 * beta)
    times = torch.full_like(
        gain, 2.0
    )  # each wave but the constant (and the fastest of an even H) has a sine and a cosine
    times[0] = 1.0
    if horizon % 2 == 0:
        times[-1] = 1.0
    gain = gain * torch.sqrt(horizon / (times * gain.square()).sum())
    return torch.fft.irfft(torch.fft.rfft(white) * gain, n=horizon).transpose(-1, -2)

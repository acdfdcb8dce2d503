"""Speculative decoding of action chunks: a light head drafts, the heavy head says how far the draft may be used.

What it guarantees depends on who checks.
- The heavy head itself (no `check`): it runs on every row, and no entry of the result is further than the tolerance
  from its chunk. With tolerance 0 the result *is* its chunk. This saves no arithmetic; it lets a robot start on a draft
  while the heavy head still thinks, and measures what the other way would be worth.
- A cheap `check`, such as one denoising step of a head that needs four (`one_step_opinion`): a row whose draft agrees
  with that opinion over the first `min_accepted` steps never runs the heavy head. Then the tolerance bounds the
  distance to the opinion, and how far that is from the heavy head's chunk is a property of the head, to be measured.
  With tolerance 0 the check is not asked and the result is the heavy head's chunk again, to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Head = Callable[[Tensor], Tensor]  # features (B, F) -> chunk (B, T, A)
Check = Callable[[Tensor, Tensor], Tensor]  # features (B, F), draft (B, T, A) -> the heavy head's opinion (B, T, A)


@dataclass(frozen=True)
class SpeculativeConfig:
    """How much a draft may differ.

    tolerance: action units, for every entry of a step; 0 accepts equal numbers only. min_accepted: steps of a draft
    that must be accepted for the heavy head to be spared; as many as will be executed.
    """

    tolerance: float = 0.05
    min_accepted: int = 10

    def __post_init__(self) -> None:
        if not self.tolerance >= 0.0 or self.min_accepted < 1:
            raise ValueError(f"SpeculativeConfig wants tolerance >= 0 and min_accepted >= 1, got {self}.")


@dataclass(frozen=True)
class Speculation:
    """One answer."""

    chunk: Tensor  # (B, T, A)
    accepted: Tensor  # (B,) int64, steps of the draft that are in it
    heavy: Tensor  # (B,) bool, rows for which the heavy head ran


def accepted_prefix(draft: Tensor, verified: Tensor, tolerance: float) -> Tensor:
    """How many steps from the first on agree in every entry: draft, verified (B, T, A) -> (B,) int64 in 0..T.

    Raises ValueError for different shapes.
    """
    if draft.shape != verified.shape:
        raise ValueError(
            f"A draft is checked against a chunk of its own shape, got {tuple(draft.shape)} and "
            f"{tuple(verified.shape)}. Give both heads the same steps and action space."
        )
    agrees = ((draft - verified).abs() <= tolerance).all(-1)
    return agrees.long().cumprod(-1).sum(-1)


def splice(draft: Tensor, rest: Tensor, accepted: Tensor) -> Tensor:
    """The first `accepted` (B,) steps of the draft, then the rest of the other chunk: (B, T, A)."""
    steps = torch.arange(draft.shape[1], device=draft.device)
    return torch.where((steps < accepted[:, None])[..., None], draft, rest)


def one_step_opinion(
    estimate: Callable[[Tensor, Tensor], Tensor], draft: Tensor, noise: Tensor, time: float = 0.5
) -> Tensor:
    """What a denoising head makes of a draft in one step: noise it back to `time` and ask where the chunk is.

    Args:
        estimate: noisy chunk (B, T, A) and time (B,) -> clean chunk (B, T, A); FlowMatchingHead.estimate, conditioned.
        draft, noise: (B, T, A); the noise standard normal.
        time: in [0, 1); 0 shows the head no draft, close to 1 it sees hardly anything but the draft.
    """
    if not 0.0 <= time < 1.0:
        raise ValueError(f"one_step_opinion wants a time in [0, 1), got {time}. At 1 there is nothing left to judge.")
    noisy = (1.0 - time) * noise + time * draft
    return estimate(noisy, draft.new_full((len(draft),), time))


def speculate(
    features: Tensor, draft_head: Head, heavy_head: Head, config: SpeculativeConfig, check: Check | None = None
) -> Speculation:
    """Draft, check, and complete what was not accepted.

    A head that draws noise should have its own generator: then the heavy head's draw does not depend on the draft.

    Args:
        features: (B, F) fused features.
        draft_head: the light head.
        heavy_head: the head whose answer counts.
        config: tolerance and what spares the heavy head.
        check: the heavy head's cheap opinion; None asks the heavy head itself.
    """
    draft = draft_head(features)
    if check is None or config.tolerance == 0.0:
        chunk = heavy_head(features)
        accepted = accepted_prefix(draft, chunk, config.tolerance)
        return Speculation(splice(draft, chunk, accepted), accepted, torch.ones_like(accepted, dtype=torch.bool))
    opinion = check(features, draft)
    accepted = accepted_prefix(draft, opinion, config.tolerance)
    heavy = accepted < min(config.min_accepted, draft.shape[1])
    chunk = splice(draft, opinion, accepted)
    if bool(heavy.any()):
        own = heavy_head(features[heavy])
        again = accepted_prefix(draft[heavy], own, config.tolerance)
        accepted, chunk = accepted.clone(), chunk.clone()
        accepted[heavy], chunk[heavy] = again, splice(draft[heavy], own, again)
    return Speculation(chunk, accepted, heavy)


class AcceptanceStatistics:
    """Counts over many speculations; `histogram[n]` is how many rows had exactly n steps accepted."""

    def __init__(self, num_steps: int = 16) -> None:
        self.histogram = torch.zeros(num_steps + 1, dtype=torch.int64)
        self.heavy_rows = 0

    def add(self, speculation: Speculation) -> None:
        """Count one answer. Raises ValueError for chunks of another length."""
        steps = speculation.chunk.shape[1]
        if steps + 1 != len(self.histogram):
            raise ValueError(f"These statistics are of chunks of {len(self.histogram) - 1} steps, got {steps}.")
        self.histogram += torch.bincount(speculation.accepted.cpu(), minlength=steps + 1)
        self.heavy_rows += int(speculation.heavy.sum())

    @property
    def rows(self) -> int:
        """Chunks counted."""
        return int(self.histogram.sum())

    @property
    def mean_accepted(self) -> float:
        """Steps accepted per chunk; 0 before the first."""
        steps = torch.arange(len(self.histogram))
        return float((steps * self.histogram).sum()) / max(1, self.rows)

    @property
    def heavy_share(self) -> float:
        """Share of chunks for which the heavy head ran; 0 before the first."""
        return self.heavy_rows / max(1, self.rows)

"""What an online learner remembers of a chunk, and batches of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neon_sim.model.goal import goal_position

TENSORS = ("fused", "fused_after", "text", "goal", "executed", "achieved")
CONTEXT = ("state", "tokens")  # what some heads look at besides, see `head_decoder.head_context`


@dataclass
class Experience:
    """One chunk that was carried out. Tensors without a batch axis."""

    fused: Tensor  # (D,) before
    fused_after: Tensor  # (D,)
    text: Tensor  # (D,)
    goal: Tensor  # (5,) asked for
    executed: Tensor  # (T, A)
    achieved: Tensor  # (5,) goal token that the episode ended at
    weight: float  # 0 where the episode ended nowhere
    state: Tensor | None = None  # (A,) for state-relative heads
    tokens: Tensor | None = None  # (N, D) for heads with cross-attention
    seen: int = 0  # its date: chunks that the drift detector had seen with this one; not in batches


def stack(items: Sequence[Experience]) -> dict[str, Tensor]:
    """Field by field, (N, ...); at least one."""
    names = [*TENSORS, *(name for name in CONTEXT if getattr(items[0], name) is not None)]
    batch = {name: torch.stack([getattr(item, name) for item in items]) for name in names}
    return batch | {"weight": torch.tensor([item.weight for item in items], device=items[0].fused.device)}


def unstack(batch: dict[str, Tensor]) -> list[Experience]:
    """The opposite of `stack`."""
    fields = [{name: value[i] for name, value in batch.items()} for i in range(len(batch["weight"]))]
    rows: list[dict[str, Any]] = [row | {"weight": float(row["weight"])} for row in fields]
    return [Experience(**row) for row in rows]


def context_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the heads look at besides features and goal; {} for most heads."""
    return {name: batch[name] for name in CONTEXT if name in batch}


def known_of(items: Sequence[Experience], within_m: float) -> tuple[Any, ...] | None:
    """Fused features (N, D), goals (N, 5) and, for heads that look at more, their context by name; None of none.

    Only of chunks whose palm came to rest within `within_m` of where it was asked to: what the heads answered to the
    others was wrong, and to protect it would be to protect the fault.
    """
    items = [item for item in items if within_m == math.inf or (item.weight > 0.0 and missed_m(item) <= within_m)]
    if not items:
        return None
    batch = stack(items)
    context = context_of(batch)
    return (batch["fused"], batch["goal"], context) if context else (batch["fused"], batch["goal"])


def missed_m(item: Experience) -> float:
    """m between the goal that was asked for and the one that was achieved."""
    return float((goal_position(item.goal[None]) - goal_position(item.achieved[None])).norm())

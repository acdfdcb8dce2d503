"""What an online learner remembers of a chunk, and batches of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TENSORS = ("fused", "fused_after", "text", "goal", "executed", "achieved")


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


def stack(items: Sequence[Experience]) -> dict[str, Tensor]:
    """Field by field, (N, ...); at least one."""
    batch = {name: torch.stack([getattr(item, name) for item in items]) for name in TENSORS}
    return batch | {"weight": torch.tensor([item.weight for item in items])}


def unstack(batch: dict[str, Tensor]) -> list[Experience]:
    """The opposite of `stack`."""
    return [
        Experience(**{name: batch[name][i] for name in TENSORS}, weight=float(batch["weight"][i]))
        for i in range(len(batch["weight"]))
    ]

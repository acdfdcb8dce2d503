"""What `reset` of a vector env is told, made one per env."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def seeds_of(seed: int | Sequence[int | None] | None, count: int) -> Sequence[int | None]:
    """A seed for each of `count` envs: s, s + 1, ... of one number, as gymnasium's SyncVectorEnv has it.

    Raises ValueError for a sequence of another length.
    """
    seeds = [None] * count if seed is None else [seed + i for i in range(count)] if isinstance(seed, int) else seed
    if len(seeds) != count:
        raise ValueError(f"One seed for each env: wanted {count}, got {len(seeds)}.")
    return seeds


def rows_of_mask(mask: Any, count: int) -> np.ndarray:
    """The rows (M,) that a reset mask (N,) bool names; all N = `count` without one.

    Raises ValueError for what is no such mask, or names none.
    """
    if mask is None:
        return np.arange(count)
    mask = np.asarray(mask)
    if mask.shape != (count,) or mask.dtype != np.bool_ or not mask.any():
        raise ValueError(f"reset_mask must be ({count},) bool with a True in it, got {mask!r}.")
    return np.flatnonzero(mask)

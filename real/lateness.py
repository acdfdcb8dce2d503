"""How late the ticks of a loop were, as counts: small enough for shared memory, and nothing is forgotten."""

import math
from typing import Final

import numpy as np

LATE_BINS: Final = 160  # the last one, from 0.96 s on, takes what is later too
_PER_OCTAVE: Final = 8  # a bin is 9 % wide; bin 0 begins at 1 us and takes what is less too


def late_bin(late_s: float) -> int:
    """The bin (0..159) of a lateness in s."""
    return min(LATE_BINS - 1, int(_PER_OCTAVE * math.log2(max(1.0, 1e6 * late_s))))


def late_quantile_us(counts: np.ndarray, share: float) -> float:
    """The lateness that so great a share of the ticks did not exceed, in us, rounded up to its bin's end: 1.0 = all.

    counts: (160,), or the difference of two such.

    Raises:
        ValueError: no ticks.
    """
    total = int(counts.sum())
    if total == 0:
        raise ValueError("No ticks were counted. Let the loop run first.")
    reached = np.cumsum(counts) >= math.ceil(share * total)
    return float(2.0 ** ((int(np.argmax(reached)) + 1) / _PER_OCTAVE))

"""Small statistics with their intervals."""

import math
from collections.abc import Sequence

import numpy as np


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a success rate (Wilson 1927): honest at 0 and 1, where the normal interval has no width.

    Raises:
        ValueError: for counts that are no counts.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"wilson_interval wants 0 <= successes <= trials, trials >= 1, got {successes} of {trials}.")
    rate = successes / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half))  # rounding must not leave it out


def format_rate(successes: int, trials: int) -> str:
    """ "78.5 % [72.3, 83.6] (157/200)"."""
    low, high = wilson_interval(successes, trials)
    return f"{100 * successes / trials:.1f} % [{100 * low:.1f}, {100 * high:.1f}] ({successes}/{trials})"


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (normal); infinite for a single value."""
    array = np.asarray(values, dtype=np.float64)
    half = 1.96 * float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else math.inf
    return float(array.mean()), half

"""Small statistics with their intervals."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special


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


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (Student's t): for few values, such as one of each training seed.

    The half width of a single value is infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), math.inf
    scale = float(special.stdtrit(len(array) - 1, 0.975))
    return float(array.mean()), scale * float(array.std(ddof=1)) / math.sqrt(len(array))


def paired_difference(before: Sequence[bool], after: Sequence[bool], z: float = 1.959964) -> tuple[float, float, float]:
    """Success rate of `after` minus that of `before` over the same episodes, and both ends of its 95 % interval.

    Agresti and Min (2005): half an episode is added to each of the four outcomes of a pair. So the interval has a width
    where no episode differs, and its middle is a little nearer to 0 than the difference.

    Raises:
        ValueError: no episodes, or not the same number.
    """
    count = len(before)
    if not count or len(after) != count:
        raise ValueError(f"paired_difference wants the same episodes twice, got {count} and {len(after)}.")
    lost = sum(a and not b for a, b in zip(before, after, strict=True)) + 0.5
    won = sum(b and not a for a, b in zip(before, after, strict=True)) + 0.5
    pairs = count + 2.0
    middle = (won - lost) / pairs
    half = z * math.sqrt(won + lost - (won - lost) ** 2 / pairs) / pairs
    return (won - lost) / count, max(-1.0, middle - half), min(1.0, middle + half)

"""Two rows of the table on the same problems: how much better one is, with an interval from resampled pairs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

_DRAWS: Final = 10_000


class Gap(NamedTuple):
    """A ratio or difference of two success rates with its 95 % interval."""

    value: float
    low: float
    high: float
    episodes: int  # that both played


def pairs(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], what: str = "success") -> np.ndarray:
    """Successes, or another yes or no (N, 2), of the episodes that both rows played, told by seed and number."""
    first, second = ({(r["seed"], r["episode"]): r[what] for r in rows if what in r} for rows in (one, other))
    return np.array([(first[key], second[key]) for key in first if key in second], float).reshape(-1, 2)


def ratio(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> Gap | None:
    """Success of one over that of the other; None if they share no episode or the other had no success in those.

    Interval: percentiles of 10,000 bootstrap draws of whole pairs (Efron 1979), those without a success left out.
    """
    both = pairs(one, other)
    if not both.size or not both[:, 1].any():
        return None
    drawn = _drawn(both)
    drawn = drawn[drawn[:, 1] > 0.0]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975)).tolist()
    return Gap(float(both[:, 0].sum() / both[:, 1].sum()), low, high, len(both))


def difference(
    one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], what: str = "success"
) -> Gap | None:
    """Success of one less that of the other, as shares; None if they share no episode. Interval as of `ratio`."""
    both = pairs(one, other, what)
    if not both.size:
        return None
    low, high = np.quantile(np.diff(_drawn(both)[:, ::-1])[:, 0], (0.025, 0.975)).tolist()
    return Gap(float(both[:, 0].mean() - both[:, 1].mean()), low, high, len(both))


def worth(gap: Gap, unit: float = 1.0, form: str = ".2f") -> str:
    """For people: "0.93 [0.85, 1.01] on 60"."""
    value, low, high = (f"{unit * number:{form}}" for number in gap[:3])
    return f"{value} [{low}, {high}] on {gap.episodes}"


def _drawn(both: np.ndarray) -> np.ndarray:
    """Mean successes (draws, 2) of resampled pairs; the same pairs give the same draws.

    Of pairs there are four kinds, so a draw is a multinomial one.
    """
    kinds = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], float)
    shares = np.array([(both == kind).all(1).mean() for kind in kinds])
    return np.random.default_rng(0).multinomial(len(both), shares, _DRAWS) @ kinds / len(both)

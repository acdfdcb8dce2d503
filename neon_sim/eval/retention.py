"""What was kept, what was won and how fast: figures of a life through several regimes.

R[i, j] is the performance (success, 0-1) on regime j of a frozen copy after the i-th stage of the life; `order[i]` says
which regime stage i was lived in. Forgetting and forward transfer are Continual World's (Wolczyk et al. 2021), backward
transfer is GEM's (Lopez-Paz and Ranzato 2017).
"""

from collections.abc import Sequence

import numpy as np


def average_performance(matrix: np.ndarray) -> float:
    """1/N sum_j R[T, j]: over all regimes, at the end."""
    return float(_checked(matrix)[-1].mean())


def forgetting(matrix: np.ndarray, order: Sequence[int] | None = None) -> np.ndarray:
    """F_j = R[end of stage j, j] - R[T, j], (N,): what each regime lost after it was lived in.

    A regime that came twice counts from its last time; one that never came is NaN. Negative: it got better meanwhile.
    """
    matrix = _checked(matrix)
    lost = np.full(matrix.shape[1], np.nan)
    for stage, regime in enumerate(_order(matrix, order)):
        lost[regime] = matrix[stage, regime] - matrix[-1, regime]
    return lost


def backward_transfer(matrix: np.ndarray, order: Sequence[int] | None = None) -> float:
    """Mean of R[T, j] - R[end of stage j, j] over the regimes lived in before the last stage; NaN if there are none."""
    stages = _order(_checked(matrix), order)
    earlier = sorted(set(stages) - {stages[-1]})
    return float(-forgetting(matrix, stages)[earlier].mean()) if earlier else float("nan")


def forward_transfer(area: np.ndarray, reference_area: np.ndarray) -> np.ndarray:
    """FT_j = (AUC_j - AUC_j^ref) / (1 - AUC_j^ref), (N,).

    area: mean success (0-1) over the time in which regime j was learned; reference_area: the same of a learner that
    met it fresh. NaN where the reference is perfect: nothing could be won.
    """
    area, reference = np.asarray(area, float), np.asarray(reference_area, float)
    if area.shape != reference.shape or not all(((a >= 0.0) & (a <= 1.0)).all() for a in (area, reference)):
        raise ValueError(f"forward_transfer wants two alike arrays of areas in [0, 1], got {area} and {reference}.")
    room = 1.0 - reference
    return np.divide(area - reference, room, out=np.full(area.shape, np.nan), where=room > 0.0)


def recovered_fraction(nominal: float, before: float, after: float, least_loss: float = 0.1) -> float | None:
    """(after - before) / (nominal - before): the share of what a regime took that learning gave back.

    None ("no loss") where it took less than `least_loss`: such a regime counts nowhere.
    """
    lost = nominal - before
    return None if lost < least_loss - 1e-9 else (after - before) / lost


def running_mean(curve: Sequence[float], window: int) -> np.ndarray:
    """(len(curve),) mean of the newest `window` values, of fewer at the beginning."""
    if window < 1:
        raise ValueError(f"A window is at least 1 episode, got {window}.")
    total = np.concatenate([[0.0], np.cumsum(np.asarray(curve, float))])
    end = np.arange(1, len(total))
    start = np.maximum(end - window, 0)
    return (total[end] - total[start]) / (end - start)


def time_to_recover(
    curve: Sequence[float], nominal: float, window: int = 20, share: float = 0.95, steps_per_episode: int = 1
) -> int | None:
    """Steps until the mean of a whole window of episodes reaches `share * nominal` to stay; None if it never does.

    To stay: the mean of all that follows that window, to the end of the curve, is there as well. Without it, whoever
    has 85 % of nominal all along would be said to recover in most visits, by a lucky window among many.

    curve: performance per episode since the change. The answer is the end of that window, so it is never less than
    `window * steps_per_episode`: a lucky first episode is no recovery.
    """
    level = share * nominal - 1e-9
    reached = running_mean(curve, window)[window - 1 :] >= level
    for end in np.flatnonzero(reached) + window:
        if np.mean(np.asarray(curve, float)[end:] if end < len(curve) else [nominal]) >= level:
            return int(end) * steps_per_episode
    return None


def area_lost(curve: Sequence[float], nominal: float, steps_per_episode: int = 1) -> float:
    """sum_k (nominal - curve_k) * steps: performance-steps that a change cost in all.

    Signed: clipping at 0 would count unlucky episodes and leave out lucky ones.
    """
    return float((nominal - np.asarray(curve, float)).sum() * steps_per_episode)


def worst_dip(curve: Sequence[float], nominal: float, window: int = 20) -> float:
    """Nominal less the worst mean of a whole window; of the whole curve where it is shorter."""
    if not len(curve):
        raise ValueError("worst_dip wants a curve with at least one episode, got an empty one.")
    window = min(window, len(curve))
    return float(nominal - running_mean(curve, window)[window - 1 :].min())


def savings(first: float, again: float) -> float | None:
    """(first - again) / first: how much less a regime cost at its second visit (Ebbinghaus 1885).

    first, again: `area_lost` in as many episodes of both visits, which there always is; times to recover leave out who
    never did. None where the first visit cost nothing: there is nothing to save on.
    """
    return (first - again) / first if first > 0.0 else None


def _checked(matrix: np.ndarray) -> np.ndarray:
    matrix = np.asarray(matrix, float)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.isfinite(matrix).all():
        raise ValueError(f"A retention matrix is finite and (stages, regimes), got {matrix!r}.")
    return matrix


def _order(matrix: np.ndarray, order: Sequence[int] | None) -> list[int]:
    stages, regimes = matrix.shape
    found = list(range(stages)) if order is None else [int(regime) for regime in order]
    if len(found) != stages or not all(0 <= regime < regimes for regime in found):
        raise ValueError(f"{stages} stages need as many regimes from 0 to {regimes - 1} in `order`, got {found}.")
    return found

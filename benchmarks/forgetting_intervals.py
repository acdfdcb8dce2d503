"""How sure the figures of frozen copies are: 95 % intervals by bootstrap over seeds and over their judged episodes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

DRAWS: Final = 1000

Shards = Sequence[Mapping[str, Any]]  # of one arm, one for each seed


def outcomes_of(shards: Shards) -> np.ndarray:
    """(seeds, stages, regimes, episodes) 1 for each success of a frozen copy; seeds and episodes in their order.

    NaN where nothing was judged.
    """
    ordered = sorted(shards, key=lambda shard: shard["seed"])
    rows = [[stage["row"] for stage in shard["stages"]] for shard in ordered]
    episodes = max(len(cell["outcomes"]) for stages in rows for row in stages for cell in row if cell)
    none = ["nan"] * episodes
    cells = [[[list(cell["outcomes"]) if cell else none for cell in row] for row in stages] for stages in rows]
    return np.array(cells).astype(float)


def drawn_counts(seeds: int, episodes: int, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """(draws, seeds, episodes) how often each episode is drawn: first seeds, then episodes of each, with replacement.

    Of a single seed episodes alone are drawn: what other seeds would do is then in no interval.
    """
    chosen = rng.integers(seeds, size=(draws, seeds))
    counts = rng.multinomial(episodes, np.full(episodes, 1.0 / episodes), size=(draws, seeds))
    drawn = np.zeros((draws, seeds, episodes))
    np.add.at(drawn, (np.arange(draws)[:, None], chosen), counts)
    return drawn


def intervals(
    frozen: Shards, own: Shards, figures: Callable[[np.ndarray, np.ndarray], Mapping[str, float | None]]
) -> dict[str, list[float]]:
    """Both ends of each figure's 95 % interval; none for a figure that no draw has.

    An arm and the frozen one are judged by the same episodes: these are drawn together.

    figures: of the frozen arm's successes (regimes,) and an arm's (stages, regimes), by name.
    """
    before, after = outcomes_of(frozen)[:, 0], outcomes_of(own)  # the frozen arm is the same after every stage
    seeds, episodes = after.shape[0], after.shape[3]
    drawn = drawn_counts(seeds, episodes, np.random.default_rng(0))
    nominal = np.einsum("dse,sre->dr", drawn, before) / (seeds * episodes)
    matrices = np.einsum("dse,sire->dir", drawn, after, optimize=True) / (seeds * episodes)
    found: dict[str, list[float]] = {}
    for one, matrix in zip(nominal, matrices, strict=True):
        for name, value in figures(one, matrix).items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return {name: np.percentile(values, (2.5, 97.5)).tolist() for name, values in found.items()}


def interval_of_mean(values: np.ndarray) -> list[float]:
    """Both ends of the 95 % interval of the mean of values (seeds, episodes)."""
    seeds, episodes = values.shape
    drawn = drawn_counts(seeds, episodes, np.random.default_rng(0))
    ends: list[float] = np.percentile(np.einsum("dse,se->d", drawn, values) / values.size, (2.5, 97.5)).tolist()
    return ends


def lead(own: Shards, other: Shards, cells: Sequence[tuple[int, int]]) -> dict[str, list[float]]:
    """Mean success (2,) of two arms in some cells, (stage, regime) of both, and the interval of its `difference`.

    The arms are judged by the same episodes: these are drawn together.
    """
    stages, regimes = np.transpose(cells)
    ours, theirs = (outcomes_of(shards)[:, stages, regimes].mean(axis=1) for shards in (own, other))
    return {"success": [float(ours.mean()), float(theirs.mean())], "difference": interval_of_mean(ours - theirs)}

"""The pictures of the forgetting benchmark: retention heat maps, recovery curves, recovery against forgetting."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from forgetting_merge import Shards

from neon_sim.eval.plots import COLORS
from neon_sim.eval.retention import running_mean

# Arms of one unbroken life whose course is drawn; the others' are in the table and in the matrices.
FOLLOWED: Final = ("frozen", "naive", "online_ewc", "by_itself", "replay", "lr0")


def plot_matrices(figures: Mapping[str, Any], stages: Mapping[str, Sequence[str]], path: Path) -> None:
    """One heat map per arm: success of a frozen copy (columns) after each stage of the life (rows)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    arms = list(figures["arms"])
    columns = min(3, len(arms))
    rows = -(-len(arms) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.6 * rows), dpi=110, squeeze=False)
    for axes, arm in itertools.zip_longest(grid.flat, arms):
        if arm is None:
            axes.set_visible(False)
            continue
        matrix = 100 * np.array(figures["arms"][arm]["matrix"], dtype=float)  # NaN where nothing was judged
        axes.imshow(matrix, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        axes.set_title(arm, fontsize=10)
        axes.set_xticks(range(matrix.shape[1]), figures["regimes"], rotation=35, ha="right", fontsize=7)
        axes.set_yticks(range(matrix.shape[0]), stages[arm], fontsize=7)
        for (i, j), value in np.ndenumerate(matrix):
            shown = "" if np.isnan(value) else f"{value:.0f}"
            axes.text(j, i, shown, ha="center", va="center", fontsize=6, color="w" if value < 60 else "k")
    _save(figure, path)


def plot_recovery(shards: Shards, window: int, path: Path) -> None:
    """Success along the life, a running mean over episodes, all seeds together: one curve per arm of `FOLLOWED`.

    Bands are the stages. Arms whose curves are the same have one curve.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lives = {arm: own for arm, own in shards.items() if arm in FOLLOWED}
    figure, axes = plt.subplots(figsize=(9.0, 4.2), dpi=120)
    begun = 0
    for number, stage in enumerate(next(iter(lives.values()))[0]["stages"]):
        end = begun + len(stage["curve"])
        axes.axvspan(begun, end, color="#000000", alpha=0.06 * (number % 2), linewidth=0)
        name = stage["name"].replace("_", "\n").replace(" ", "\n")
        axes.text((begun + end) / 2, 101.5, name, ha="center", va="bottom", fontsize=6)
        begun = end
    for color, (names, course) in zip(COLORS, _courses(lives).items(), strict=False):
        smooth = [100 * float(value) for value in running_mean(course.tolist(), window)]
        axes.plot(range(window, begun + 1), smooth[window - 1 :], color=color, linewidth=1.3, label=names)
    axes.set_xlim(0, begun)
    axes.set_ylim(None, 101)
    axes.set_xlabel("episode of the life")
    axes.set_ylabel(f"ended where it was meant to, % of {window} episodes", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncol=6, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    _save(figure, path)


def _courses(lives: Shards) -> dict[str, np.ndarray]:
    """Share of the seeds that succeeded, by episode; arms with the same one under one name."""
    means = {
        arm: np.mean([np.concatenate([stage["curve"] for stage in shard["stages"]]) for shard in own], axis=0)
        for arm, own in lives.items()
    }
    alike: dict[bytes, list[str]] = {}
    for arm, course in means.items():
        alike.setdefault(course.tobytes(), []).append(arm)
    return {" = ".join(arms): means[arms[0]] for arms in alike.values()}


def plot_pareto(figures: Mapping[str, Any], path: Path) -> None:
    """What was recovered against what was forgotten on nominal: up and to the left is better."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.0, 4.4), dpi=130)
    places: dict[tuple[float, float], list[str]] = {}
    for arm, found in figures["arms"].items():
        x, y = found.get("nominal_forgetting"), found["recovered_fraction"]
        if x is not None and y is not None:
            places.setdefault((100 * x, 100 * y), []).append(arm)
    for color, place in zip(itertools.cycle(COLORS), places, strict=False):
        axes.scatter(*place, color=color, s=46)
    for (place, arms), above in zip(places.items(), free_heights(axes, places.values(), list(places)), strict=True):
        axes.annotate(", ".join(arms), place, textcoords="offset points", xytext=(6, above), fontsize=8)
    axes.axvline(5.0, color="#999999", linestyle="--", linewidth=0.8)
    axes.axhline(80.0, color="#999999", linestyle="--", linewidth=0.8)
    axes.set_xlabel("forgotten on nominal after a trouble, points (target: at most 5)")
    axes.set_ylabel("recovered, % (target: 80)")
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def free_heights(axes: Any, names: Iterable[Sequence[str]], places: Sequence[tuple[float, float]]) -> list[float]:
    """How many points above its place each label is to stand, so that none covers another: the nearest that is free."""
    line, letter = 9.0, 4.6  # points, of letters of size 8
    spots = axes.transData.transform(places) * 72.0 / axes.figure.dpi
    taken: list[tuple[float, float, float]] = []  # left, right, height
    found = []
    for arms, (x, y) in zip(names, spots, strict=True):
        right = x + letter * len(", ".join(arms))
        tried = [4.0 + line * step for step in (0, -1, 1, -2, 2, -3, 3)]
        free = (
            above
            for above in tried
            if all(x >= end or right <= begin or abs(y + above - height) >= line for begin, end, height in taken)
        )
        found.append(next(free, tried[0]))
        taken.append((x, right, y + found[-1]))
    return found


def plot_all(figures: Mapping[str, Any], shards: Shards, window: int, folder: Path) -> list[Path]:
    """Draw all three; returns where they are."""
    stages = {arm: [stage["name"] for stage in own[0]["stages"]] for arm, own in shards.items()}
    paths = [folder / f"forgetting_{name}.png" for name in ("matrices", "recovery", "pareto")]
    plot_matrices(figures, stages, paths[0])
    plot_recovery(shards, window, paths[1])
    plot_pareto(figures, paths[2])
    return paths


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)

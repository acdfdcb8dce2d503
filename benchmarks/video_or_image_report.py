"""What the views came to: one trial, the table of all, and their picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from neon_sim.eval.plots import bar_panels
from neon_sim.eval.statistics import format_rate, mean_interval, t_interval, wilson_interval

EXPERT: Final = "expert"  # in the place of a view: what knows the truth reaches
HEADER: Final = (
    "task", "seen", "success, 95 % interval", "of each seed", "palm to target, cm (a pressed button: about 11)",
    "minus the clip's, cm (t over training seeds)", "goal read off by, cm (median)", "held-back MSE x 1000",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """What one view came to on one task with one seed. distances: m, one an episode, see `DISTANCE`."""

    task: str
    view: str
    seed: int
    successes: tuple[bool, ...]
    distances: tuple[float, ...]
    goal_cm: float | None = None  # None: the expert reads nothing, or no goal was told
    held_back_mse: float | None = None  # action units squared


def rows_of(trials: Sequence[Trial]) -> list[list[str]]:
    """The table: one row a task and view, its seeds pooled."""
    pooled: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        pooled.setdefault((trial.task, trial.view), []).append(trial)
    rows = []
    for (task, view), own in pooled.items():
        counts = [sum(trial.successes) for trial in own]
        cells = [task, view, format_rate(sum(counts), sum(len(trial.successes) for trial in own))]
        cells += [", ".join(map(str, counts)), _text(_distances_cm(own))]
        clip = pooled.get((task, "clip"), [])
        compared = view not in ("clip", EXPERT) and len(clip) == len(own)
        cells.append(_minus(own, clip) if compared else "-")
        cells.append(_each([trial.goal_cm for trial in own], 1.0, ".1f"))
        cells.append(_each([trial.held_back_mse for trial in own], 1e3, ".2f"))
        rows.append(cells)
    return rows


def _distances_cm(trials: Sequence[Trial]) -> np.ndarray:
    return 100.0 * np.array([distance for trial in trials for distance in trial.distances])


def _minus(own: Sequence[Trial], clip: Sequence[Trial]) -> str:
    """Episode by episode, and in brackets how sure that is for other training seeds."""
    of_seeds = [float(np.mean(_distances_cm([a]) - _distances_cm([b]))) for a, b in zip(own, clip, strict=True)]
    over_seeds = f" (± {t_interval(of_seeds)[1]:.1f})" if len(of_seeds) > 1 else ""
    return _text(_distances_cm(own) - _distances_cm(clip)) + over_seeds


def _text(values: np.ndarray) -> str:
    mean, half = mean_interval(values.tolist())
    return f"{mean:.1f} ± {half:.1f}"


def _each(values: Sequence[float | None], scale: float, form: str) -> str:
    return ", ".join("-" if value is None else f"{scale * value:{form}}" for value in values)


def picture(trials: Sequence[Trial], path: Path) -> None:
    """Success and distance in every view, with their intervals, a group of bars a task; written to a PNG."""
    tasks, views = (list(dict.fromkeys(getattr(trial, name) for trial in trials)) for name in ("task", "view"))
    own = {view: [[t for t in trials if (t.task, t.view) == (task, view)] for task in tasks] for view in views}
    panels = {
        "success, %": {view: [_rate(cell) for cell in cells] for view, cells in own.items()},
        "palm to target, cm": {view: [_distance(cell) for cell in cells] for view, cells in own.items()},
    }
    bar_panels(path, tasks, panels, "The same heads, shown a clip or a single picture (95 % intervals)")


def _rate(trials: Sequence[Trial]) -> tuple[float, float, float]:
    outcomes = [success for trial in trials for success in trial.successes]
    low, high = wilson_interval(sum(outcomes), len(outcomes))
    return 100 * sum(outcomes) / len(outcomes), 100 * low, 100 * high


def _distance(trials: Sequence[Trial]) -> tuple[float, float, float]:
    mean, half = mean_interval(_distances_cm(trials).tolist())
    return mean, mean - half, mean + half

"""The table and the picture of benchmarks/guidance.py."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from guidance_cases import CASES, MEASURES, OUTCOMES, outcome

from neon_sim.eval.plots import COLORS
from neon_sim.eval.statistics import format_rate, mean_interval, paired_difference, wilson_interval

Episodes = list[dict[str, Any]]
Cells = dict[tuple[str, str, bool], Episodes]  # by head, case, and whether the guide was on
HEADER: Final = (
    "head",
    "case",
    "outcome",
    "guide off, 95 % interval",
    "guide on, 95 % interval",
    "difference, points",
    "measure",
    "off",
    "on",
    "change by the guide",
    "act(), CPU ms p50, off / on",
)


def table_rows(found: Cells) -> list[list[str]]:
    """Every head and case, off beside on."""
    cells = [(head, case) for head, case, guided in found if guided]
    return [row for cell in cells for row in case_rows(*cell, found[(*cell, False)], found[(*cell, True)])]


def case_rows(
    head: str, case: str, off: Sequence[Mapping[str, Any]], on: Sequence[Mapping[str, Any]]
) -> list[list[str]]:
    """A row for each outcome of a case over the same episodes without and with the guide; its measure in the first."""
    measure = CASES[case].measure
    change = _text(mean_interval([b[measure] - a[measure] for a, b in zip(off, on, strict=True)]))
    means = [_text(mean_interval([episode[measure] for episode in played])) for played in (off, on)]
    times = [f"{np.median(answers(played)):.1f}" for played in (off, on)]
    rest = [MEASURES[measure], *means, change, " / ".join(times)]
    rows = []
    for name in CASES[case].outcomes:
        won = [[outcome(episode, name) for episode in played] for played in (off, on)]
        middle, low, high = (100.0 * value for value in paired_difference(won[0], won[1]))
        rates = [format_rate(sum(one), len(one)) for one in won]
        rows.append([head, case, OUTCOMES[name], *rates, f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]", *rest])
        rest = ["-"] * len(rest)
    return rows


def answers(played: Sequence[Mapping[str, Any]]) -> list[float]:
    """CPU ms of every answer in some episodes."""
    return [ms for episode in played for ms in episode["answers_ms"]]


def _text(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3g} ± {interval[1]:.2g}"


def plot(found: Cells, path: Path) -> None:
    """Per case its first outcome (above) and its measure (below), off and on, every head, with intervals, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    heads, cases = list(dict.fromkeys(cell[0] for cell in found)), list(dict.fromkeys(cell[1] for cell in found))
    width = max(5.0, 2.1 * len(cases))
    figure, grid = plt.subplots(2, len(cases), figsize=(width, 5.6), dpi=110, squeeze=False)
    for column, case in zip(grid.T, cases, strict=True):
        name, measure = CASES[case].outcomes[0], CASES[case].measure
        _points(column[0], found, heads, case, partial(_rate, name=name))
        _points(column[1], found, heads, case, partial(_mean, measure=measure))
        column[0].set_title(f"{case}\n{OUTCOMES[name]}, %", fontsize=8)
        column[0].set_ylim(-4, 104)
        column[1].set_title(textwrap.fill(MEASURES[measure], 26), fontsize=8)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles[:2], labels[:2], loc="lower center", ncols=2, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _points(
    axes: Any,
    found: Cells,
    heads: Sequence[str],
    case: str,
    figure_of: Callable[[Episodes], tuple[float, float, float]],
) -> None:
    """Every head's points without and with the guide, side by side."""
    for guided, color, label in ((False, COLORS[5], "guide off"), (True, COLORS[0], "guide on")):
        figures = [figure_of(found[head, case, guided]) for head in heads]
        middles = [middle for middle, _, _ in figures]
        errors = [[m - low for m, low, _ in figures], [high - m for m, _, high in figures]]
        x = [index + (0.15 if guided else -0.15) for index in range(len(heads))]
        axes.errorbar(x, middles, errors, fmt="o", color=color, capsize=3, markersize=5, label=label)
    axes.set_xticks(range(len(heads)), heads)
    axes.set_xlim(-0.6, len(heads) - 0.4)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)


def _rate(played: Episodes, name: str) -> tuple[float, float, float]:
    wins = sum(outcome(episode, name) for episode in played)
    low, high = wilson_interval(wins, len(played))
    return 100.0 * wins / len(played), 100.0 * low, 100.0 * high


def _mean(played: Episodes, measure: str) -> tuple[float, float, float]:
    middle, half = mean_interval([episode[measure] for episode in played])
    half = half if np.isfinite(half) else 0.0  # a single episode has no interval
    return middle, middle - half, middle + half

"""Plots that end a long run. matplotlib is imported when one is drawn."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLORS = ("#1f5f8b", "#d9822b", "#3a8f5c", "#b03a48", "#6b5b95", "#555555")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height), dpi=130)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def line_plot(
    path: Path,
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    x_label: str,
    y_label: str,
    log_y: bool = False,
    colors: Mapping[str, str] | None = None,
) -> None:
    """Several curves over one x axis, written to a PNG; `colors` gives a label its own."""
    figure, axes = _figure(7.0, 4.0)
    for color, (label, values) in zip(itertools.cycle(COLORS), curves.items(), strict=False):
        axes.plot(x, values, label=label, color=(colors or {}).get(label, color), linewidth=1.8)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if log_y:
        axes.set_yscale("log")
    axes.legend(frameon=False)
    _save(figure, path)


def bar_plot(
    path: Path,
    groups: Sequence[str],
    bars: Mapping[str, Sequence[tuple[float, float, float]]],
    y_label: str,
    title: str,
) -> None:
    """Grouped bars with intervals: for every label, one (value, low, high) per group; written to a PNG."""
    figure, axes = _figure(8.0, 4.2)
    width = 0.8 / len(bars)
    for i, (color, (label, values)) in enumerate(zip(itertools.cycle(COLORS), bars.items(), strict=False)):
        x = [g + (i - (len(bars) - 1) / 2) * width for g in range(len(groups))]
        heights = [value for value, _, _ in values]
        errors = [[v - low for v, low, _ in values], [high - v for v, _, high in values]]
        axes.bar(x, heights, width * 0.92, yerr=errors, label=label, color=color, capsize=2.5, ecolor="#333333")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(y_label)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, ncols=len(bars), fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    _save(figure, path)

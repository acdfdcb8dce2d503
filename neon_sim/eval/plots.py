"""Plots that end a long run. matplotlib is imported when one is drawn."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLORS = ("#1f5f8b", "#d9822b", "#3a8f5c", "#b03a48", "#6b5b95", "#555555")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure, (axes,) = _panels(width, height, 1)
    return figure, axes


def _panels(width: float, height: float, count: int) -> tuple[Any, Any]:
    """A figure of so many panels beside each other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (row,) = plt.subplots(1, count, figsize=(width, height), dpi=130, squeeze=False)
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, row


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    if figure.get_layout_engine() is None:
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


Bars = Mapping[str, Sequence[tuple[float, float, float]]]  # for every label, one (value, low, high) per group


def bar_plot(path: Path, groups: Sequence[str], bars: Bars, y_label: str, title: str) -> None:
    """Grouped bars with intervals, written to a PNG."""
    bar_panels(path, groups, {y_label: bars}, title)


def bar_panels(path: Path, groups: Sequence[str], panels: Mapping[str, Bars], title: str) -> None:
    """`bar_plot` of several figures of the same labels beside each other, by what their y axis says."""
    figure, row = _panels(2.5 + 5.5 * len(panels), 4.2, len(panels))
    for axes, (y_label, bars) in zip(row, panels.items(), strict=True):
        _draw_bars(axes, bars)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_ylabel(y_label)
    figure.suptitle(title, fontsize=10)
    handles, labels = row[0].get_legend_handles_labels()
    where = {"loc": "outside lower center", "ncols": len(labels), "fontsize": 8, "frameon": False}
    figure.set_layout_engine("constrained")
    figure.legend(handles, labels, **where)
    _save(figure, path)


def _draw_bars(axes: Any, bars: Bars) -> None:
    width = 0.8 / len(bars)
    for i, (color, (label, values)) in enumerate(zip(itertools.cycle(COLORS), bars.items(), strict=False)):
        x = [group + (i - (len(bars) - 1) / 2) * width for group in range(len(values))]
        heights = [value for value, _, _ in values]
        errors = [[v - low for v, low, _ in values], [high - v for v, _, high in values]]
        axes.bar(x, heights, width * 0.92, yerr=errors, label=label, color=color, capsize=2.5, ecolor="#333333")

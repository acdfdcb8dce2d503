"""The verdicts, the table and the picture of benchmarks/speculation.py."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.eval.plots import COLORS
from neon_sim.eval.statistics import format_rate, mean_interval, paired_difference, wilson_interval
from neon_sim.model.speculative import SpeculativeConfig

WORTH: Final = 0.1  # share of an answer's time that must be saved
MARGIN: Final = 0.05  # of the success rate; a policy that may lose as much is not as good
ALONE: Final = ("heavy", "draft")  # the others are mixtures of these two
HEADER: Final = (
    "policy",
    "success, 95 % interval",
    "steps",
    "answer, CPU ms",
    "heavy heads ran",
    "accepted steps: 0, some, enough",
    "against the heavy head",
    "against the draft alone",
)


def summarise(played: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One policy's figures over its episodes, each success, steps, answers_ms, heavy and histogram."""
    answers = [ms for episode in played for ms in episode["answers_ms"]]
    return {
        "won": [episode["success"] for episode in played],
        "successes": sum(episode["success"] for episode in played),
        "episodes": len(played),
        "median_steps": float(np.median([episode["steps"] for episode in played])),
        "answers": len(answers),
        "episode_ms": [float(np.mean(episode["answers_ms"])) for episode in played],
        "mean_ms": float(np.mean(answers)),
        "p50_ms": float(np.median(answers)),
        "p99_ms": float(np.quantile(answers, 0.99)),
        "heavy_share": sum(episode["heavy"] for episode in played) / len(answers),
        "histogram": np.sum([episode["histogram"] for episode in played], axis=0, dtype=int).tolist(),
    }


def against_heavy(heavy: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Whether a policy is worth having in place of the heavy head, and why; over the same episodes.

    Worth it: it saves `WORTH` of an answer's time, and the interval of the success leaves no room for a loss of
    `MARGIN`. Not worth it: it certainly saves less, or it certainly loses and may lose `MARGIN`. Else it is undecided:
    an interval is too wide.
    """
    saved, least, most = saved_share(heavy, other)
    change, low, high = paired_difference(heavy["won"], other["won"])
    if least >= WORTH and low > -MARGIN:
        word = "worth it"
    elif most < WORTH or (high < 0.0 and low <= -MARGIN):
        word = "not worth it"
    else:
        word = "undecided"
    times = f"{100 * saved:.0f} % [{100 * least:.0f}, {100 * most:.0f}] of the time saved"
    return f"{word}: {times}, success {points(change, low, high)}"


def against_draft(draft: Mapping[str, Any], mixture: Mapping[str, Any]) -> str:
    """Whether a mixture has anything that the draft alone has not; over the same episodes.

    It is dominated where it takes longer and certainly wins less than `MARGIN` more, better where it certainly wins
    more, and undecided else.
    """
    change, low, high = paired_difference(draft["won"], mixture["won"])
    if mixture["mean_ms"] >= draft["mean_ms"] and high < MARGIN:
        word = "dominated"
    else:
        word = "better" if low > 0.0 else "undecided"
    return f"{word}: {mixture['mean_ms'] - draft['mean_ms']:+.1f} ms, success {points(change, low, high)}"


def saved_share(heavy: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, float, float]:
    """Share of the mean episode's time per answer that is saved, and both ends of its 95 % interval (paired)."""
    saved, half = mean_interval([a - b for a, b in zip(heavy["episode_ms"], other["episode_ms"], strict=True)])
    whole = float(np.mean(heavy["episode_ms"]))
    return saved / whole, (saved - half) / whole, (saved + half) / whole


def points(change: float, low: float, high: float) -> str:
    """A difference of rates in percentage points, with its interval."""
    return f"{100 * change:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def accepted_text(histogram: Sequence[int]) -> str:
    """Shares of the drafts of which no step, some, and enough to spare the heavy heads were accepted."""
    if not histogram:
        return "-"
    enough = SpeculativeConfig.min_accepted
    parts = histogram[0], sum(histogram[1:enough]), sum(histogram[enough:])
    return ", ".join(f"{100 * part / sum(histogram):.0f} %" for part in parts)


def table_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The table; every policy is held against the heavy head, and every mixture against the draft alone."""
    return [
        [
            name,
            format_rate(cell["successes"], cell["episodes"]),
            f"{cell['median_steps']:.0f}",
            f"{cell['mean_ms']:.1f} (p50 {cell['p50_ms']:.1f}, p99 {cell['p99_ms']:.1f})",
            f"{100 * cell['heavy_share']:.0f} %",
            accepted_text(cell["histogram"]),
            "-" if name == "heavy" else against_heavy(summary["heavy"], cell),
            "-" if name in ALONE else against_draft(summary["draft"], cell),
        ]
        for name, cell in summary.items()
    ]


def plot(summary: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Success against CPU time of an answer, every policy with both 95 % intervals, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 4.6), dpi=130)
    lows = []
    for color, (name, cell) in zip(itertools.cycle(COLORS), summary.items(), strict=False):
        rate = 100.0 * cell["successes"] / cell["episodes"]
        low, high = (100.0 * end for end in wilson_interval(cell["successes"], cell["episodes"]))
        lows.append(low)
        middle, half = mean_interval(cell["episode_ms"])
        wide = half if np.isfinite(half) else 0.0  # a single episode has no interval
        axes.errorbar(
            middle, rate, [[rate - low], [high - rate]], wide, fmt="o", color=color, capsize=3, label=name, zorder=3
        )
    axes.set_xlabel("CPU time of an answer, eyes included, ms")
    axes.set_ylabel("success, %")
    axes.set_xlim(left=0)
    axes.set_ylim(max(-4.0, min(lows) - 10.0), 104.0)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0.0 <= tick <= 100.0])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)

"""What each of the paper's six techniques for small heads is worth: its variants, their table and their picture.

Six switches (paper, section 4). Each is taken out of the full head, and put alone into the vanilla one. The soft cap
with the paper's c = 1 is tanh, which is the vanilla bound (D5): it has no variant to train, and a cap of 2 stands in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from neon_sim.eval.plots import COLORS
from neon_sim.eval.statistics import format_rate, paired_difference, t_interval, wilson_interval
from neon_sim.eval.trials import TrialTraining
from neon_sim.model.layers import ResidualScale

# Head options with a technique in, and out. "optimizer" is the training's: section 4.6 against AdamW's usual settings.
SWITCHES: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "ReLU squared": ({"use_relu_squared": True}, {"use_relu_squared": False}),
    "RMSNorm": ({"use_rmsnorm": True}, {"use_rmsnorm": False}),
    "residual scale": ({"use_residual_scale": True}, {"use_residual_scale": False}),
    "skip connection": ({"use_skip_connections": True}, {"use_skip_connections": False}),
    "soft cap": ({"soft_cap_value": 1.0}, {"soft_cap_value": 0.0}),
    "optimizer": ({"betas": (0.85, 0.99), "max_grad_norm": 0.3}, {"betas": (0.9, 0.999), "max_grad_norm": 1.0}),
}
NO_CHANGE: Final = ("soft cap",)  # D5: in or out, the same function
_OF_TRAINING: Final = ("optimizer",)
REFERENCES: Final = ("all", "none")  # every other variant is one step from one of them, and is compared with both
CEILING, FLOOR = 0.95, 0.20  # success beyond which a technique has no room to show what it is worth


@dataclass(frozen=True)
class Variant:
    """One head: its options for NeonConfig.head, and its changes of the training."""

    name: str
    head: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)

    def of(self, training: TrialTraining) -> TrialTraining:
        """The training with this variant's changes."""
        return replace(training, **self.training)


def build_variant(name: str, techniques: Sequence[str], **changes: Any) -> Variant:
    """A head with some techniques in and the others out; `changes` are further head options."""
    head: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for technique, (inside, outside) in SWITCHES.items():
        chosen = training if technique in _OF_TRAINING else head
        chosen |= inside if technique in techniques else outside
    return Variant(name, head | changes, training)


def all_variants() -> tuple[Variant, ...]:
    """All six in; each one out; none in; each one alone; and a soft cap that differs from tanh."""
    everything, changing = tuple(SWITCHES), [name for name in SWITCHES if name not in NO_CHANGE]
    without = [build_variant(f"without {out}", [n for n in everything if n != out]) for out in changing]
    alone = [build_variant(f"only {name}", [name]) for name in changing]
    capped = build_variant("all, soft cap 2", everything, soft_cap_value=2.0)
    return (build_variant("all", everything), *without, capped, build_variant("none", ()), *alone)


VARIANTS: Final = {variant.name: variant for variant in all_variants()}


@dataclass(frozen=True)
class Trial:
    """What one variant came to with one training seed, in episodes whose seeds are the same for every variant.

    successes, distances: one an episode, in the order of its seeds; distances: m, palm to ball at the end.
    """

    variant: str
    seed: int
    train_loss: float
    held_back_mse: float  # action units squared
    successes: tuple[bool, ...]
    distances: tuple[float, ...]
    alphas: tuple[float, ...] = ()  # learned residual scales (eq. 7), which begin at 1


def residual_scales(model: nn.Module) -> tuple[float, ...]:
    """Every learned residual scale of a model, in the order of its modules."""
    return tuple(float(part.alpha.detach()) for part in model.modules() if isinstance(part, ResidualScale))


def summarise(trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """Seeds pooled by variant, in the trials' order: counts, differences, losses, median distance in cm, scales.

    "minus" holds the `difference` from each of `REFERENCES` that was tried with the same seeds.
    """
    of = {name: [t for t in trials if t.variant == name] for name in dict.fromkeys(t.variant for t in trials)}
    summary: dict[str, dict[str, Any]] = {}
    for name, own in of.items():
        distances = [distance for trial in own for distance in trial.distances]
        others = [other for other in REFERENCES if other != name and _seeds(of.get(other, [])) == _seeds(own)]
        summary[name] = {
            "successes": sum(sum(trial.successes) for trial in own),
            "episodes": len(distances),
            "successes_of_seeds": [sum(trial.successes) for trial in own],
            "minus": {other: difference(own, of[other]) for other in others},
            "held_back_mse": [trial.held_back_mse for trial in own],
            "final_distance_cm": 100.0 * float(np.median(distances)),
            "alphas": [alpha for trial in own for alpha in trial.alphas],
        }
    return summary


def difference(own: Sequence[Trial], reference: Sequence[Trial]) -> dict[str, Any]:
    """Success rate minus the reference's, of the same training seeds and episodes, with both kinds of 95 % interval.

    low and high are for these very nets, in further episodes (`paired_difference`). of_seeds is the difference of each
    training seed; half_over_seeds is half the width of their mean's interval (`t_interval`): for nets trained anew.
    None where a single seed tells nothing of others.
    """
    pairs = [(b.successes, a.successes) for a, b in zip(_by_seed(own), _by_seed(reference), strict=True)]
    rate, low, high = paired_difference([s for b, _ in pairs for s in b], [s for _, a in pairs for s in a])
    of_seeds = [float(np.mean(after) - np.mean(before)) for before, after in pairs]
    half = t_interval(of_seeds)[1] if len(of_seeds) > 1 else None
    return {"rate": rate, "low": low, "high": high, "of_seeds": of_seeds, "half_over_seeds": half}


def _by_seed(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: trial.seed)


def _seeds(trials: Sequence[Trial]) -> list[int]:
    return [trial.seed for trial in _by_seed(trials)]


def no_room(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each of `REFERENCES` whose success is above `CEILING` or below `FLOOR`; empty where there is room."""
    lines = []
    for name in (name for name in REFERENCES if name in summary):
        successes, episodes = summary[name]["successes"], summary[name]["episodes"]
        if successes > CEILING * episodes:
            lines.append(f"{name!r} is at the ceiling, above {100 * CEILING:.0f} %: {format_rate(successes, episodes)}")
        elif successes < FLOOR * episodes:
            lines.append(f"{name!r} is on the floor, below {100 * FLOOR:.0f} %: {format_rate(successes, episodes)}")
    return lines


HEADER: Final = (
    "variant",
    "success, 95 % interval",
    "of each seed",
    *(f"minus {name}, points: paired 95 % (t over training seeds)" for name in REFERENCES),
    "held-back MSE x 1000, each seed",
    "distance",
    "alpha",
)


def table_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The table's cells: success and how it differs from the references', beside the loss of each seed."""
    rows = []
    for name, cell in summary.items():
        scales = cell["alphas"]
        rows.append(
            [
                name,
                format_rate(cell["successes"], cell["episodes"]),
                ", ".join(str(count) for count in cell["successes_of_seeds"]),
                *(_difference_text(cell["minus"].get(other)) for other in REFERENCES),
                ", ".join(f"{1e3 * loss:.2f}" for loss in cell["held_back_mse"]),
                f"{cell['final_distance_cm']:.1f} cm",
                f"{min(scales):.2f} to {max(scales):.2f}" if scales else "-",
            ]
        )
    return rows


def _difference_text(found: Mapping[str, Any] | None) -> str:
    """ "-5.0 [-10.2, +0.3] (± 12.4)", in points."""
    if found is None:
        return "-"
    rate, low, high = (100 * found[name] for name in ("rate", "low", "high"))
    half = found["half_over_seeds"]
    return f"{rate:+.1f} [{low:+.1f}, {high:+.1f}]" + ("" if half is None else f" (± {100 * half:.1f})")


def markdown(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """`table_rows` as a Markdown table with its header."""
    lines = [HEADER, ["---"] * len(HEADER), *table_rows(summary)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def plot_ablation(summary: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Success with its interval, and the loss of each seed, one line a variant, written to a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 0.32 * len(summary) + 1.4), dpi=130, sharey=True)
    for line, cell in enumerate(summary.values()):
        low, high = wilson_interval(cell["successes"], cell["episodes"])
        left.plot([100 * low, 100 * high], [line, line], color="#888888", linewidth=1.5)
        left.plot(100 * cell["successes"] / cell["episodes"], line, "o", color=COLORS[0])
        losses = [1e3 * loss for loss in cell["held_back_mse"]]
        right.plot(losses, [line] * len(losses), "o", color=COLORS[1], markersize=4)
    left.set_yticks(range(len(summary)), list(summary))
    left.invert_yaxis()
    left.set_xlabel("success, % (95 % interval)")
    right.set_xlabel("held-back MSE x 1000, each seed")
    right.set_xscale("log")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)

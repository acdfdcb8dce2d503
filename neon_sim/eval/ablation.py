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
from neon_sim.eval.statistics import format_rate, wilson_interval
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
    """What one variant came to with one seed. distances: m, palm to ball at the end of each episode."""

    variant: str
    seed: int
    train_loss: float
    held_back_mse: float  # action units squared
    successes: int
    distances: tuple[float, ...]
    alphas: tuple[float, ...] = ()  # learned residual scales (eq. 7), which begin at 1


def residual_scales(model: nn.Module) -> tuple[float, ...]:
    """Every learned residual scale of a model, in the order of its modules."""
    return tuple(float(part.alpha.detach()) for part in model.modules() if isinstance(part, ResidualScale))


def summarise(trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """Seeds pooled by variant, in the trials' order: counts, losses of each seed, median distance in cm, scales."""
    summary: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(trial.variant for trial in trials):
        own = [trial for trial in trials if trial.variant == name]
        distances = [distance for trial in own for distance in trial.distances]
        summary[name] = {
            "successes": sum(trial.successes for trial in own),
            "episodes": len(distances),
            "successes_of_seeds": [trial.successes for trial in own],
            "held_back_mse": [trial.held_back_mse for trial in own],
            "final_distance_cm": 100.0 * float(np.median(distances)),
            "alphas": [alpha for trial in own for alpha in trial.alphas],
        }
    return summary


HEADER: Final = (
    "variant",
    "success, 95 % interval",
    "of each seed",
    "held-back MSE x 1000, each seed",
    "distance",
    "alpha",
)


def table_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The table's cells: success with its interval beside the loss of each seed."""
    rows = []
    for name, cell in summary.items():
        scales = cell["alphas"]
        rows.append(
            [
                name,
                format_rate(cell["successes"], cell["episodes"]),
                ", ".join(str(count) for count in cell["successes_of_seeds"]),
                ", ".join(f"{1e3 * loss:.2f}" for loss in cell["held_back_mse"]),
                f"{cell['final_distance_cm']:.1f} cm",
                f"{min(scales):.2f} to {max(scales):.2f}" if scales else "-",
            ]
        )
    return rows


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

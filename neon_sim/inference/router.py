"""Adaptive compute: which head answers, the light one or the heavy one, by how hard the moment looks.

Pure functions over B robots; whoever calls keeps the answer of the time before, which the hysteresis needs.
"""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class RouterConfig:
    """What counts as hard. Each scale is the value that alone makes a difficulty of 1.

    disagreement: action units, between what two neighbouring drafts say about the same steps.
    tracking_error: rad, between what a joint of the action was sent and where it is.
    near_m: m from the goal, where precision begins to count; twice as far is half as hard.
    enter_heavy, leave_heavy: the heavy head takes over from this difficulty on, and stays until it is below that one.

    The first two are such that a healthy robot stays below `leave_heavy`: over reaches of the shipped demo heads on
    seeds 100 to 104, asked every 8 or 10 steps, the largest were 0.010 and 0.13 rad; with a shoulder at 60 % and
    0.35 rad off, 0.081 and 1.9 rad. `near_m` is about reach's 4 cm. An action that owns the legs too wants a larger
    `tracking_error`: a robot's legs stand 0.1 to 0.3 rad beside what they are sent.

    Raises ValueError for numbers that are not positive and for a hysteresis the wrong way round.
    """

    disagreement: float = 0.025
    tracking_error: float = 0.3
    near_m: float = 0.05
    enter_heavy: float = 1.0
    leave_heavy: float = 0.5

    def __post_init__(self) -> None:
        wrong = {f.name: getattr(self, f.name) for f in fields(self) if not 0.0 < getattr(self, f.name) < np.inf}
        if wrong:
            raise ValueError(f"RouterConfig wants positive finite numbers, got {wrong}.")
        if self.leave_heavy > self.enter_heavy:
            raise ValueError(
                f"RouterConfig wants leave_heavy <= enter_heavy, got {self.leave_heavy} and {self.enter_heavy}: "
                "the heavy head would be left and entered at once."
            )


def disagreement(old: np.ndarray, new: np.ndarray, steps_between: int) -> np.ndarray:
    """Mean absolute difference (B,), in action units, of two chunks (B, T, A) over the steps that both speak of.

    steps_between: control steps from the old chunk's observation to the new one's. 0 where nothing is shared.
    Raises ValueError for chunks of different shapes and a negative number of steps.
    """
    if old.shape != new.shape or old.ndim != 3 or steps_between < 0:
        raise ValueError(
            f"disagreement wants two chunks of one shape (B, T, A) and steps_between >= 0, got {old.shape}, "
            f"{new.shape} and {steps_between}."
        )
    shared = old.shape[1] - steps_between
    if shared <= 0:
        return np.zeros(len(old))
    return np.abs(old[:, steps_between:] - new[:, :shared]).mean(axis=(1, 2))


def difficulty(
    config: RouterConfig,
    disagreement: np.ndarray | float | None = None,
    tracking_error: np.ndarray | float | None = None,
    goal_distance: np.ndarray | float | None = None,
) -> np.ndarray:
    """How hard the moment is, (B,) or a scalar array, 0 and up: the worst of the signals that are known.

    The worst, not the sum: a robot that is only a little off in every way is not in trouble, and what made the number
    can be named.

    Args:
        config: the scales.
        disagreement: (B,) action units, see `disagreement`.
        tracking_error: (B,) rad, largest over the action's joints.
        goal_distance: (B,) m; 10 is the most that it can count.

    Raises:
        ValueError: no signal at all, or one that is negative or not a number.
    """
    signals = {"disagreement": disagreement, "tracking_error": tracking_error, "goal_distance": goal_distance}
    known = {name: np.asarray(value, dtype=np.float64) for name, value in signals.items() if value is not None}
    if not known:
        raise ValueError(f"difficulty wants at least one signal of {', '.join(signals)}, got none.")
    wrong = [name for name, value in known.items() if not np.all(value >= 0.0)]
    if wrong:
        raise ValueError(f"difficulty wants signals of 0 or more; not so: {', '.join(wrong)}. Look at their source.")
    shares = {
        "disagreement": lambda value: value / config.disagreement,
        "tracking_error": lambda value: value / config.tracking_error,
        "goal_distance": lambda value: config.near_m / np.maximum(value, 0.1 * config.near_m),
    }
    worst = np.zeros(())
    for name, value in known.items():
        worst = np.maximum(worst, shares[name](value))
    return worst


def choose_heavy(score: np.ndarray | float, was_heavy: np.ndarray | bool | None, config: RouterConfig) -> np.ndarray:
    """True (B,) where the heavy head is to answer.

    Args:
        score: (B,) `difficulty`.
        was_heavy: (B,) the answer before; None at the start of an episode, which counts as heavy: caution first.
        config: the two thresholds. Between them the answer stays what it was.
    """
    before = np.ones_like(score, dtype=bool) if was_heavy is None else np.asarray(was_heavy, dtype=bool)
    return np.where(before, np.asarray(score) >= config.leave_heavy, np.asarray(score) >= config.enter_heavy)

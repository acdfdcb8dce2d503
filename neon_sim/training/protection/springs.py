"""Strategies that hold weights by springs: L2, EWC with an anchor per regime, online EWC with one that moves on.

penalty = strength / 2 * sum over anchors and entries of F (theta - theta*)^2. They differ in F and in which anchors
stay. F has mean 1, so that one strength means the same for any net (an EWC with an anchor per regime: the first F, and
the others are in its units); L2 is the case F = 1. The strengths below are for `pull_`, which is stable at any of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neon_sim.training.ewc import EWC
from neon_sim.training.fisher import Fisher
from neon_sim.training.protection.strategy import Protection


@dataclass(frozen=True)
class L2Config:
    """Every weight is held alike, where the last regime left it."""

    strength: float = 10.0  # not tuned: 1 + learning rate * 10 divides the gap at each step


@dataclass(frozen=True)
class EWCConfig:
    """Kirkpatrick et al. 2017: one anchor and one Fisher for each regime; their sum is kept, which is one parabola."""

    strength: float = 1e5  # that of online EWC; not tuned itself


@dataclass(frozen=True)
class OnlineEWCConfig:
    """Schwarz et al. 2018: the newest anchor only, and F <- decay * F + F_new, kept at mean 1 (`EWC.add_anchor`)."""

    strength: float = 1e5  # chosen on whole lives: benchmarks/forgetting.py --choose strength
    decay: float = 0.9  # not tuned

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay <= 1.0:
            raise ValueError(f"The decay of online EWC must be in [0, 1], got {self.decay}.")


class _Springs(Protection):
    """An `EWC`, and how it grows: decay None keeps every anchor."""

    anchors = True

    def __init__(self, params: Mapping[str, nn.Parameter], strength: float, decay: float | None) -> None:
        self._ewc = EWC(params, strength=strength)
        self._decay = decay

    @property
    def springs(self) -> EWC | None:
        """None before the first regime has ended."""
        return self._ewc if self._ewc.anchor_count else None

    def penalty_gradient_(self) -> None:
        """Add strength * F (theta - theta*)."""
        self._ewc.add_gradient_()

    def pull_(self, step: float) -> None:
        """theta <- theta* + (theta - theta*) / (1 + step * strength * F)."""
        self._ewc.pull_(step)

    def end_regime(self, fisher: Callable[[], Fisher]) -> None:
        """Anchor the present weights.

        Raises:
            ValueError: a Fisher that is zero everywhere or not finite; the anchors stay as they were.
        """
        self._ewc.add_anchor(self._ewc.params, fisher(), self._decay)

    def get_state(self) -> dict[str, Any]:
        """Anchors and Fisher."""
        return {"kind": self.kind, **self._ewc.state_dict()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over `get_state`."""
        super().set_state(state)
        self._ewc.load_state_dict(state)


class L2(_Springs):
    """Springs of one stiffness. No Fisher is measured."""

    kind = "l2"

    def __init__(self, params: Mapping[str, nn.Parameter], config: L2Config) -> None:
        super().__init__(params, config.strength, decay=0.0)

    def end_regime(self, fisher: Callable[[], Fisher]) -> None:
        """Anchor the present weights; `fisher` is not called."""
        super().end_regime(lambda: {name: torch.ones_like(param) for name, param in self._ewc.params.items()})


class SeparateEWC(_Springs):
    """An anchor for each regime."""

    kind = "ewc"

    def __init__(self, params: Mapping[str, nn.Parameter], config: EWCConfig) -> None:
        super().__init__(params, config.strength, decay=None)


class OnlineEWC(_Springs):
    """One anchor, and a Fisher that fades."""

    kind = "online_ewc"

    def __init__(self, params: Mapping[str, nn.Parameter], config: OnlineEWCConfig) -> None:
        super().__init__(params, config.strength, config.decay)

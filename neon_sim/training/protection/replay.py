"""Rehearsal: a reservoir of what was lived through is mixed into every batch; alone, or together with springs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from neon_sim.training.ewc import EWC
from neon_sim.training.fisher import Batch, Fisher
from neon_sim.training.protection.reservoir import Reservoir
from neon_sim.training.protection.springs import EWCConfig, OnlineEWC, OnlineEWCConfig, SeparateEWC
from neon_sim.training.protection.strategy import Protection


@dataclass(frozen=True)
class ReplayConfig:
    """How much is kept, and how much of it is rehearsed."""

    budget_bytes: int = 64 * 2**20
    share: float = 1.0  # rehearsed rows for each new one; both together make a batch
    rows: int | None = None  # that are kept at most; None = as many as the budget holds

    def __post_init__(self) -> None:
        counts = (self.budget_bytes, 1 if self.rows is None else self.rows)
        if min(counts) < 1 or not 0.0 < self.share <= 100.0:
            raise ValueError(f"Replay wants a budget of bytes, a row or more, and a share in (0, 100], got {self}.")


@dataclass(frozen=True)
class EWCReplayConfig:
    """Springs and rehearsal together."""

    ewc: EWCConfig | OnlineEWCConfig = field(default_factory=OnlineEWCConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)


class Replay(Protection):
    """Experience replay from a reservoir: all regimes stay in it, in proportion to how long they lasted."""

    kind = "replay"

    def __init__(self, config: ReplayConfig, rng: np.random.Generator) -> None:
        self.config = config
        self.reservoir = Reservoir(config.budget_bytes, rng, config.rows)

    def remember(self, batch: Batch) -> None:
        """Offer rows to the reservoir."""
        self.reservoir.add(batch)

    def new_rows(self, batch_size: int) -> int:
        """What leaves room for `share` times as many, one at least."""
        return max(1, round(batch_size / (1.0 + self.config.share)))

    def sample(self, new_rows: int, most: int | None = None) -> dict[str, Tensor] | None:
        """`share * new_rows` rows, rounded, and `most` at most; None while there are none."""
        rows = round(self.config.share * new_rows)
        return self.reservoir.sample(rows if most is None else min(rows, most))

    def memory_bytes(self) -> int:
        """The reservoir's bytes, used or not."""
        return self.reservoir.nbytes

    def get_state(self) -> dict[str, Any]:
        """The reservoir."""
        return {"kind": self.kind, **self.reservoir.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over `get_state`."""
        super().set_state(state)
        self.reservoir.set_state(state)


class EWCReplay(Protection):
    """Both of them, side by side."""

    kind = "ewc_replay"
    anchors = True

    def __init__(self, params: Mapping[str, nn.Parameter], config: EWCReplayConfig, rng: np.random.Generator) -> None:
        ewc = config.ewc
        self.ewc = OnlineEWC(params, ewc) if isinstance(ewc, OnlineEWCConfig) else SeparateEWC(params, ewc)
        self.replay = Replay(config.replay, rng)

    @property
    def springs(self) -> EWC | None:
        """EWC's."""
        return self.ewc.springs

    def penalty_gradient_(self) -> None:
        """EWC's."""
        self.ewc.penalty_gradient_()

    def pull_(self, step: float) -> None:
        """EWC's."""
        self.ewc.pull_(step)

    def remember(self, batch: Batch) -> None:
        """Replay's."""
        self.replay.remember(batch)

    def new_rows(self, batch_size: int) -> int:
        """Replay's."""
        return self.replay.new_rows(batch_size)

    def sample(self, new_rows: int, most: int | None = None) -> dict[str, Tensor] | None:
        """Replay's."""
        return self.replay.sample(new_rows, most)

    def end_regime(self, fisher: Callable[[], Fisher]) -> None:
        """EWC's; the reservoir does not ask which regime a row came from."""
        self.ewc.end_regime(fisher)

    def memory_bytes(self) -> int:
        """Of both."""
        return self.ewc.memory_bytes() + self.replay.memory_bytes()

    def get_state(self) -> dict[str, Any]:
        """Both states."""
        return {"kind": self.kind, "ewc": self.ewc.get_state(), "replay": self.replay.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over `get_state`."""
        super().set_state(state)
        self.ewc.set_state(state["ewc"])
        self.replay.set_state(state["replay"])

"""What a protection strategy is: the few calls that a learner makes, whatever stands behind them.

A life is a row of regimes (nominal, payload, weak motor ...). The learner offers every chunk that it lived through to
`remember`, mixes what `sample` gives into its batches, calls either `penalty_gradient_` before its optimiser or `pull_`
after it, and `end_regime` when the world is about to change.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from neon_sim.training.ewc import EWC
from neon_sim.training.fisher import Batch, Fisher


@dataclass(frozen=True)
class NoneConfig:
    """Naive fine-tuning: nothing is protected."""


class Protection:
    """A strategy that does nothing; the others overrule what they need."""

    kind: ClassVar[str] = "none"
    anchors: ClassVar[bool] = False  # whether it holds on to what was known when a regime ended

    @property
    def springs(self) -> EWC | None:
        """The springs in force; None where the strategy has none, or no regime has ended yet."""
        return None

    def penalty_gradient_(self) -> None:
        """Add the penalty's gradient to each parameter's .grad, in place: for plain gradient steps."""

    def pull_(self, step: float) -> None:
        """Or move the weights by one implicit step of the penalty alone, after the optimiser's, at its rate."""

    def remember(self, batch: Batch) -> None:
        """Offer what was lived through: tensors (N, ...), one row per chunk, the same names each time."""

    def new_rows(self, batch_size: int) -> int:
        """How many rows of a batch are of the newest experience; the others are what `sample` gives for so many."""
        return batch_size

    def sample(self, new_rows: int, most: int | None = None) -> dict[str, Tensor] | None:
        """Rows to learn from besides `new_rows` new ones, `most` at most; None for none."""
        return None

    def end_regime(self, fisher: Callable[[], Fisher]) -> None:
        """The present weights are good at what came up to now. `fisher` measures theirs, if the strategy wants it."""

    def memory_bytes(self) -> int:
        """Bytes of all tensors that the strategy keeps."""
        return sum(value.numel() * value.element_size() for value in tensors_in(self.get_state()))

    def get_state(self) -> dict[str, Any]:
        """Everything that later calls depend on, in types that `torch.load(weights_only=True)` reads."""
        return {"kind": self.kind}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `get_state` gave.

        Raises:
            ValueError: it is another strategy's, or belongs to other parameters.
        """
        given = state.get("kind", "ewc")  # states from before there was a choice are EWC's
        if given != self.kind:
            raise ValueError(
                f"The saved protection is of the strategy '{given}', this learner's is '{self.kind}'."
                " Resume with the config that it was saved with."
            )


def tensors_in(state: Any) -> Iterator[Tensor]:
    """Every tensor in nested mappings and sequences."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for value in state.values():
            yield from tensors_in(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from tensors_in(value)

"""An exponential average of the weights, and putting it in their place for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """avg <- decay avg + (1 - decay) theta after every step; the decay grows from 0 to its value over the first steps.

    A decay of 0 keeps nothing: the average is the weights themselves.
    """

    def __init__(self, params: Sequence[nn.Parameter], decay: float) -> None:
        self.params, self.decay = list(params), decay
        self.values: list[Tensor] = [p.detach().clone() for p in params] if decay else []

    def update(self, step: int) -> None:
        """Take in the weights after step number `step`, from 1."""
        if self.values:
            decay = min(self.decay, (step - 1) / (step + 9.0))
            torch._foreach_lerp_(self.values, [p.detach() for p in self.params], 1.0 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters hold the average within the block, and their own values after it."""
        if not self.values:
            yield
            return
        own = [p.detach().clone() for p in self.params]
        try:
            _write(self.params, self.values)
            yield
        finally:
            _write(self.params, own)


def _write(params: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for param, value in zip(params, values, strict=True):
            param.copy_(value)

"""What follows from weights that stay as they are, worked out once: folded convolutions, encoded words."""

from collections.abc import Callable, Hashable
from itertools import chain
from typing import Generic, TypeVar

import torch
from torch import nn

T = TypeVar("T")


class Kept(Generic[T]):
    """One value that follows from a module's weights and a question, kept until either changes.

    Under autograd nothing is kept, since a graph is good for one step; nor for a module that trains. What was made in
    inference mode is made anew outside, where autograd would refuse it.
    """

    def __init__(self) -> None:
        self._of: object = None
        self._value: T | None = None

    def get(self, module: nn.Module, question: Hashable, make: Callable[[], T]) -> T:
        """`make()`, or what it said last time for the same weights, buffers and question."""
        tensors = list(chain(module.parameters(), module.buffers()))
        if module.training or torch.is_grad_enabled() or any(tensor.is_inference() for tensor in tensors):
            return make()
        # Every change in place counts up a tensor's version; what replaces it lies elsewhere.
        weights = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        of = (weights, question, torch.is_inference_mode_enabled())
        if self._value is None or self._of != of:
            self._value, self._of = make(), of
        return self._value

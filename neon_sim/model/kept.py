"""What follows from weights that stay as they are, worked out once: folded convolutions, encoded words."""

from collections.abc import Callable, Hashable
from itertools import chain
from typing import Generic, TypeVar

import torch
from torch import nn

T = TypeVar("T")


class Kept(Generic[T]):
    """One value that follows from a frozen module's weights and a question, kept until either changes.

    Of a module that may learn (see `is_still`) nothing is kept: not every optimiser's steps can be told from outside.
    What is kept serves inference mode and autograd alike; under autocast it is made anew.
    """

    def __init__(self) -> None:
        self._of: object = None
        self._value: T | None = None

    def get(self, module: nn.Module, question: Hashable, make: Callable[[], T]) -> T:
        """`make()`, or what it said last time for the same weights, buffers and question."""
        tensors = list(chain(module.parameters(), module.buffers()))
        if not is_still(module) or any(tensor.is_inference() for tensor in tensors):
            return make()
        # Loading counts up a tensor's version, and what replaces it lies elsewhere.
        weights = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        kind = tensors[0].device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        of = (weights, question, precision)
        if self._value is None or self._of != of:
            with torch.inference_mode(False), torch.no_grad():
                self._value, self._of = make(), of
        return self._value


def is_still(module: nn.Module) -> bool:
    """Whether a module is frozen and runs as it is: neither learns, nor is traced by a compiler or a CUDA graph, which
    would write down where kept tensors lie.
    """
    recorded = torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
    learns = module.training or any(parameter.requires_grad for parameter in module.parameters())
    return not (learns or recorded or torch.compiler.is_compiling())

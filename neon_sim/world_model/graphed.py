"""A training step as a CUDA graph: recorded once, then launched as one.

A small model's step is some thousand kernels of a few microseconds each, and launching them one by one takes the CPU
longer than the GPU takes to run them.
"""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

_WARM_UP: Final = 3  # steps before the recording: lazily made state and chosen convolutions must be there by then


class GraphedStep:
    """Calls `learn(batch)` a few times, records the next call, and replays it from then on.

    learn: does everything on the GPU, waits for nothing, takes the gradients' memory anew (`set_to_none`), and returns
    a tuple of tensors. Its batches have one set of shapes. Only the numbers in GPU tensors may change from call to
    call: what `learn` reads from Python is what it was when it was recorded. What is returned is overwritten by the
    next call.
    """

    def __init__(self, learn: Callable[[dict[str, Tensor]], Any], generator: torch.Generator) -> None:
        """generator: the GPU's, that `learn` draws from; torch's own one is taken care of by torch."""
        self._learn, self._generator = learn, generator
        self._before = _WARM_UP
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: dict[str, Tensor] = {}
        self._found: Any = None

    def __call__(self, batch: dict[str, Tensor]) -> Any:
        """One step."""
        if self._before:
            self._before -= 1
            return self._aside(batch)
        if self._graph is None:
            self._record(batch)
        for name, value in batch.items():
            self._batch[name].copy_(value)
        assert self._graph is not None
        self._graph.replay()
        return self._found

    def _aside(self, batch: dict[str, Tensor]) -> Any:
        """On a stream of its own, as torch asks of what comes before a recording."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = self._learn(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return found

    def _record(self, batch: dict[str, Tensor]) -> None:
        self._batch = {name: value.clone() for name, value in batch.items()}
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may go on using the GPU
            self._found = self._learn(self._batch)
        self._graph = graph

"""How a network of tensors is run: as it is, by torch.compile, as a CUDA graph that is replayed, or by onnxruntime.

A chunk for one robot is hundreds of small kernels, and a GPU waits for the CPU to launch each of them; a graph launches
all of them at once. `benchmarks/foundation.py` measures the three side by side.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from neon_sim.inference.onnx_network import Network, OnnxNetwork
from neon_sim.inference.policy import ENGINES
from neon_sim.names import nearest

PARITY: Final = 1e-3  # of an action's unit: how far a recording may be from the network that it was made of
_WARM_UP = 3  # calls before a recording: libraries choose and load their kernels then


def pick_engine(wanted: str, device: torch.device) -> str:
    """An engine for a device: "auto" is a CUDA graph where there is CUDA, and eager elsewhere.

    Raises ValueError for a name that is none, for a CUDA graph on another device, and for ONNX on another than the CPU.
    """
    if wanted not in ENGINES:
        raise nearest("engine", wanted, ENGINES)
    if wanted == "cudagraph" and device.type != "cuda":
        raise ValueError(f"The engine 'cudagraph' wants a CUDA device, got {device}. Use auto, eager or compile.")
    if wanted == "onnx" and device.type != "cpu":
        raise ValueError(f"The engine 'onnx' runs on the CPU, got {device}. Use auto, eager or compile.")
    if wanted != "auto":
        return wanted
    return "cudagraph" if device.type == "cuda" else "eager"


def run_by(engine: str, network: Network, device: torch.device) -> Network:
    """The network run by one of `ENGINES`; call the answer without autograd.

    Raises as `pick_engine`, and as `OnnxNetwork`. A recording that is off its network raises at its first call if it
    was asked for by name, and is left out with a warning if "auto" chose it.
    """
    chosen = pick_engine(engine, device)
    if chosen == "compile":
        return torch.compile(network, dynamic=False)
    if chosen == "onnx":
        return OnnxNetwork(network, PARITY)
    return RecordedNetwork(network, strict=engine != "auto") if chosen == "cudagraph" else network


@dataclass(frozen=True)
class Recording:
    """A CUDA graph, and the memory that it reads its inputs from and leaves its answer in."""

    graph: Any  # torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    answer: Tensor

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Replay it on other inputs of the same names and shapes; the answer is the caller's own."""
        for name, held in self.inputs.items():
            held.copy_(inputs[name])
        self.graph.replay()
        return self.answer.clone()


class RecordedNetwork:
    """A network on a CUDA device that is recorded at its first call with inputs of some shapes, and replayed later.

    Its weights may change in place, as optimisers and load_state_dict do; one that is moved or whose weights are
    replaced wants a new RecordedNetwork. It must neither read a tensor back to the CPU nor draw random numbers.

    Args:
        network: computes without autograd.
        strict: raise RuntimeError for a recording whose answer is farther than `PARITY` from the network's own; False
            warns, and such inputs go to the network as it is.
    """

    def __init__(self, network: Network, strict: bool = True) -> None:
        self.network, self.strict = network, strict
        self._known: dict[Any, Network] = {}

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Answer inputs on the CUDA device."""
        shapes = tuple((name, value.shape, value.dtype) for name, value in sorted(inputs.items()))
        # Memory that is written again at every call may not belong to inference mode.
        with torch.inference_mode(False), torch.no_grad():
            if shapes not in self._known:
                self._known[shapes] = self._checked(inputs)
            return self._known[shapes](inputs)

    def _checked(self, inputs: Mapping[str, Tensor]) -> Network:
        recording = record(self.network, inputs)
        gap = float((recording(inputs) - self.network(recording.inputs)).abs().max())
        if gap <= PARITY:
            return recording
        message = f"The CUDA graph's answer is {gap:.1e} off the network's own, more than {PARITY:.0e}. Use eager."
        if self.strict:
            raise RuntimeError(message)
        warnings.warn(message, stacklevel=2)
        return self.network


def record(network: Network, inputs: Mapping[str, Tensor]) -> Recording:
    """Record a network on inputs of a CUDA device; call it without autograd and outside inference mode."""
    held = {name: value.clone() for name, value in inputs.items()}
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            network(held)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = network(held)
    return Recording(graph, held, answer)

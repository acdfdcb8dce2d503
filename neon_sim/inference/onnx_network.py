"""OnnxNetwork: a network of tensors that onnxruntime runs on the CPU, exported when it is first asked."""

import io
import logging
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor, nn

PIP_LINE: Final = "pip install 'neon-sim[onnx]'"

Network = Callable[[Mapping[str, Tensor]], Tensor]  # tensors by name -> one tensor
Answer = Callable[[list[Tensor]], Tensor]  # the same of tensors in order


class OnnxNetwork:
    """Exported anew for inputs of other names or shapes, some seconds each; checked against the network then.

    The weights are those that the network had when it was exported: one that has learned since wants a new OnnxNetwork.
    It runs on as many threads as torch does at that time.

    Args:
        network: computes on the CPU without autograd, draws no random numbers, and asks no tensor for its numbers.
        parity: how far an answer may be from the network's own.

    Raises ImportError, with the pip line, without onnx, onnxscript and onnxruntime.
    """

    def __init__(self, network: Network, parity: float) -> None:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            _package(package)
        self.network, self.parity = network, parity
        self._known: dict[Any, Answer] = {}

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Answer inputs on the CPU. Raises RuntimeError for an export that is farther than `parity` off."""
        names = sorted(inputs)
        shapes = tuple((name, inputs[name].shape, inputs[name].dtype) for name in names)
        if shapes not in self._known:
            self._known[shapes] = self._checked(names, inputs)
        return self._known[shapes]([inputs[name] for name in names])

    def _checked(self, names: list[str], inputs: Mapping[str, Tensor]) -> Answer:
        values = [inputs[name] for name in names]
        with torch.no_grad():
            wanted = self.network(inputs)  # first: what it refuses is said in its own words
        answer = _loaded(_exported(self.network, names, values))
        gap = float((answer(values) - wanted).abs().max())
        if not gap <= self.parity:
            raise RuntimeError(
                f"onnxruntime's answer is {gap:.1e} off the network's own, more than {self.parity:.0e}. Use eager."
            )
        return answer


class _ByPosition(nn.Module):
    """A network of named tensors as a module of tensors in order, which is what an exporter takes."""

    def __init__(self, network: Network, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *values: Tensor) -> Tensor:
        return self.network(dict(zip(self.names, values, strict=True)))


def _exported(network: Network, names: list[str], values: list[Tensor]) -> bytes:
    module, log = _ByPosition(network, names).eval(), logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # else it tells what it does without torchvision
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            examples = tuple(value.clone() for value in values)  # those of inference mode are not traced
            program = torch.onnx.export(module, examples, dynamo=True, verbose=False)
    finally:
        log.setLevel(level)
    assert program is not None  # as it is for dynamo=True
    file = io.BytesIO()
    _package("onnx").save(program.model_proto, file)
    return file.getvalue()


def _loaded(model: bytes) -> Answer:
    """The exported network, of tensors in order."""
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    places = [place.name for place in session.get_inputs()]

    def answer(values: list[Tensor]) -> Tensor:
        given = {place: value.numpy() for place, value in zip(places, values, strict=True)}
        (found,) = session.run(None, given)
        return torch.from_numpy(found)

    return answer


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"The engine 'onnx' needs {name!r}, which cannot be imported: {PIP_LINE}") from error

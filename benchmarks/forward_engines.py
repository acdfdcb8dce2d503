"""Ways to run one network of fixed shapes on a CPU: eager, inference mode, bfloat16, torch.compile and onnxruntime.

A way that this machine does not have, or that fails, is left out and says why. The others are first compared with
eager: how far their answers differ is part of the choice.
"""

import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.model.compact import CompactBackbone
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.training.precision import has_bfloat16

ENGINES: Final = ("eager", "inference mode", "bf16", "torch.compile", "onnxruntime")
COMPILERS: Final = ("g++", "clang++", "c++")  # one of them torch.compile needs


class PolicyGraph(nn.Module):
    """The shipped kind of policy as one network of tensors: clip, words, proprioception and palms in, a chunk out.

    Words come encoded, (1, D) of `NeonVLA.encode(...).text`: they stay the same for an episode. Raises ValueError for a
    policy behind another backbone than the compact one, or with heads that sample.
    """

    def __init__(self, model: NeonVLA) -> None:
        super().__init__()
        if not isinstance(model.backbone, CompactBackbone) or model.action_head.samples:
            raise ValueError(
                "PolicyGraph wants the compact backbone and heads that do not sample, got "
                f"{model.config.backbone.model_id} and {model.action_head.config.head_type} heads."
            )
        self.model, self.backbone = model, model.backbone
        self.eval()

    def forward(self, frames: Tensor, text: Tensor, proprio: Tensor, eef: Tensor) -> Tensor:
        """frames (1, 4, H, W, 3) uint8, text (1, D), proprio (1, 125), eef (1, 14) -> chunk (1, 16, A)."""
        tokens = self.backbone.mix_frames(self.backbone.encode_frames(frames))
        pooled = self.backbone.clip_vector(tokens) + self.backbone.find(tokens, text)
        chunk, _ = self.model(BackboneFeatures(tokens, pooled, text), {"proprio": proprio, "eef": eef})
        return chunk


@dataclass
class Ways:
    """One network, its inputs, and the calls that run it; `missing` says why a way is not among them."""

    calls: dict[str, Callable[[], Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def differences(self) -> dict[str, float]:
        """Largest difference of any entry of the answer from eager's, by way."""
        plain = np.asarray(self.calls["eager"]().detach())
        return {name: float(np.abs(np.asarray(answer(call)) - plain).max()) for name, call in self.calls.items()}

    def take_up(self, name: str, build: Callable[[], Callable[[], Any]]) -> None:
        """Build a way and call it once; what fails is told on stderr, and its kind of error is why the way is missing.

        Compilers and exporters raise errors of their own: none of them may cost the figures of the other ways.
        """
        try:
            call = build()
            call()
        except Exception as error:
            traceback.print_exc()
            self.missing[name] = f"failed: {type(error).__name__}"
        else:
            self.calls[name] = call


def answer(call: Callable[[], Any]) -> np.ndarray:
    """What a call returns, as a float32 array."""
    value = call()
    return np.asarray(value.detach().float() if isinstance(value, Tensor) else value, dtype=np.float32)


def ways_of(module: nn.Module, inputs: tuple[Tensor, ...], folder: Path, threads: int = 1) -> Ways:
    """Every way to run `module(*inputs)` on this machine; the ONNX file goes to `folder`."""
    ways = Ways({"eager": lambda: module(*inputs), "inference mode": torch.inference_mode()(lambda: module(*inputs))})
    if has_bfloat16(torch.device("cpu")):
        ways.calls["bf16"] = in_bfloat16(module, inputs)
    else:
        ways.missing["bf16"] = "the CPU has none"
    if any(map(shutil.which, COMPILERS)):
        ways.take_up("torch.compile", lambda: in_compiled_code(module, inputs))
    else:
        ways.missing["torch.compile"] = "no C++ compiler"
    lacking = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if lacking:
        ways.missing["onnxruntime"] = f"pip install {' '.join(lacking)}"
    else:
        path = folder / "network.onnx"
        ways.take_up("onnxruntime", lambda: onnx_call(export_onnx(module, inputs, path), inputs, threads))
    return ways


def in_bfloat16(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """The module under autocast to bfloat16."""

    def call() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            result: Tensor = module(*inputs)
            return result

    return call


def in_compiled_code(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """The module compiled by torch.compile; the first call compiles."""
    compiled = torch.compile(module, dynamic=False)

    def call() -> Tensor:
        with torch.no_grad():
            result: Tensor = compiled(*inputs)
            return result

    return call


def export_onnx(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> Path:
    """Write a network with the shapes of `inputs` as one ONNX file, weights within.

    Raises ImportError without onnx and onnxscript.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        torch.onnx.export(module, inputs, str(path), dynamo=True, external_data=False, verbose=False)
    return path


def onnx_call(path: Path, inputs: tuple[Tensor, ...], threads: int) -> Callable[[], np.ndarray]:
    """The exported network on onnxruntime's CPU provider with so many threads.

    Raises ImportError without onnxruntime.
    """
    onnxruntime = import_module("onnxruntime")  # not in every installation
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {given.name: value.numpy() for given, value in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: session.run(None, feed)[0]

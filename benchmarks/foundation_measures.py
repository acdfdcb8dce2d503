"""What one foundation model, and the action layer, cost on a device: each measured in a process of its own."""

import gc
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from forward import HEADS, plain_layers, weights_of
from forward_engines import PolicyGraph
from forward_ways import FEATURES, times_ms
from foundation_shapes import INSTRUCTION, shape_of, write_random
from torch import Tensor, nn

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.inference.engines import Network, run_by
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.instruction import encode_instruction
from neon_sim.model.action_heads import ActionHeadConfig, G1ActionHead
from neon_sim.model.neon_config import NeonConfig
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneConfig, VideoBackbone
from neon_sim.shipped import asset_path

PRECISIONS: Final = ("bf16", "NF4")
LENGTHS: Final = (1, 16)  # frames of a clip: the newest alone, and the documents' most
CAMERA_PX, SOUND_SAMPLES, FPS = 128, 5120, 4.0  # what the env senses
_SHARED: Final = ("model", "encoders", "fusion", "tokenizer", "ears", "mean", "std")  # what `load` fills in


@dataclass(frozen=True)
class Amount:
    """How much is measured, and on what."""

    device: str  # cuda or cpu
    seconds: float  # of each latency
    tiny: bool = False  # the same models with some ten thousand weights


def backbone_figures(name: str, folder: str, amount: Amount) -> dict[str, Any]:
    """Memory and latency of one model of `foundation_shapes.PUBLISHED` in each precision; writes it to a folder."""
    device = torch.device(amount.device)
    where, shape = Path(folder) / name, shape_of(name, amount.tiny)
    began = time.perf_counter()
    weights = write_random(shape, where, device)
    figures: dict[str, Any] = {"weights": weights, "write_s": time.perf_counter() - began}
    options: dict[str, Any] = {"dtype": "bfloat16", "device": "auto" if device.type == "cuda" else amount.device}
    for precision in PRECISIONS:
        config = BackboneConfig(shape.model_id, str(where), load_in_4bit=precision == "NF4", **options)
        figures[precision] = loaded_figures(config, amount)
    return figures


def loaded_figures(config: BackboneConfig, amount: Amount) -> dict[str, Any]:
    """Load one backbone, encode clips with it, and let a whole policy act by it."""
    before, began = memory_mb(amount, fresh=True), time.perf_counter()
    backbone = VideoBackbone.from_config(config).load()
    loaded = time.perf_counter() - began
    figures: dict[str, Any] = {
        "load_s": loaded, "weights_mb": difference(memory_mb(amount), before),
        "loading_peak_mb": difference(peak_mb(amount), before), "hidden_size": backbone.hidden_size,
    }  # fmt: skip
    for length in LENGTHS:
        memory_mb(amount, fresh=True)
        figures[f"encode_{length}_ms"] = latency(question(with_length(backbone, length), length, amount), amount)
        figures[f"encode_{length}_peak_mb"] = difference(peak_mb(amount), before)
    figures["policy_ms"] = policy_latency(config, backbone, amount)
    return figures


def with_length(loaded: VideoBackbone, length: int) -> VideoBackbone:
    """A backbone for clips of another length on the weights of one that is loaded."""
    known: Any = loaded
    other: Any = VideoBackbone.from_config(replace(known.config, max_frames=length))
    for name in _SHARED:
        if hasattr(known, name):
            setattr(other, name, getattr(known, name))
    return other


@torch.no_grad()
def question(backbone: VideoBackbone, length: int, amount: Amount) -> Callable[[], Tensor]:
    """A call that encodes one clip with words, and sound where the backbone hears; words stay, as for a robot.

    Raises RuntimeError when the features are not finite: what is timed must be an answer.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (1, length, CAMERA_PX, CAMERA_PX, 3), dtype=np.uint8)
    clip = torch.from_numpy(pixels).to(amount.device)
    sound = (0.1 * torch.sin(torch.arange(SOUND_SAMPLES) / 6.0)[None].to(amount.device),) if backbone.hears else ()
    encode = torch.no_grad()(lambda: backbone(clip, [INSTRUCTION], *sound).pooled)
    if not bool(encode().isfinite().all()):
        raise RuntimeError(f"The features of {type(backbone).__name__} are not finite. Look at its random weights.")
    return encode


def policy_latency(config: BackboneConfig, backbone: VideoBackbone, amount: Amount) -> dict[str, dict[str, float]]:
    """`NeonPolicy.act` with the documents' heads on a full clip, by engine: observation in, chunk on the CPU out."""
    model = NeonVLA(NeonConfig(backbone=config, mlp_hidden=512), backbone).to(amount.device)
    found = {}
    for engine in engines(amount, ("eager", "cudagraph")):
        policy = NeonPolicy(model, engine=engine)
        policy.reset()
        for index in range(config.max_frames):
            policy.observe(observation(index), index / FPS)
        found[engine] = latency(policy.act, amount)
    return found


def observation(index: int) -> dict[str, np.ndarray]:
    """The env's four senses and words, with a picture of its own for each index."""
    camera = np.random.default_rng(index).integers(0, 256, (CAMERA_PX, CAMERA_PX, 3), dtype=np.uint8)
    vectors = {"proprio": 125, "eef": 14, "lidar": 3072, "audio": SOUND_SAMPLES}
    senses = {name: np.full(width, 0.1, np.float32) for name, width in vectors.items()}
    return {"camera": camera, **senses, "instruction": encode_instruction(INSTRUCTION)}


def head_rows(
    kinds: Sequence[str], batches: Sequence[int], ways: Sequence[str], amount: Amount
) -> list[dict[str, Any]]:
    """Heads of the documents' sizes by name of `forward.HEADS`, each beside plain layers with as many weights."""
    rows = []
    for kind in kinds:
        torch.manual_seed(0)
        head = G1ActionHead(ActionHeadConfig(hidden_size=FEATURES, **HEADS[kind]), G1ActionSpace())
        head = head.eval().to(amount.device)
        weights, width = weights_of(head), head.config.num_action_steps * head.config.action_dim
        floor = plain_layers(weights, FEATURES, width).eval().to(amount.device)
        for batch in batches:
            features = torch.randn(batch, FEATURES, device=amount.device)
            inputs = {"features": features, **head.draw_noise(features)}
            networks: dict[str, Network] = {"": partial(_decode, head), "floor, ": partial(_pass, floor)}
            rows.append({"network": f"{kind} head", "weights": weights, **measured(networks, inputs, ways, amount)})
    return rows


def _decode(head: G1ActionHead, inputs: Mapping[str, Tensor]) -> Tensor:
    """A head on features and on noise that is drawn already."""
    noise = {name: value for name, value in inputs.items() if name != "features"}
    chunk: Tensor = head(inputs["features"], noise=noise)
    return chunk


def _pass(floor: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    answer: Tensor = floor(inputs["features"])
    return answer


def compact_rows(batches: Sequence[int], ways: Sequence[str], amount: Amount) -> list[dict[str, Any]]:
    """The shipped policy, compact backbone included, as one network of clip, encoded words, body and palms."""
    model = NeonVLA.from_pretrained(asset_path("g1/demo_heads"), device=amount.device)
    graph, device = PolicyGraph(model), torch.device(amount.device)
    backbone, table = model.config.backbone, model.parameter_table()
    rows, generator = [], torch.Generator().manual_seed(0)
    for batch in batches:
        shape = (batch, backbone.max_frames, backbone.image_size, backbone.image_size, 3)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
        with torch.no_grad():
            text = model.encode(frames, [INSTRUCTION] * batch).text
        body, eef = (0.1 * torch.randn(batch, width, generator=generator).to(device) for width in (125, 14))
        inputs = {"frames": frames, "text": text, "proprio": body, "eef": eef}
        networks: dict[str, Network] = {"": lambda given: graph(**given)}
        weights = table["trainable"] + table["backbone (frozen)"]
        rows.append({"network": "compact policy", "weights": weights, **measured(networks, inputs, ways, amount)})
    return rows


def measured(
    networks: Mapping[str, Network], inputs: Mapping[str, Tensor], ways: Sequence[str], amount: Amount
) -> dict[str, Any]:
    """Networks on the same inputs in each way, taken in turns, and how far each way is from eager."""
    device = torch.device(amount.device)
    calls: dict[str, Callable[[], Tensor]] = {}
    for prefix, network in networks.items():
        for way in engines(amount, ways):
            calls[prefix + way] = torch.no_grad()(partial(run_by(way, network, device), inputs))
    firsts = {name: float(_timed(call, device)) for name, call in calls.items()}
    plain = {prefix: calls[f"{prefix}eager"]().float() for prefix in networks}
    gaps = {
        prefix + way: float((calls[prefix + way]().float() - plain[prefix]).abs().max())
        for prefix in networks for way in engines(amount, ways)
    }  # fmt: skip
    found = times_ms({name: partial(_waited, call, device) for name, call in calls.items()}, amount.seconds)
    return {
        "batch": len(next(iter(inputs.values()))),
        "p50_ms": {name: float(np.median(values)) for name, values in found.items()},
        "p99_ms": {name: float(np.quantile(values, 0.99)) for name, values in found.items()},
        "first_call_s": firsts, "off_eager": gaps, "repeats": len(next(iter(found.values()))),
    }  # fmt: skip


def engines(amount: Amount, ways: Sequence[str]) -> list[str]:
    """The ways that the device has."""
    return [way for way in ways if way != "cudagraph" or amount.device == "cuda"]


def latency(call: Callable[[], Any], amount: Amount) -> dict[str, float]:
    """p50 and p99 of a call in ms, after three that warm up; each waits for the device, as a robot would."""
    device = torch.device(amount.device)
    for _ in range(3):
        _waited(call, device)
    found = times_ms({"call": partial(_waited, call, device)}, amount.seconds)["call"]
    return {"p50": float(np.median(found)), "p99": float(np.quantile(found, 0.99)), "repeats": len(found)}


def _waited(call: Callable[[], Any], device: torch.device) -> None:
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(call: Callable[[], Any], device: torch.device) -> float:
    began = time.perf_counter()
    _waited(call, device)
    return time.perf_counter() - began


def memory_mb(amount: Amount, fresh: bool = False) -> float | None:
    """MB that tensors occupy on the GPU now; fresh forgets the peak. None on a CPU: not measured."""
    if amount.device != "cuda":
        return None
    if fresh:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 1e6


def peak_mb(amount: Amount) -> float | None:
    """The most MB that tensors have occupied on the GPU since the peak was forgotten."""
    return None if amount.device != "cuda" else torch.cuda.max_memory_allocated() / 1e6


def difference(later: float | None, earlier: float | None) -> float | None:
    """How much more, where both are measured."""
    return None if later is None or earlier is None else later - earlier


def one_backbone(name: str, amount: Amount, shelf: str | None) -> dict[str, Any]:
    """`backbone_figures` in a folder that is gone afterwards; shelf: where there is room for it, None anywhere."""
    with tempfile.TemporaryDirectory(dir=shelf) as folder:
        return backbone_figures(name, folder, amount)


def graphed_heads(amount: Amount) -> list[dict[str, Any]]:
    """Every kind of head, and the compact policy, eager and as a CUDA graph."""
    batches, ways = ((1,) if amount.tiny else (1, 64)), ("eager", "cudagraph")
    kinds = ("chunking",) if amount.tiny else ("chunking", "flow", "dit", "ensemble")
    return head_rows(kinds, batches, ways, amount) + compact_rows(batches, ways, amount)


def compiled_heads(amount: Amount) -> list[dict[str, Any]]:
    """Two kinds of head and the compact policy by torch.compile as well, which takes long to begin."""
    batches, ways = (1, 64), ("eager", "compile", "cudagraph")
    return head_rows(("chunking", "flow"), batches, ways, amount) + compact_rows((1,), ways, amount)

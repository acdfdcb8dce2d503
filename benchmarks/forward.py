"""What a forward pass costs: every head, beside plain linear layers with as many weights, and the whole policy.

    python benchmarks/forward.py                  # estimated ten minutes on two idle cores, two of them compiling
    python benchmarks/forward.py --preset tiny    # a minute, prints and writes nothing

Heads have the documents' sizes (features of 2048, arms_only, 512 wide) and, where it says small, those that suit a CPU.
The floor has the same number of weights in linear layers with ReLU between, and runs in turns with its head. The whole
policy is the shipped one: frames, words and senses in, a chunk out; as in an episode the words stay the same, so they
are encoded once. Three networks are then run in every way that the machine has (`forward_engines.ENGINES`), one thread,
with how far each answer is from eager's; there the policy senses proprioception and palms, and its words are encoded
already. A `NeonPolicy` runs in inference mode, and all behind its backbone by torch.compile with `engine="compile"`, or
by onnxruntime with `engine="onnx"`; a whole policy as one ONNX file is `forward_engines.export_onnx`'s. Memory is the
largest that a fresh process of each compact preset had resident: with the libraries, and with the policy after an
answer to all senses. Each of the three tables is written when it is done.
"""

import argparse
import datetime
import multiprocessing
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from forward_ways import FEATURES, WAYS_HEADER, question, times_ms, ways_rows, ways_text
from report import ROOT, table, write_report
from torch import nn
from tqdm import tqdm

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.action_heads import ActionHeadConfig, G1ActionHead
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import COMPACT
from neon_sim.names import nearest
from neon_sim.shipped import asset_path
from neon_sim.training.config import PRESETS as TRAINING_PRESETS
from neon_sim.training.precision import has_bfloat16
from neon_sim.training.preset_table import memory_mb

SMALL: Final[dict[str, Any]] = {"dit_hidden": 128, "dit_layers": 2, "dit_heads": 4}
HEADS: Final[dict[str, dict[str, Any]]] = {
    "mlp": {"use_action_chunking": False},
    "chunking": {},
    "flow": {"head_type": "flow"},
    "dit": {"head_type": "dit"},
    "dit, small": {"head_type": "dit", **SMALL},
    "ensemble": {"head_type": "ensemble"},
    "ensemble, small": {"head_type": "ensemble", **SMALL},
    "state relative": {"state_relative": True},
}
MODES: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "eager": nullcontext,
    "inference mode": torch.inference_mode,
    "bf16": lambda: _Both(torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)),
}
TARGET_HEAD_MS, TARGET_POLICY_MS = 2.0, 10.0  # p50 at batch 1 on one core
HEADER: Final = (
    "what",
    "weights",
    "batch",
    "threads",
    "eager p50 / p99, ms",
    "best p50 / p99, ms",
    "mode",
    "of its floor",
)
MEMORY_HEADER: Final = ("preset", "weights", "backbone and action layer, MB", "libraries, MB", "with the policy, MB")


class _Both:
    """Two context managers as one."""

    def __init__(self, first: AbstractContextManager[Any], second: AbstractContextManager[Any]) -> None:
        self.parts = first, second

    def __enter__(self) -> None:
        for part in self.parts:
            part.__enter__()

    def __exit__(self, *error: Any) -> None:
        for part in reversed(self.parts):
            part.__exit__(*error)


@dataclass(frozen=True)
class Preset:
    """How much is measured."""

    seconds: float  # of each measurement
    heads: tuple[str, ...]
    batches: tuple[int, ...] = (1, 64)
    threads: tuple[int, ...] = (1, 2)
    resident: tuple[str, ...] = ()  # training presets whose memory is measured
    networks: tuple[str, ...] = ("standard head", "standard head, batch 64", "whole policy")  # run in every way


COMPACT_PRESETS: Final = tuple(n for n, build in TRAINING_PRESETS.items() if build().model.backbone.model_id == COMPACT)
PRESETS: Final = {
    "full": Preset(1.5, tuple(HEADS), resident=COMPACT_PRESETS),
    "tiny": Preset(0.2, ("chunking", "flow"), (1,), (1,), ("compact_reach",), ("standard head",)),
}


def plain_layers(weights: int, input_dim: int, output_dim: int) -> nn.Sequential:
    """Three linear layers with ReLU between and, nearly, so many weights: the floor of a head of that size."""
    # One hidden width h twice: (input + 1) h + (h + 1) h + (h + 1) output = weights.
    linear = input_dim + output_dim + 2
    width = round((-linear + (linear**2 + 4 * max(weights - output_dim, 1)) ** 0.5) / 2)
    layers = (nn.Linear(input_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(width, output_dim))


def weights_of(module: nn.Module) -> int:
    """How many numbers a module has learned."""
    return sum(parameter.numel() for parameter in module.parameters())


def measure(call: Callable[[], Any], floor: Callable[[], Any] | None, seconds: float) -> dict[str, Any]:
    """One row: the call in every mode, and its floor in inference mode."""

    def within(mode: str, what: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> None:
            with MODES[mode]():
                what()

        return run

    usable = [mode for mode in MODES if mode != "bf16" or has_bfloat16(torch.device("cpu"))]
    calls = {mode: within(mode, call) for mode in usable}
    if floor is not None:
        calls["floor"] = within("inference mode", floor)
    found = times_ms(calls, seconds)
    middle = {name: float(np.median(values)) for name, values in found.items()}
    best = min(usable, key=lambda mode: middle[mode])
    return {
        "eager_ms": middle["eager"],
        "eager_p99_ms": float(np.quantile(found["eager"], 0.99)),
        "best": best,
        "p50_ms": middle[best],
        "p99_ms": float(np.quantile(found[best], 0.99)),
        "modes_p50_ms": {mode: middle[mode] for mode in usable},
        "floor_ms": middle.get("floor"),
        "ratio": middle[best] / middle["floor"] if floor is not None else None,
    }


def head_rows(preset: Preset) -> list[dict[str, Any]]:
    """Every head at every batch size and number of threads."""
    rows = []
    for name in tqdm(preset.heads, desc="heads"):
        torch.manual_seed(0)
        head = G1ActionHead(ActionHeadConfig(hidden_size=FEATURES, **HEADS[name]), G1ActionSpace()).eval()
        weights, dim = weights_of(head), head.config.action_dim
        floor = plain_layers(weights, FEATURES, head.config.num_action_steps * dim).eval()
        for batch in preset.batches:
            features, state = torch.randn(batch, FEATURES), torch.zeros(batch, dim)
            for threads in preset.threads:
                torch.set_num_threads(threads)
                row = measure(partial(head, features, state=state), partial(floor, features), preset.seconds)
                rows.append({"what": name, "weights": weights, "batch": batch, "threads": threads, **row})
    return rows


def peak_mb() -> float:
    """The most that this process ever had resident, MB; on Linux from /proc, where getrusage tells a parent's peak."""
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak) * 1024 / 1e6  # kB there are of 1024 bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


@torch.inference_mode()
def resident(name: str) -> dict[str, Any]:
    """A training preset's policy, loaded and asked once in this process; call it in a fresh one."""
    torch.set_num_threads(1)
    libraries = peak_mb()
    model = NeonVLA(TRAINING_PRESETS[name]().model).eval()
    clip, words, senses = question(model)
    model(model.encode(clip, words), senses)
    counted = model.parameter_table()
    weights = counted["trainable"] + counted["backbone (frozen)"]
    mine = {"weights": weights, "weights_mb": memory_mb(weights, "adamw")[0]}
    return {"preset": name, **mine, "libraries_mb": libraries, "with_policy_mb": peak_mb()}


def memory_rows(preset: Preset) -> list[dict[str, Any]]:
    """Each preset's memory, every one in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        found = pool.imap(resident, preset.resident, chunksize=1)
        return list(tqdm(found, total=len(preset.resident), desc="memory of each preset"))


def memory_lines(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The memory table: a row for each preset, those that were not measured as well."""
    measured = {row["preset"] for row in rows}
    others = [name for name in TRAINING_PRESETS if name not in measured]
    unknown = ["not measured"] * (len(MEMORY_HEADER) - 1)
    return [memory_text(row) for row in rows] + [[name, *unknown] for name in others]


def memory_text(row: dict[str, Any]) -> list[str]:
    """A row of the memory table for a preset that was measured."""
    numbers = (row[name] for name in ("weights_mb", "libraries_mb", "with_policy_mb"))
    return [row["preset"], f"{row['weights'] / 1e6:.2f} M", *(f"{number:.0f}" for number in numbers)]


def policy_rows(preset: Preset) -> list[dict[str, Any]]:
    """The shipped policy at batch 1: its backbone, its action layer, and both."""
    model = NeonVLA.from_pretrained(asset_path("g1/demo_heads"))
    clip, words, senses = question(model)
    features = model.encode(clip, words)
    table_of = model.parameter_table()
    parts: dict[str, tuple[int, Callable[[], Any]]] = {
        "compact backbone": (table_of["backbone (frozen)"], lambda: model.encode(clip, words)),
        "encoders, fusion, heads": (table_of["trainable"], lambda: model(features, senses)),
        "whole policy": (
            table_of["backbone (frozen)"] + table_of["trainable"],
            lambda: model(model.encode(clip, words), senses),
        ),
    }
    rows = []
    for name, (weights, call) in tqdm(parts.items(), desc="the shipped policy"):
        for threads in preset.threads:
            torch.set_num_threads(threads)
            row = measure(call, None, preset.seconds)
            rows.append({"what": name, "weights": weights, "batch": 1, "threads": threads, **row})
    return rows


def text_of(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    numbers = [f"{row['weights'] / 1e6:.2f} M", str(row["batch"]), str(row["threads"])]
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
    best = f"{row['p50_ms']:.2f} / {row['p99_ms']:.2f}"
    return [row["what"], *numbers, f"{row['eager_ms']:.2f} / {row['eager_p99_ms']:.2f}", best, row["best"], ratio]


def judged(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The two figures with a target: batch 1, one thread, p50 in ms."""
    alone = {row["what"]: row["p50_ms"] for row in rows if row["batch"] == 1 and row["threads"] == 1}
    targets = {"chunking": TARGET_HEAD_MS, "whole policy": TARGET_POLICY_MS}
    return {
        what: {"p50_ms": alone[what], "target_ms": target, "met": alone[what] <= target}
        for what, target in targets.items()
    }


def target_text(what: str, found: dict[str, Any]) -> list[str]:
    """A row of the table that says whether a target was met."""
    verdict = f"{found['p50_ms']:.2f}: {'met' if found['met'] else 'missed'}"
    return [f"target: {what}, p50 at most {found['target_ms']:g} ms", "", "1", "1", "", verdict, "", ""]


def main(root: Path = ROOT) -> None:
    """Measure, print, and report what was measured in full, part by part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=", ".join(PRESETS))
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    preset = PRESETS[args.preset]

    def tell(name: str, figures: dict[str, Any], header: Sequence[str], lines: list[list[str]]) -> None:
        print(table(header, lines))
        if args.preset == "full":
            write_report(name, figures, header, lines, datetime.date.today().isoformat(), root)

    rows = head_rows(preset) + policy_rows(preset)
    targets = judged(rows)
    lines = [text_of(row) for row in rows] + [target_text(what, found) for what, found in targets.items()]
    tell("forward", {"targets": targets, "rows": rows}, HEADER, lines)
    ways = ways_rows(preset.networks, preset.seconds)
    tell("forward_ways", {"rows": ways}, WAYS_HEADER, [ways_text(row) for row in ways])
    memory = memory_rows(preset)
    tell("memory", {"rows": memory}, MEMORY_HEADER, memory_lines(memory))


if __name__ == "__main__":
    main()

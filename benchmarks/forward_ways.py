"""Three networks in every way that a CPU can run them: the choice is the fastest whose answer is as good as eager's."""

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from forward_engines import ENGINES, PolicyGraph, ways_of
from torch import Tensor, nn
from tqdm import tqdm

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.action_heads import ActionHeadConfig, G1ActionHead
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.shipped import asset_path

FEATURES: Final = 2048  # that the documents' heads read
WAYS_HEADER: Final = ("network", "batch", *(f"{name}, p50 ms" for name in ENGINES), "choice", "off eager by at most")
PARITY: Final = 1e-3  # of an action's unit: a way that is farther from eager is not chosen


def times_ms(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, np.ndarray]:
    """Milliseconds of each call, taken in turns so that what disturbs one disturbs all."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(next(iter(found.values()))) < 10:
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            found[name].append(1e3 * (time.perf_counter() - began))
    return {name: np.array(values) for name, values in found.items()}


def question(model: NeonVLA) -> tuple[Tensor, list[str], dict[str, Tensor]]:
    """A clip, words and all senses for one robot."""
    backbone = model.config.backbone
    clip = torch.zeros(1, backbone.max_frames, backbone.image_size, backbone.image_size, 3, dtype=torch.uint8)
    senses = {
        "proprio": torch.zeros(1, 125), "eef": torch.zeros(1, 14), "lidar": torch.ones(1, 3072),
        "audio": torch.zeros(1, 5120),
    }  # fmt: skip
    return clip, ["touch the red ball with your left hand"], senses


def networks() -> dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]]:
    """What is run in every way: a network in eval mode, and its inputs."""

    def head(batch: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
        torch.manual_seed(0)
        built = G1ActionHead(ActionHeadConfig(hidden_size=FEATURES), G1ActionSpace()).eval()
        return built, (torch.randn(batch, FEATURES),)

    def policy() -> tuple[nn.Module, tuple[Tensor, ...]]:
        model = NeonVLA.from_pretrained(asset_path("g1/demo_heads"))
        clip, words, senses = question(model)
        torch.manual_seed(0)
        clip, body = torch.randint_like(clip, 256), 0.1 * torch.randn(1, 125)  # answers to nothing would all be alike
        return PolicyGraph(model), (clip, model.encode(clip, words).text, body, senses["eef"])

    return {"standard head": partial(head, 1), "standard head, batch 64": partial(head, 64), "whole policy": policy}


def ways_rows(names: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """Networks by name in every way that this machine has, one thread, so many seconds a way, and the choice."""
    torch.set_num_threads(1)
    rows = []
    for name in tqdm(names, desc="ways to run a network"):
        network, inputs = networks()[name]()
        with tempfile.TemporaryDirectory() as folder:
            ways = ways_of(network, inputs, Path(folder))
            differences = ways.differences()
            found = times_ms(ways.calls, seconds)
        middle = {way: float(np.median(values)) for way, values in found.items()}
        best = min((way for way in middle if differences[way] <= PARITY), key=lambda way: middle[way])
        batch = len(inputs[0])
        row = {"network": name, "batch": batch, "p50_ms": middle, "missing": ways.missing, "choice": best}
        rows.append({**row, "differences": differences})
    return rows


def ways_text(row: dict[str, Any]) -> list[str]:
    """A row of the table of ways."""
    times = [f"{row['p50_ms'][way]:.2f}" if way in row["p50_ms"] else row["missing"][way] for way in ENGINES]
    name = row["network"].partition(",")[0]
    return [name, str(row["batch"]), *times, row["choice"], f"{row['differences'][row['choice']]:.1e}"]

"""How fast plans are made: one token against many, the cached rollout against the plain one, replans, the head.

Everything that is compared runs in turns in one process on the same threads, so that what disturbs one disturbs all.
The replans run in a process of their own, which does nothing else: so its memory is that of a planner.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from planning_against import exact_against_eager, one_against_many
from planning_turns import SPEED_PRESETS, SpeedPreset, in_turns, untrained
from torch import Tensor

from neon_sim.world_model.amortised import AmortisedConfig, AmortisedHead
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.config import SIZES, LeWMConfig, lewm_config
from neon_sim.world_model.controllers import LatentController, PlanningConfig
from neon_sim.world_model.lewm import LeWM, distance_to, latent_cost
from neon_sim.world_model.plan import Box
from neon_sim.world_model.planner import CEM
from neon_sim.world_model.problems import Problem
from neon_sim.world_model.readout import Readout
from neon_sim.world_model.worlds import Moment

RATE_HZ: Final = 10.0  # of agents/plan.py
# What a training of a named size may choose otherwise: agents/train_world_model.py, and the task's commands.
CHOSEN: Final = ("patch_size", "grid", "action_dim", "proprio_dropout", "felt_dim", "prefix")
Rows = list[list[str]]


def replan(preset: SpeedPreset, config: LeWMConfig, threads: int) -> dict[str, float]:
    """A whole decision: encode the picture, then CEM; the amortised head's; and that of `agents/plan.py`. ms.

    Random weights. Figures: `replan_p50_ms`, `replan_p99_ms`, `replan_cpu_ms` (processor time of one, all threads), the
    same of `live`, `amortised` (the head alone) and `amortised_seen` (with the look before it), and `rss_mb`, the most
    memory that this process ever had.
    """
    torch.set_num_threads(threads)
    model = untrained(config)
    head = AmortisedHead(AmortisedConfig(dim=config.dim, action_dim=config.action_dim)).eval()
    planner = CEM(preset.samples, preset.iterations, max(2, preset.samples // 8), sigma=0.7)
    frame = torch.randint(0, 256, (1, 1, config.image_size, config.image_size, 3), dtype=torch.uint8)
    proprio = torch.randn(1, 1, config.proprio_dim) if config.proprio_dim else None
    goal, box, rng = torch.randn(1, config.dim), Box.unit(config.action_dim), torch.Generator().manual_seed(0)
    past = torch.zeros(1, 0, config.action_dim)

    def decide() -> Tensor:
        with torch.inference_mode():
            z = model.encode(frame, proprio)
            cost = latent_cost(model, z, past, distance_to(goal))
            return planner.plan(cost, box, box.center(1, preset.horizon), rng).actions

    def answer() -> Tensor:
        with torch.inference_mode():
            return head(goal, goal, torch.tensor([10]))

    def look_and_answer() -> Tensor:
        with torch.inference_mode():
            return head(model.encode(frame, proprio)[:, 0], goal, torch.tensor([10]))

    calls: dict[str, Callable[[], Any]] = {
        "replan": decide, "live": live(preset, config), "amortised": answer, "amortised_seen": look_and_answer,
    }  # fmt: skip
    spent = in_turns(calls, preset.repeats)
    found = {f"{name}_p50_ms": float(np.median(ms)) for name, ms in spent.items()}
    found |= {f"{name}_p99_ms": float(np.quantile(ms, 0.99)) for name, ms in spent.items()}
    for name, call in calls.items():
        began = time.process_time()
        for _ in range(preset.repeats):
            call()
        found[f"{name}_cpu_ms"] = 1e3 * (time.process_time() - began) / preset.repeats
    return found | {"rss_mb": peak_mb()}


def live(preset: SpeedPreset, config: LeWMConfig) -> Callable[[], np.ndarray]:
    """One replan as `agents/plan.py` makes it to a place on the floor: look, know the way made, search, imagine.

    The preset's samples and iterations, and `PlanningConfig`'s plan: five commands, held for two model steps each.
    """
    config = replace(config, action_dim=3)
    bundle = Bundle("navigate", untrained(config), Readout.empty(config.dim).eval())
    rng = np.random.default_rng(0)
    shape = (config.image_size, config.image_size, 3)
    nothing = np.zeros(3)
    seen = Moment(
        rng.integers(0, 256, shape, np.uint8), rng.normal(size=125).astype(np.float32), nothing, np.zeros(6), nothing,
        nothing,
    )  # fmt: skip
    controller = LatentController(bundle, PlanningConfig(samples=preset.samples, iterations=preset.iterations))
    controller.begin(Problem(0, {}, {}, seen, seen, np.array([[1.0, 0.0]]), ""))
    told: np.ndarray | None = None

    def once() -> np.ndarray:
        nonlocal told
        controller.see(seen, told)
        told = controller.decide()[0]
        return told

    return once


def peak_mb() -> float:
    """The most memory that this process ever had at once, MB; on Linux from /proc, where getrusage tells a parent's."""
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024 / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3  # bytes there, kB here


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` gives in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def cpu_share(threads: int, seconds: float = 0.5) -> float:
    """Share of the processor that busy threads get here and now: about 1 on an idle machine."""
    torch.set_num_threads(threads)
    matrix = torch.randn(1024, 1024)
    matrix @ matrix
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        matrix @ matrix
    return (time.process_time() - used) / (time.perf_counter() - began) / threads


def size_of(config: LeWMConfig) -> str | None:
    """The name of a model's size, whatever patches and grid it sees by; None for one that has none."""
    names = [f.name for f in fields(LeWMConfig) if f.name not in CHOSEN]
    same = (size for size, named in SIZES.items() if all(getattr(named, n) == getattr(config, n) for n in names))
    return next(same, None)


def described(model: LeWM, size: str) -> dict[str, Any]:
    """Which model of a size the times are of: plain numbers."""
    config = model.config
    return {
        "size": size,
        "parameters": model.parameter_table()["total"],
        "patch_size": config.patch_size,
        "grid": config.grid,
        "image_size": config.image_size,
    }


def label_of(told: dict[str, Any]) -> str:
    """For people: "xs (1.71 M parameters, patches of 16 px, grid 4)"."""
    read = f"grid {told['grid']}" if told["grid"] else "class token"
    return f"{told['size']} ({told['parameters'] / 1e6:.2f} M parameters, patches of {told['patch_size']} px, {read})"


def model_of(size: str, trained: Bundle | None) -> LeWM:
    """The bundle's model, or one of the size with random weights. Raises ValueError for a bundle of another size."""
    if trained is None:
        return untrained(lewm_config(size))
    found = size_of(trained.model.config)
    if found != size:
        raise ValueError(
            f"Times are told of the size {size}, and the world model of {trained.task} is of size {found}. Give "
            f"--models with one of that size (agents/train_world_model.py --size {size}), or a folder without any: "
            "then weights are random."
        )
    return trained.model


def measure_speed(preset: SpeedPreset, threads: int, trained: Bundle | None = None) -> tuple[dict[str, Any], Rows]:
    """All figures, and the rows of the table: what, measured, wanted.

    trained: a world model of the size `xs`, whose order of plans bf16 has to keep; None: random weights, and no order.
    Raises ValueError for one of another size: rows and figures are named after it.
    """
    torch.set_num_threads(threads)
    small, other = ("tiny", "tiny") if preset == SPEED_PRESETS["tiny"] else ("xs", "s")
    models = {small: model_of(small, trained)}
    model = models[small]
    models.setdefault(other, untrained(lewm_config(other)))
    many = one_against_many(preset)
    exact = {
        size: exact_against_eager(preset, one, trained if one is model else None) | {"model": described(one, size)}
        for size, one in models.items()
    }
    exact[small]["weights"] = "random" if trained is None else "trained"
    label = label_of(exact[small]["model"])
    one = alone(replan, preset, model.config, threads)
    figures: dict[str, Any] = {**many, "exact": exact, "threads": threads}
    for which in ("amortised", "amortised_seen"):
        figures |= {f"{which}_{name}_ms": one[f"{which}_{name}_ms"] for name in ("p50", "p99")}
    figures |= {f"replan_xs_{name}_ms": one[f"replan_{name}_ms"] for name in ("p50", "p99", "cpu")}
    figures |= {f"replan_xs_live_{name}_ms": one[f"live_{name}_ms"] for name in ("p50", "p99", "cpu")}
    figures["replan_xs_rss_mb"] = one["rss_mb"]
    figures["planner_cores_at_10_hz"] = cores = one["live_cpu_ms"] * RATE_HZ / 1e3
    rows = [
        [
            f"patch tokens over one token, a look and one iteration of CEM with {preset.patch_samples} samples, time",
            f"{many['ratio_patch_token_over_lewm']:.0f}x",
            "48x",
        ],
        ["the same over its FLOP ratio", f"{many['share_of_flop_ratio']:.2f} of {many['flop_ratio']:.0f}x", "0.6"],
        [f"replan {label}, 5 model steps, p50", f"{one['replan_p50_ms']:.1f} ms", "50 ms"],
        [f"replan {label} as agents/plan.py makes it, 10 model steps, p50", f"{one['live_p50_ms']:.1f} ms", "100 ms"],
        [
            f"processor time of both, {threads} threads",
            f"{one['replan_cpu_ms']:.0f} and {one['live_cpu_ms']:.0f} ms",
            "",
        ],
        [
            f"a process that plans at {RATE_HZ:.0f} Hz: memory at its peak, processor",
            f"{one['rss_mb']:.0f} MB, {cores:.2f} cores",
            "",
        ],
        ["amortised head alone, p50", f"{one['amortised_p50_ms']:.2f} ms", "1 ms"],
        ["amortised head with the look before it, p50", f"{one['amortised_seen_p50_ms']:.2f} ms", ""],
    ]
    return figures, rows + [row for found in exact.values() for row in _exact_rows(found)]


def _exact_rows(found: dict[str, Any]) -> Rows:
    size = label_of(found["model"])
    weights, passes, order = found.get("weights", "random"), found["token_passes"], found["rank_correlation_bf16"]
    bf16 = found["speed_up_bf16"] if isinstance(found["speed_up_bf16"], str) else f"{found['speed_up_bf16']:.1f}x"
    if not isinstance(order, str):
        bf16 += f", rank {order['median']:.3f}, lowest {order['lowest']:.3f} of {order['moments']} recorded moments"
    over = {"window": "a window of 3 as published", "plain": "everything each time"}
    return [
        [
            f"cached rollout ({passes['exact']} token passes) over {how} ({passes[name]}), {size}, fp32",
            f"{found[f'{name}_ms'] / found['exact_ms']:.2f}x",
            "1.9x" if name == "window" else "",
        ]
        for name, how in over.items()
    ] + [
        [f"largest difference to everything each time, {size}", f"{found['max_difference']:.1e}", "1e-4"],
        [f"bf16 over the window in fp32, {size}, {weights} weights", bf16, "4.5x, rank .99"],
    ]

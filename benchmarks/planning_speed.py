"""How fast plans are made: one token against many, the cached rollout against the plain one, replans, the head.

Everything that is compared runs in turns in one process on the same threads, so that what disturbs one disturbs all.
Replans have a process of their own, and so have memory and processor of one that plans at 10 Hz (planning_costs.py).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

import numpy as np
import torch
from planning_against import exact_against_eager, one_against_many
from planning_costs import RATE_HZ, alone, live, planner_costs
from planning_turns import SPEED_PRESETS, SpeedPreset, in_turns, untrained
from torch import Tensor

from neon_sim.world_model.amortised import AmortisedConfig, AmortisedHead
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.config import SIZES, LeWMConfig
from neon_sim.world_model.lewm import LeWM, distance_to, latent_cost
from neon_sim.world_model.plan import Box
from neon_sim.world_model.planner import CEM
from neon_sim.world_model.training_config import OUR_TRAINING, model_config, of_size

# What a training of a named size may choose otherwise: agents/train_world_model.py, and the task's commands.
CHOSEN: Final = ("patch_size", "grid", "action_dim", "proprio_dropout", "felt_dim", "prefix")
WAYS: Final = ("grid", "token")  # that a picture is read: as we train and ship, and off the class token, as published
TASK: Final = "navigate"  # whose commands are planned where the time of a plan is taken
# What the figures are of that others look at.
OF_WHAT: Final = {
    "ratio_patch_token_over_lewm": "LeWM of its published size, class token; with _grid at the end read off our grid",
    "replan_xs": "size xs read off our grid, as it is trained and shipped; with _token after xs off its class token",
    "replan_xs_rss_mb": "the most memory that the process had which planner_ is of",
    "planner": "one process with the size xs read off our grid that plans at 10 Hz as agents/plan.py does, alone",
}
Rows = list[list[str]]


def replan(preset: SpeedPreset, ways: Mapping[str, LeWMConfig], threads: int) -> dict[str, float]:
    """A whole decision: encode the picture, then CEM; that of `agents/plan.py`; and the amortised head's. ms.

    ways: configs of one size by `WAYS`, for `TASK`; random weights. Figures: `plan_WAY_p50_ms`, `plan_WAY_p99_ms`,
    `plan_WAY_cpu_ms` (processor time of one, all threads), the same of `live_WAY`, of `amortised` (the head alone) and
    of `amortised_seen` (with the look before it, by the grid).
    """
    torch.set_num_threads(threads)
    models = {way: untrained(config) for way, config in ways.items()}
    calls: dict[str, Callable[[], Any]] = {f"plan_{way}": searching(preset, model) for way, model in models.items()}
    calls |= {f"live_{way}": live(preset, config) for way, config in ways.items()}
    calls |= answering(models["grid"])
    spent = in_turns(calls, preset.repeats)
    found = {f"{name}_p50_ms": float(np.median(ms)) for name, ms in spent.items()}
    found |= {f"{name}_p99_ms": float(np.quantile(ms, 0.99)) for name, ms in spent.items()}
    for name, call in calls.items():
        began = time.process_time()
        for _ in range(preset.repeats):
            call()
        found[f"{name}_cpu_ms"] = 1e3 * (time.process_time() - began) / preset.repeats
    return found


def searching(preset: SpeedPreset, model: LeWM) -> Callable[[], Tensor]:
    """A look and CEM in latents, to a latent."""
    config = model.config
    planner = CEM(preset.samples, preset.iterations, max(2, preset.samples // 8), sigma=0.7)
    frame, proprio = _seen(config)
    goal, box, rng = torch.randn(1, config.dim), Box.unit(config.action_dim), torch.Generator().manual_seed(0)
    past = torch.zeros(1, 0, config.action_dim)

    def decide() -> Tensor:
        with torch.inference_mode():
            cost = latent_cost(model, model.encode(frame, proprio), past, distance_to(goal))
            return planner.plan(cost, box, box.center(1, preset.horizon), rng).actions

    return decide


def answering(model: LeWM) -> dict[str, Callable[[], Tensor]]:
    """The amortised head by itself, and with the look before it."""
    config = model.config
    head = AmortisedHead(AmortisedConfig(dim=config.dim, action_dim=config.action_dim)).eval()
    frame, proprio = _seen(config)
    goal, steps = torch.randn(1, config.dim), torch.tensor([10])

    def answer() -> Tensor:
        with torch.inference_mode():
            return head(goal, goal, steps)

    def look_and_answer() -> Tensor:
        with torch.inference_mode():
            return head(model.encode(frame, proprio)[:, 0], goal, steps)

    return {"amortised": answer, "amortised_seen": look_and_answer}


def _seen(config: LeWMConfig) -> tuple[Tensor, Tensor | None]:
    frame = torch.randint(0, 256, (1, 1, config.image_size, config.image_size, 3), dtype=torch.uint8)
    return frame, torch.randn(1, 1, config.proprio_dim) if config.proprio_dim else None


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


def ours(size: str, grid: bool = True) -> LeWMConfig:
    """The size as agents/train_world_model.py trains it by default, for `TASK`; without the grid: its class token."""
    config = model_config(TASK, of_size(OUR_TRAINING, size), SIZES[size].image_size)
    return config if grid else replace(config, grid=0)


def ways_of(size: str, trained: Bundle | None) -> dict[str, LeWMConfig]:
    """The configs of a size whose time is taken, by `WAYS`: the trained model's own, and ours for the other way.

    Raises ValueError for a bundle of another size.
    """
    found = {"grid": ours(size), "token": ours(size, grid=False)}
    if trained is None:
        return found
    config = trained.model.config
    if size_of(config) != size:
        raise ValueError(
            f"Times are told of the size {size}, and the world model of {trained.task} is of size {size_of(config)}. "
            f"Give --models with one of that size (agents/train_world_model.py --size {size}), or a folder without "
            "any: then weights are random."
        )
    own = replace(config, action_dim=found["grid"].action_dim)
    return found | {"grid" if config.grid else "token": own}


def described(config: LeWMConfig, size: str) -> dict[str, Any]:
    """Which model of a size the times are of: plain numbers, and a label for people, such as "xs (1.71 M parameters,
    patches of 16 px, grid 4)".
    """
    with torch.device("meta"):
        parameters = LeWM(config).parameter_table()["total"]
    read = f"grid {config.grid}" if config.grid else "class token"
    return {
        "size": size,
        "parameters": parameters,
        "patch_size": config.patch_size,
        "grid": config.grid,
        "image_size": config.image_size,
        "label": f"{size} ({parameters / 1e6:.2f} M parameters, patches of {config.patch_size} px, {read})",
    }


def measure_speed(preset: SpeedPreset, threads: int, trained: Bundle | None = None) -> tuple[dict[str, Any], Rows]:
    """All figures, and the rows of the table: what, measured, wanted. `of_what` says which model some are of.

    trained: a world model of the size `xs`, whose order of plans bf16 has to keep; None: random weights, and no order.
    Raises ValueError for one of another size: rows and figures are named after it.
    """
    torch.set_num_threads(threads)
    small, other = ("tiny", "tiny") if preset == SPEED_PRESETS["tiny"] else ("xs", "s")
    ways = ways_of(small, trained)
    many = one_against_many(preset)
    exact = {small: _exact(preset, small, untrained(ways["grid"]) if trained is None else trained.model, trained)}
    if other != small:
        exact[other] = _exact(preset, other, untrained(ours(other)), None)
    one = alone(replan, preset, ways, threads)
    costs = alone(planner_costs, preset, ways["grid"], threads)
    timed = {way: described(config, small) for way, config in ways.items()}
    figures: dict[str, Any] = {**many, "exact": exact, "timed": timed, "threads": threads, "of_what": OF_WHAT}
    for which in ("amortised", "amortised_seen"):
        figures |= {f"{which}_{name}_ms": one[f"{which}_{name}_ms"] for name in ("p50", "p99")}
    for way, mark in zip(WAYS, ("", "_token"), strict=True):
        for name in ("p50", "p99", "cpu"):
            figures[f"replan_xs{mark}_{name}_ms"] = one[f"plan_{way}_{name}_ms"]
            figures[f"replan_xs{mark}_live_{name}_ms"] = one[f"live_{way}_{name}_ms"]
    figures["replan_xs_rss_mb"] = costs["memory_peak_mb"]
    figures |= {f"planner_{name}": costs[name] for name in ("memory_mb", "memory_above_mb")}
    figures |= {f"planner_{name}_at_10_hz": costs[name] for name in ("cores", "late")}
    return figures, [*_rows(preset, figures), *(row for found in exact.values() for row in _exact_rows(found))]


def _exact(preset: SpeedPreset, size: str, model: LeWM, trained: Bundle | None) -> dict[str, Any]:
    weights = "random" if trained is None else "trained"
    told = {"model": described(model.config, size), "weights": weights}
    return exact_against_eager(preset, model, trained) | told


def _rows(preset: SpeedPreset, found: Mapping[str, Any]) -> Rows:
    sampled = f"a look and one iteration of CEM with {preset.patch_samples} samples"
    rows = [
        [
            f"patch tokens over one token, published size and class token, {sampled}, time",
            f"{found['ratio_patch_token_over_lewm']:.0f}x",
            "48x",
        ],
        ["the same over its FLOP ratio", f"{found['share_of_flop_ratio']:.2f} of {found['flop_ratio']:.0f}x", "0.6"],
        [
            "patch tokens over one token read off our grid, otherwise the same",
            f"{found['ratio_patch_token_over_lewm_grid']:.0f}x, FLOPs {found['flop_ratio_grid']:.0f}x",
            "",
        ],
    ]
    for way, mark in zip(WAYS, ("", "_token"), strict=True):
        label, barred = found["timed"][way]["label"], way == "grid"
        short, whole = (f"replan_xs{mark}{kind}" for kind in ("", "_live"))
        rows += [
            [f"replan {label}, 5 model steps, p50", f"{found[f'{short}_p50_ms']:.1f} ms", "50 ms" if barred else ""],
            [
                f"replan {label} as agents/plan.py makes it, 10 model steps, p50",
                f"{found[f'{whole}_p50_ms']:.1f} ms",
                "100 ms" if barred else "",
            ],
            [
                f"processor time of both, {found['threads']} threads",
                f"{found[f'{short}_cpu_ms']:.0f} and {found[f'{whole}_cpu_ms']:.0f} ms",
                "",
            ],
        ]
    return rows + _cost_rows(found)


def _cost_rows(found: Mapping[str, Any]) -> Rows:
    memory = f"{found['planner_memory_mb']:.0f} MB, {found['planner_memory_above_mb']:.0f} of them since"
    cores, late = found["planner_cores_at_10_hz"], found["planner_late_at_10_hz"]
    return [
        [f"memory of a process that plans at {RATE_HZ:.0f} Hz, before and since its world model was made", memory, ""],
        ["its processor time in a second; replans that began late", f"{cores:.2f} s; {100 * late:.0f} %", ""],
        ["amortised head alone, p50", f"{found['amortised_p50_ms']:.2f} ms", "1 ms"],
        ["amortised head with the look before it, p50", f"{found['amortised_seen_p50_ms']:.2f} ms", ""],
    ]


def _exact_rows(found: dict[str, Any]) -> Rows:
    size = found["model"]["label"]
    weights, passes, order = found["weights"], found["token_passes"], found["rank_correlation_bf16"]
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

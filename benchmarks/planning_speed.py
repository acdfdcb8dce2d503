"""How fast plans are made: one token against many, the cached rollout against the plain one, replans, the head.

Everything that is compared runs in turns in one process on the same threads, so that what disturbs one disturbs all.
The replans run in a process of their own, which does nothing else: so its memory is that of a planner.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from planning_patch_tokens import PatchTokenConfig, PatchTokenPredictor
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from neon_sim.world_model.amortised import AmortisedConfig, AmortisedHead
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.config import SIZES, LeWMConfig, lewm_config
from neon_sim.world_model.controllers import LatentController, PlanningConfig
from neon_sim.world_model.lewm import LeWM, distance_to, latent_cost
from neon_sim.world_model.plan import Box
from neon_sim.world_model.planner import CEM
from neon_sim.world_model.predictor import rollout_plain
from neon_sim.world_model.probe import rank_correlation
from neon_sim.world_model.problems import Problem
from neon_sim.world_model.readout import Readout
from neon_sim.world_model.worlds import Moment

BF16_FLAGS: Final = ("avx512_bf16", "amx_bf16")
TARGETS: Final = {"ratio": 48.0, "of_flops": 0.6, "exact": 1.9, "bf16": 4.5, "replan_ms": 50.0, "head_ms": 1.0}
Rows = list[list[str]]


@dataclass(frozen=True)
class SpeedPreset:
    """How much is measured."""

    repeats: int = 30  # of replans and of the cached rollout
    samples: int = 64
    iterations: int = 5
    horizon: int = 5
    patch_repeats: int = 3
    patch_samples: int = 16  # candidates of both models, one iteration: the patch tokens take seconds as it is
    patch: PatchTokenConfig = PatchTokenConfig()
    one_token: LeWMConfig = SIZES["paper"]


SPEED_PRESETS: Final = {
    "full": SpeedPreset(),
    "tiny": SpeedPreset(
        repeats=3,
        samples=8,
        iterations=2,
        patch_repeats=1,
        patch_samples=2,
        patch=PatchTokenConfig(patches=16, dim=32, layers=1, heads=2, head_dim=16, mlp=64),
        one_token=SIZES["tiny"],
    ),
}


def in_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Milliseconds of each call, (repeats,), after one call of each that does not count."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if repeat:
                found[name].append(1e3 * (time.perf_counter() - began))
    return {name: np.array(values) for name, values in found.items()}


def flops_of(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in a call."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return int(counter.get_total_flops())


def has_bf16(path: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies in bf16; what cannot be read counts as no."""
    return path.exists() and any(flag in path.read_text(encoding="utf-8").split() for flag in BF16_FLAGS)


def untrained(config: LeWMConfig, seed: int = 0) -> LeWM:
    """A model with random weights that keep the size of what goes through, so that actions and layers do something."""
    torch.manual_seed(seed)
    model = LeWM(config).eval().requires_grad_(False)
    for module in model.predictor.modules():
        if isinstance(module, nn.Linear):  # training begins with small ones, and with adaLN-zero, which is the identity
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model


def candidates(count: int, horizon: int, dim: int, seed: int = 0) -> Tensor:
    """Random plans (1, N, H, A) in [-1, 1]."""
    return 2.0 * torch.rand(1, count, horizon, dim, generator=torch.Generator().manual_seed(seed)) - 1.0


@torch.inference_mode()
def one_against_many(preset: SpeedPreset) -> dict[str, float]:
    """The published one-token predictor and the patch-token one on the same candidates, iterations and horizon."""
    lewm, many = untrained(preset.one_token), PatchTokenPredictor(preset.patch).eval()
    action_dim = preset.one_token.action_dim
    plans = candidates(preset.patch_samples, preset.horizon, action_dim)
    z, past = torch.randn(1, 1, preset.one_token.dim), torch.zeros(1, 0, action_dim)
    tokens = torch.randn(1, 1, preset.patch.patches, preset.patch.dim)
    calls: dict[str, Callable[[], Tensor]] = {
        "one": lambda: rollout_plain(lewm.predictor, z, past, plans),
        "many": lambda: many.rollout(tokens, past, plans),
    }
    spent = {name: float(np.median(ms)) for name, ms in in_turns(calls, preset.patch_repeats).items()}
    flops = {name: flops_of(call) for name, call in calls.items()}
    ratio, flop_ratio = spent["many"] / spent["one"], flops["many"] / flops["one"]
    return {
        "lewm_ms": spent["one"],
        "patch_token_ms": spent["many"],
        "ratio_patch_token_over_lewm": ratio,
        "flop_ratio": flop_ratio,
        "share_of_flop_ratio": ratio / flop_ratio,
        "candidates": float(preset.patch_samples),
    }


@torch.inference_mode()
def exact_against_eager(preset: SpeedPreset, model: LeWM) -> dict[str, Any]:
    """The cached rollout against the plain one in fp32, and in bf16 where the processor has it."""
    config = model.config
    plans = candidates(preset.samples, preset.horizon, config.action_dim)
    z = torch.randn(1, config.history, config.dim)
    past = candidates(1, config.history - 1, config.action_dim, 1)[:, 0]
    calls: dict[str, Callable[[], Tensor]] = {
        "eager": lambda: rollout_plain(model.predictor, z, past, plans),
        "exact": lambda: model.predictor.rollout(z, past, plans),
    }
    bf16 = has_bf16()
    if bf16:
        half = deepcopy(model).to(torch.bfloat16)
        calls["bf16"] = lambda: half.predictor.rollout(z.bfloat16(), past.bfloat16(), plans.bfloat16())
    spent = {name: float(np.median(ms)) for name, ms in in_turns(calls, preset.repeats).items()}
    eager = calls["eager"]()
    difference = float((calls["exact"]() - eager).abs().max())
    found: dict[str, Any] = {f"{name}_ms": value for name, value in spent.items()}
    found |= {"speed_up_fp32": spent["eager"] / spent["exact"], "max_difference": difference}
    found |= {"speed_up_bf16": "not measured", "rank_correlation_bf16": "not measured"}
    if bf16:
        goal = torch.randn(config.dim)
        costs = [(out[:, :, -1].float() - goal).square().sum(-1).double().numpy() for out in (eager, calls["bf16"]())]
        found["speed_up_bf16"] = spent["eager"] / spent["bf16"]
        found["rank_correlation_bf16"] = float(rank_correlation(costs[1], costs[0])[0])
    return found


def replan(preset: SpeedPreset, size: str, threads: int) -> dict[str, float]:
    """A whole decision: encode the picture, then CEM; the amortised head's; and that of `agents/plan.py`. ms.

    Random weights. Figures: `replan_p50_ms`, `replan_p99_ms`, `replan_cpu_ms` (processor time of one, all threads), the
    same of `live` and `amortised`, and `rss_mb`, the most memory that this process ever had.
    """
    torch.set_num_threads(threads)
    config = lewm_config(size)
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

    calls: dict[str, Callable[[], Any]] = {"replan": decide, "live": live(preset, size), "amortised": answer}
    spent = in_turns(calls, preset.repeats)
    found = {f"{name}_p50_ms": float(np.median(ms)) for name, ms in spent.items()}
    found |= {f"{name}_p99_ms": float(np.quantile(ms, 0.99)) for name, ms in spent.items()}
    for name, call in calls.items():
        began = time.process_time()
        for _ in range(preset.repeats):
            call()
        found[f"{name}_cpu_ms"] = 1e3 * (time.process_time() - began) / preset.repeats
    return found | {"rss_mb": peak_mb()}


def live(preset: SpeedPreset, size: str) -> Callable[[], np.ndarray]:
    """One replan as `agents/plan.py` makes it to a place on the floor: look, know the way made, search, imagine.

    The preset's samples and iterations, and `PlanningConfig`'s plan: five commands, held for two model steps each.
    """
    config = lewm_config(size, action_dim=3)
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


def measure_speed(preset: SpeedPreset, threads: int, trained: LeWM | None = None) -> tuple[dict[str, Any], Rows]:
    """All figures, and the rows of the table: what, measured, wanted.

    trained: a world model of the size `xs`, whose order of plans bf16 has to keep; None: random weights have to do.
    """
    torch.set_num_threads(threads)
    many = one_against_many(preset)
    small, other = ("tiny", "tiny") if preset == SPEED_PRESETS["tiny"] else ("xs", "s")
    models = {small: trained or untrained(lewm_config(small))}
    models |= {} if other in models else {other: untrained(lewm_config(other))}
    exact = {size: exact_against_eager(preset, model) for size, model in models.items()}
    exact[small]["weights"] = "random" if trained is None else "trained"
    one = alone(replan, preset, small, threads)
    figures: dict[str, Any] = {**many, "exact": exact, "threads": threads}
    figures |= {f"amortised_{name}_ms": one[f"amortised_{name}_ms"] for name in ("p50", "p99")}
    figures |= {f"replan_xs_{name}_ms": one[f"replan_{name}_ms"] for name in ("p50", "p99", "cpu")}
    figures |= {f"replan_xs_live_{name}_ms": one[f"live_{name}_ms"] for name in ("p50", "p99", "cpu")}
    figures["replan_xs_rss_mb"] = one["rss_mb"]
    rows = [
        ["patch tokens over one token, time", f"{many['ratio_patch_token_over_lewm']:.0f}x", "48x"],
        ["the same over its FLOP ratio", f"{many['share_of_flop_ratio']:.2f} of {many['flop_ratio']:.0f}x", "0.6"],
        [f"replan {small}, 5 model steps, p50", f"{one['replan_p50_ms']:.1f} ms", "50 ms"],
        [f"replan {small} as agents/plan.py makes it, 10 model steps, p50", f"{one['live_p50_ms']:.1f} ms", "100 ms"],
        [
            f"processor time of both, {threads} threads",
            f"{one['replan_cpu_ms']:.0f} and {one['live_cpu_ms']:.0f} ms",
            "",
        ],
        ["memory of a process that plans, peak", f"{one['rss_mb']:.0f} MB", ""],
        ["amortised head, p50", f"{one['amortised_p50_ms']:.2f} ms", "1 ms"],
    ]
    return figures, rows + [row for size, found in exact.items() for row in _exact_rows(size, found)]


def _exact_rows(size: str, found: dict[str, Any]) -> Rows:
    bf16 = found["speed_up_bf16"]
    shown = bf16 if isinstance(bf16, str) else f"{bf16:.1f}x, rank {found['rank_correlation_bf16']:.3f}"
    weights = f", {found['weights']} weights" if "weights" in found else ", random weights"
    return [
        [f"cached over plain rollout, {size}, fp32", f"{found['speed_up_fp32']:.2f}x", "1.9x"],
        [f"largest difference of the two, {size}", f"{found['max_difference']:.1e}", "1e-4"],
        [f"bf16 over plain fp32, {size}{weights}", shown, "4.5x, rank .99"],
    ]

"""One token against many, and the cached rollout against those without a cache: time, FLOPs and equal results."""

import itertools
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from planning_patch_tokens import PatchTokenPredictor
from planning_turns import SpeedPreset, candidates, flops_of, in_turns, untrained
from torch import Tensor

from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.encoder import VisionEncoder
from neon_sim.world_model.lewm import LeWM, distance_to, latent_cost
from neon_sim.world_model.plan import Box, Cost
from neon_sim.world_model.planner import CEM
from neon_sim.world_model.predictor import Predictor, rollout_plain
from neon_sim.world_model.probe import rank_correlation
from neon_sim.world_model.rollouts import JUDGED_FROM, RolloutConfig, record_episode
from neon_sim.world_model.training_config import OUR_GRID
from neon_sim.world_model.worlds import open_world

BF16_FLAGS: Final = ("avx512_bf16", "amx_bf16")
_APART: Final = 5  # model steps between two moments of an episode whose latents are looked at


def has_bf16(path: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies in bf16; what cannot be read counts as no."""
    return path.exists() and any(flag in path.read_text(encoding="utf-8").split() for flag in BF16_FLAGS)


@torch.inference_mode()
def one_against_many(preset: SpeedPreset) -> dict[str, float]:
    """One-token models of the published size and the patch-token one: each looks once and does one iteration of CEM,
    with equal samples and horizon. Encoders, planner and distances are part of it.

    `lewm_ms`, `ratio_patch_token_over_lewm`, `flop_ratio` and `share_of_flop_ratio` are of the class token, as
    published; the same with `_grid` at the end of pictures that are read off our grid, as what we train is.
    """
    tokens = {"": preset.one_token, "_grid": replace(preset.one_token, grid=OUR_GRID)}
    calls: dict[str, Callable[[], Tensor]] = {"many": _patch_tokens(preset)}
    calls |= {name: _one_token(preset, untrained(config)) for name, config in tokens.items()}
    spent = {name: float(np.median(ms)) for name, ms in in_turns(calls, preset.patch_repeats).items()}
    flops = {name: flops_of(call) for name, call in calls.items()}
    found = {"patch_token_ms": spent["many"], "candidates": float(preset.patch_samples)}
    for name in tokens:
        ratio, flop_ratio = spent["many"] / spent[name], flops["many"] / flops[name]
        found |= {f"lewm{name}_ms": spent[name], f"ratio_patch_token_over_lewm{name}": ratio}
        found |= {f"flop_ratio{name}": flop_ratio, f"share_of_flop_ratio{name}": ratio / flop_ratio}
    return found


def _one_token(preset: SpeedPreset, model: LeWM) -> Callable[[], Tensor]:
    config = model.config
    picture, past, goal = _picture(config.image_size), torch.zeros(1, 0, config.action_dim), torch.randn(1, config.dim)
    return lambda: _plan(preset, latent_cost(model, model.encode(picture[None]), past, distance_to(goal)))


def _patch_tokens(preset: SpeedPreset) -> Callable[[], Tensor]:
    model, eyes = PatchTokenPredictor(preset.patch).eval(), VisionEncoder(preset.patch_eyes).eval()
    picture, past = _picture(preset.patch_eyes.image_size), torch.zeros(1, 0, preset.patch.action_dim)
    goal = torch.randn(preset.patch.patches, preset.patch.dim)

    def cost(tokens: Tensor, asked: Tensor) -> Tensor:
        return (model.rollout(tokens, past, asked)[:, :, -1] - goal).square().mean((-1, -2))

    return lambda: _plan(preset, partial(cost, eyes.patches(picture)[None]))


def _plan(preset: SpeedPreset, cost: Cost) -> Tensor:
    samples, box = preset.patch_samples, Box.unit(preset.one_token.action_dim)
    planner, rng = CEM(samples, 1, max(2, samples // 8)), torch.Generator().manual_seed(0)
    return planner.plan(cost, box, box.center(1, preset.horizon), rng).actions


def _picture(size: int) -> Tensor:
    return torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)


def rollout_window(predictor: Predictor, latents: Tensor, past: Tensor, actions: Tensor, window: int = 3) -> Tensor:
    """Imagine as published: each step takes the newest `window` latents through the network, and nothing is cached.

    Shapes as of `Predictor.rollout`; from the step on in which a latent leaves the window, so are not its numbers.
    """
    count, horizon, first = actions.shape[1], actions.shape[2], latents.shape[1]
    latents, past = latents.repeat_interleave(count, 0), past.repeat_interleave(count, 0)
    taken = torch.cat([past, actions.flatten(0, 1)], dim=1)
    for length in range(first, first + horizon):
        begin = max(0, length - window)
        following = predictor(latents[:, begin:], taken[:, begin:length])[:, -1:]
        latents = torch.cat([latents, following], dim=1)
    return latents[:, first:].unflatten(0, (-1, count))


def token_passes(horizon: int) -> dict[str, int]:
    """Tokens that go through the network for one plan, after one look: everything each time, a window of 3, a cache."""
    steps = range(1, horizon + 1)
    return {"plain": sum(steps), "window": sum(min(3, step) for step in steps), "exact": horizon}


@torch.inference_mode()
def exact_against_eager(preset: SpeedPreset, model: LeWM, bundle: Bundle | None = None) -> dict[str, Any]:
    """The cached rollout against the plain one and the published one in fp32, and in bf16 where the processor has it.

    bundle: of the model, whose order of plans bf16 has to keep at recorded moments; None: not measured.
    """
    config = model.config
    plans = candidates(preset.samples, preset.horizon, config.action_dim)
    z, past = torch.randn(1, 1, config.dim), torch.zeros(1, 0, config.action_dim)
    calls: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: rollout_plain(model.predictor, z, past, plans),
        "window": lambda: rollout_window(model.predictor, z, past, plans),
        "exact": lambda: model.predictor.rollout(z, past, plans),
    }
    half = deepcopy(model).to(torch.bfloat16) if has_bf16() else None
    if half is not None:
        calls["bf16"] = lambda: half.predictor.rollout(z.bfloat16(), past.bfloat16(), plans.bfloat16())
    spent = {name: float(np.median(ms)) for name, ms in in_turns(calls, preset.repeats).items()}
    found: dict[str, Any] = {f"{name}_ms": value for name, value in spent.items()} | {
        "speed_up_fp32": spent["window"] / spent["exact"],
        "speed_up_over_plain_fp32": spent["plain"] / spent["exact"],
        "max_difference": float((calls["exact"]() - calls["plain"]()).abs().max()),
        "token_passes": token_passes(preset.horizon),
        "speed_up_bf16": "not measured",
        "rank_correlation_bf16": "not measured",
    }
    if half is not None:
        found["speed_up_bf16"] = spent["window"] / spent["bf16"]
    if half is not None and bundle is not None:
        rho = kept_order(model, half, plans, *recorded_latents(bundle, preset.moments))
        order = {"median": float(np.median(rho)), "lowest": float(rho.min()), "moments": len(rho)}
        found["rank_correlation_bf16"] = order
    return found


@torch.inference_mode()
def recorded_latents(bundle: Bundle, moments: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Latents (M, 3, D) of so many recorded moments and of the two before each, and the commands between (M, 2, A)."""
    config = RolloutConfig(bundle.task, 1, 3 * _APART, bundle.model.config.image_size)
    env = open_world(bundle.task, config.image_size)
    latents: list[Tensor] = []
    past: list[Tensor] = []
    for number in itertools.count(JUDGED_FROM + seed):
        if len(latents) >= moments:
            break
        episode = record_episode(env, config, number)
        seen = torch.from_numpy(episode["frames"]), torch.from_numpy(episode["proprio"])
        z = bundle.model.encode(seen[0][None], seen[1][None] if bundle.model.config.proprio_dim else None)[0]
        for at in range(_APART, episode["length"], _APART):
            latents.append(z[at - 2 : at + 1])
            past.append(torch.from_numpy(episode["commands"][at - 2 : at]))
    env.close()
    return torch.stack(latents[:moments]), torch.stack(past[:moments])


def kept_order(model: LeWM, half: LeWM, plans: Tensor, latents: Tensor, past: Tensor) -> np.ndarray:
    """Spearman's rho (M,) between what plans (1, N, H, A) cost in fp32 and in bf16, from each moment to another's."""
    every, goals = plans.expand(len(latents), -1, -1, -1), latents[:, -1].roll(1, 0)
    costs = [
        latent_cost(one, latents.to(kind), past.to(kind), distance_to(goals.to(kind)))(every).double().numpy()
        for one, kind in ((half, torch.bfloat16), (model, torch.float32))
    ]
    return rank_correlation(*costs)

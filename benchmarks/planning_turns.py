"""How the planning benchmark times things: what is compared runs in turns, on the same threads, with random weights."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from planning_patch_tokens import PatchTokenConfig
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from neon_sim.world_model.config import SIZES, LeWMConfig
from neon_sim.world_model.lewm import LeWM

# DINOv2's ViT-S/14 at 196 px, which DINO-WM sees with; one layer more, since ours keeps its last for the class token.
PATCH_EYES: Final = LeWMConfig(
    image_size=196, patch_size=14, dim=384, encoder_layers=13, encoder_heads=6, encoder_mlp=1536
)


@dataclass(frozen=True)
class SpeedPreset:
    """How much is measured."""

    repeats: int = 30  # of replans and of the cached rollout
    samples: int = 64
    iterations: int = 5
    horizon: int = 5
    patch_repeats: int = 3
    patch_samples: int = 64  # candidates of both models, one iteration of CEM: the patch tokens take a minute as it is
    patch: PatchTokenConfig = PatchTokenConfig()
    patch_eyes: LeWMConfig = PATCH_EYES
    one_token: LeWMConfig = SIZES["paper"]
    moments: int = 24  # recorded, at which bf16 has to keep the order of plans
    paced: int = 100  # replans at 10 Hz


SPEED_PRESETS: Final = {
    "full": SpeedPreset(),
    "tiny": SpeedPreset(
        repeats=3,
        samples=8,
        iterations=2,
        patch_repeats=1,
        patch_samples=4,
        patch=PatchTokenConfig(patches=16, dim=32, layers=1, heads=2, head_dim=16, mlp=64),
        patch_eyes=SIZES["tiny"],
        one_token=SIZES["tiny"],
        moments=3,
        paced=3,
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

"""The smallest world that a world model can learn: a bright square on a dark picture, pushed about by the actions."""

from typing import Any

import torch
from torch import Tensor

from neon_sim.world_model.config import LeWMConfig, lewm_config
from neon_sim.world_model.lewm import LeWM

SIDE, SQUARE = 16, 4  # px
STEP = 3.0  # px that an action of 1 moves the square
RATE = 4e-3


def tiny_config(**overrides: Any) -> LeWMConfig:
    """A world model for these pictures, of 50 thousand parameters."""
    values: dict[str, Any] = {
        "image_size": SIDE,
        "patch_size": 4,
        "encoder_layers": 1,
        "action_dim": 2,
        "proprio_dim": 0,
        "positions": 4,
        "history": 2,
        "dropout": 0.0,
        "sigreg_projections": 32,
    }
    return lewm_config("tiny", **{**values, **overrides})


def draw(place: Tensor) -> Tensor:
    """Top left corners (..., 2) px -> pictures (..., 16, 16, 3) uint8."""
    pixel = torch.arange(SIDE, dtype=torch.float32)
    inside = [
        (pixel - place[..., axis, None] + 0.5).clamp(0, 1) * (place[..., axis, None] + SQUARE - pixel + 0.5).clamp(0, 1)
        for axis in (0, 1)
    ]
    bright = 40.0 + 200.0 * inside[0][..., :, None] * inside[1][..., None, :]
    return bright.round().to(torch.uint8).unsqueeze(-1).expand(*bright.shape, 3)


def play(sequences: int, length: int, generator: torch.Generator, gain: float = STEP) -> tuple[Tensor, Tensor, Tensor]:
    """Random pushes: pictures (B, T, 16, 16, 3), actions (B, T - 1, 2) in [-1, 1], places (B, T, 2) px."""
    actions = 2.0 * torch.rand(sequences, length - 1, 2, generator=generator) - 1.0
    places = [torch.rand(sequences, 2, generator=generator) * (SIDE - SQUARE)]
    for step in range(length - 1):
        places.append((places[-1] + gain * actions[:, step]).clamp(0.0, SIDE - SQUARE))
    path = torch.stack(places, dim=1)
    return draw(path), actions, path


@torch.enable_grad()
def train(config: LeWMConfig, updates: int, seed: int = 1, batch: int = 24, length: int = 5) -> LeWM:
    """A model trained on fresh sequences, in eval mode."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = LeWM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-3, fused=True)
    for update in range(updates):
        for group in optimizer.param_groups:  # a short warm-up, then down to zero
            group["lr"] = RATE * min(1.0, update / 20.0, (updates - update) / (0.7 * updates))
        frames, actions, _ = play(batch, length, generator)
        loss = model.loss(frames, actions, None, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()

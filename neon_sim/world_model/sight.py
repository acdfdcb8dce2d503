"""Where a thing is now, read off the patches that the encoder saw: one latent of a frame may have let it go.

How far to the left push_box's box is, latents read off a class token told badly, and the patch tokens behind them
better. Those read off a grid tell it better than the tokens do in recordings (3.8 and 6.5 cm in the median), and
yet plans reached 11 of 16 goals with this reading and 3 without (2026-11-27, seed 100); why is not known.

A linear probe reads the tokens where the box stands in front: fitted to all moments it is led by those in which nobody
can see it, and errs by half as much again (330 episodes, 2026-11-27). Such a reading is of now only: what follows is
imagined in latents (`LatentController`).
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.encoder import VisionEncoder
from neon_sim.world_model.probe import Probe, fit_linear_probe

_SIDE: Final = 4  # areas of the picture that patches are averaged in, along each axis
_MOST: Final = 30_000  # moments that it is fitted to: neighbours in time tell much the same
_AT_ONCE: Final = 256
_FRONT: Final = ((0.3, 1.5), (-0.5, 0.5))  # m ahead and left of the pelvis: where the head camera sees a box


class Sight(nn.Module):
    """Linear probe: patch tokens averaged in 4 x 4 areas -> the thing (3,) m, framed as in `Moment`."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self.probe = probe

    @classmethod
    def empty(cls, dim: int) -> "Sight":
        """For weights to be loaded into; dim: of a token."""
        inputs = _SIDE**2 * dim
        return cls(Probe(nn.Linear(inputs, 3), torch.zeros(2, inputs), torch.zeros(2, 3)))

    def forward(self, encoder: VisionEncoder, frames: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 -> (N, 3) m."""
        return self.probe(pooled_patches(encoder, frames))


def in_front(things: Tensor) -> Tensor:
    """Whether things (..., 3) m are where `Sight` was fitted: (...) bool."""
    (near, far), (right, left) = _FRONT
    return (things[..., 0] > near) & (things[..., 0] < far) & (things[..., 1] > right) & (things[..., 1] < left)


def pooled_patches(encoder: VisionEncoder, frames: Tensor) -> Tensor:
    """Patch tokens of frames (N, S, S, 3) uint8, averaged in 4 x 4 areas: (N, 16 D)."""
    tokens = encoder.patches(frames).transpose(1, 2)
    side = round(tokens.shape[-1] ** 0.5)
    return F.adaptive_avg_pool2d(tokens.unflatten(-1, (side, side)), _SIDE).flatten(1)


@torch.no_grad()
def fit_sight(encoder: VisionEncoder, rollouts: Rollouts) -> Sight:
    """Fit it to where the thing was in recorded episodes, before a fall and in front; it is on the encoder's device.

    Raises ValueError if it never was there.
    """
    device = encoder.places.device
    seen_there = in_front(torch.from_numpy(rollouts["thing"])).numpy()
    rows, at = np.nonzero(seen_there & (np.arange(seen_there.shape[1]) < rollouts["length"][:, None]))
    if not len(rows):
        raise ValueError(f"In {len(rollouts)} episodes the thing was never in front of the robot. Record more.")
    chosen = np.linspace(0, len(rows) - 1, min(_MOST, len(rows))).round().astype(int)
    rows, at = rows[chosen], at[chosen]
    seen = []
    for row in np.unique(rows):
        frames = torch.from_numpy(rollouts.frames(int(row))[at[rows == row]]).to(device)
        seen += [pooled_patches(encoder, part) for part in frames.split(_AT_ONCE)]
    things = torch.from_numpy(rollouts["thing"][rows, at]).to(device)
    return Sight(fit_linear_probe(torch.cat(seen), things)).eval()

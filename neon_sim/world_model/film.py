"""Imagined beside real. A LeWM decodes nothing: what it imagines is shown as the nearest recorded picture.

So what is imagined in a film is always a real picture of another moment, the one that the model means.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neon_sim.world_model.dataset import Rollouts, encode_rollouts, moments_of
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.trial import Trial

_SIDE = 256  # px of each picture in the film


class Memory:
    """Recorded pictures to find by latent."""

    def __init__(self, latents: Tensor, frames: np.ndarray) -> None:
        """latents (M, D), frames (M, S, S, 3) uint8."""
        self._latents, self._frames = latents, frames

    @classmethod
    def of(cls, model: LeWM, rollouts: Rollouts, episodes: int = 60) -> "Memory":
        """Encode the pictures of the first episodes, with what was felt; the model in eval mode."""
        some = rollouts.part(np.arange(min(episodes, len(rollouts))))
        (latents,) = moments_of(some, encode_rollouts(model, some))
        return cls(latents, np.concatenate([some.frames(row) for row in range(len(some))]))

    def nearest(self, latent: np.ndarray) -> np.ndarray:
        """The picture (S, S, 3) whose latent is nearest to this one (D,)."""
        off = (self._latents - torch.from_numpy(latent)).square().sum(-1)
        return self._frames[int(off.argmin())]


def film_of(trial: Trial, goal: np.ndarray, memory: Memory) -> np.ndarray:
    """Pictures (T, 256, 1024, 3) uint8: what was seen, what was imagined for that moment when it was planned, where the
    plan was to end, and the goal (S, S, 3).

    Until something is imagined, the two in the middle repeat what is seen.
    """
    rows = []
    for frame, now, end in zip(trial.frames, trial.imagined, trial.foreseen, strict=True):
        told = [frame if latent is None else memory.nearest(latent) for latent in (now, end)]
        rows.append(np.concatenate([_large(picture) for picture in (frame, *told, goal)], axis=1))
    return np.stack(rows)


def write_film(pictures: np.ndarray, path: Path, rate_hz: float = 10.0) -> None:
    """Write an H.264 file of pictures (T, H, W, 3) uint8."""
    import imageio.v3 as imageio

    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(path, pictures, fps=rate_hz, codec="libx264")


def _large(frame: np.ndarray) -> np.ndarray:
    times = max(1, _SIDE // len(frame))
    return frame.repeat(times, axis=0).repeat(times, axis=1)[:_SIDE, :_SIDE]

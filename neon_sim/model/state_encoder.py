"""StateEncoder: the simulation's privileged truth, each number seen at several scales at once."""

import math
from typing import Final

import torch
from torch import Tensor, nn

_WAVELENGTHS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)  # in the numbers' own units: m, rad, shares, counts
_FAR: Final = 8.0  # what lies beyond is taken for this


class StateEncoder(nn.Module):
    """A two-layer MLP with GELU on every number, its sines and its cosines: (B, size) -> (B, output_dim).

    What stands at a place of the `state` sensor depends on the task: a palm's place to the centimetre in one, a whole
    number up to five in another. One mean and spread for all of them would squeeze the first by the second, so there
    is none; waves of half a unit to eight keep both apart.

    Args:
        size: numbers of the sensor.
        output_dim: width of the answer, and of the hidden layer.
    """

    waves: Tensor

    def __init__(self, size: int, output_dim: int = 256) -> None:
        super().__init__()
        self.size, self.output_dim = size, output_dim
        self.register_buffer("waves", math.tau / torch.tensor(_WAVELENGTHS), persistent=False)
        self.net = nn.Sequential(
            nn.Linear(size * (1 + 2 * len(_WAVELENGTHS)), output_dim),
            nn.GELU(),
            nn.Linear(output_dim, output_dim),
            nn.GELU(),
        )

    def forward(self, state: Tensor) -> Tensor:
        """(B, size) in the sensor's units -> (B, output_dim). Raises ValueError for another shape."""
        if state.shape[1:] != (self.size,):
            raise ValueError(f"StateEncoder wants (B, {self.size}), got {tuple(state.shape)}. Which sensor is it?")
        near = state.clamp(-_FAR, _FAR)
        angle = (near[..., None] * self.waves).flatten(1)
        return self.net(torch.cat([near, angle.sin(), angle.cos()], dim=-1))

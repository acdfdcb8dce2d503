"""Encoders for the senses that a robot may or may not have, and for the truth, which only a simulation has."""

from collections.abc import Callable
from typing import Final

from torch import Tensor, nn

from neon_sim.model.encoders import VectorEncoder
from neon_sim.model.state_encoder import StateEncoder
from neon_sim.names import nearest

_VECTOR_WIDTH, _PICTURE_WIDTH = 32, 64


class DepthEncoder(nn.Module):
    """A depth picture through three strided convolutions and a mean over what is left of it: (B, H, W) -> (B, 64).

    Args:
        levels: what a pixel of full range reads; 255 for the env's quantised depth. Pixels are divided by it.
        output_dim: width of the answer.
    """

    def __init__(self, levels: int = 255, output_dim: int = _PICTURE_WIDTH) -> None:
        super().__init__()
        self.levels, self.output_dim = levels, output_dim
        self.net = _convolutions(1, output_dim)

    def forward(self, depth: Tensor) -> Tensor:
        """(B, H, W) or (B, H, W, 1), any number type -> (B, output_dim). Raises ValueError for another shape."""
        picture = _one_channel("DepthEncoder", depth)
        return self.net(picture.float().unsqueeze(1) / self.levels)


class SegmentationEncoder(nn.Module):
    """A picture of class numbers: each class has a learned vector, then as `DepthEncoder`: (B, H, W) -> (B, 64).

    Args:
        classes: how many there are; numbers run from 0 to classes - 1.
        output_dim: width of the answer.
    """

    def __init__(self, classes: int, output_dim: int = _PICTURE_WIDTH) -> None:
        super().__init__()
        self.classes, self.output_dim = classes, output_dim
        self.embed = nn.Embedding(classes, 8)
        self.net = _convolutions(8, output_dim)

    def forward(self, segmentation: Tensor) -> Tensor:
        """(B, H, W) or (B, H, W, 1) class numbers, any number type -> (B, output_dim).

        Raises ValueError for a class that is none, and for another shape.
        """
        numbers = _one_channel("SegmentationEncoder", segmentation).long()
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high >= self.classes:
            raise ValueError(f"SegmentationEncoder knows classes 0 to {self.classes - 1}, got {low} to {high}.")
        return self.net(self.embed(numbers).permute(0, 3, 1, 2))


def _one_channel(who: str, picture: Tensor) -> Tensor:
    """(B, H, W) out of it, or out of (B, H, W, 1) as the env has it."""
    if picture.dim() == 4 and picture.shape[-1] == 1:
        return picture[..., 0]
    if picture.dim() != 3:
        raise ValueError(f"{who} wants (B, H, W) or (B, H, W, 1), got {tuple(picture.shape)}.")
    return picture


def _convolutions(channels: int, output_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 16, kernel_size=5, stride=2, padding=2),
        nn.GELU(),
        nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(32, 32, kernel_size=3, stride=2, padding=1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(32 * 16, output_dim),
        nn.GELU(),
    )


def _vector(width: int) -> VectorEncoder:
    return VectorEncoder(width, _VECTOR_WIDTH)


# Name -> encoder of a size: the width of a vector, the levels of a depth picture, the number of classes.
EXTRA_ENCODERS: Final[dict[str, Callable[[int], nn.Module]]] = {
    "imu": _vector,  # 6: gyro rad/s, acceleration m/s^2
    "force": _vector,  # 24: 6 for each wrist and foot, N and N m
    "tactile": _vector,  # 32: pressure of each cell of the palms
    "gps": _vector,  # 3: m, where the base is
    "depth": DepthEncoder,
    "segmentation": SegmentationEncoder,
    "state": StateEncoder,  # 64: the base and what the task knows; no robot senses it
}


def build_extra_encoder(name: str, size: int) -> nn.Module:
    """The encoder of one of `EXTRA_ENCODERS`, with an `output_dim`.

    Raises ValueError for a sense that is not among them, naming the nearest, and for a size below 1.
    """
    if name not in EXTRA_ENCODERS:
        raise nearest("extra sense", name, tuple(EXTRA_ENCODERS))
    if size < 1:
        raise ValueError(f"extra_senses wants a size of at least 1 for {name!r}, got {size}.")
    return EXTRA_ENCODERS[name](size)

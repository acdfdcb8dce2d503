"""What the world model sees with: a small vision transformer, and the projector that makes one token of a frame."""

import torch
from torch import Tensor, nn

from neon_sim.model.layers import Attention
from neon_sim.world_model.config import LeWMConfig

_INIT_STD = 0.02  # of the ViT papers' truncated normal


class EncoderBlock(nn.Module):
    """Pre-norm transformer block with full attention; its queries may be fewer than the tokens they look at."""

    def __init__(self, dim: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp), nn.GELU(), nn.Linear(mlp, dim))

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """(B, L, D) -> the first `queries` tokens of the result, (B, queries, D); all of them if None."""
        seen = self.norm1(x)
        x = x[:, :queries] + self.attention(seen[:, :queries], seen)
        return x + self.mlp(self.norm2(x))


class VisionEncoder(nn.Module):
    """Frames to one token: the class token of a ViT (Dosovitskiy et al. 2021), the last layer of which serves it alone.

    With a grid it is read off the patches' tokens instead, averaged within each cell, by a layer that has weights of
    its own for each cell (ours). A young class token is little else than the mean over patches: it knew how large a box
    looks, and so how far ahead and how tall it is, and lost within 50 updates where it is sideways.
    """

    def __init__(self, config: LeWMConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        patches = (config.image_size // config.patch_size) ** 2
        self.patch = nn.Conv2d(3, config.dim, config.patch_size, config.patch_size)
        self.class_token = nn.Parameter(_INIT_STD * torch.randn(1, 1, config.dim))
        self.places = nn.Parameter(_INIT_STD * torch.randn(1, patches + 1, config.dim))
        self.blocks = nn.ModuleList(
            EncoderBlock(config.dim, config.encoder_heads, config.encoder_mlp) for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.grid, self.side = config.grid, config.image_size // config.patch_size
        if config.grid:
            self.read = nn.Linear(config.grid**2 * config.dim, config.dim)
        self.apply(start_small)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 -> (N, D), in the weights' dtype. Raises ValueError for frames of another size or type."""
        x = self._tokens(frames)
        if not self.grid:
            return self.norm(self.blocks[-1](x, queries=1))[:, 0]
        patches = self.norm(self.blocks[-1](x))[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))
        cells = nn.functional.avg_pool2d(patches, self.side // self.grid)  # (N, D, grid, grid)
        return self.read(cells.flatten(1))

    def patches(self, frames: Tensor) -> Tensor:
        """The same frames -> a token for each patch (N, P, D), before the last block."""
        return self._tokens(frames)[:, 1:]

    def _tokens(self, frames: Tensor) -> Tensor:
        """What the last block is given: class token and patches (N, 1 + P, D)."""
        side = self.image_size
        if frames.dtype != torch.uint8 or frames.shape[1:] != (side, side, 3):
            raise ValueError(
                f"The encoder wants uint8 frames (N, {side}, {side}, 3), got {tuple(frames.shape)} {frames.dtype}. "
                "shrink_frames makes them from larger ones."
            )
        x = self._embedded(frames)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.places
        for block in self.blocks[:-1]:
            x = block(x)
        return x

    def _embedded(self, frames: Tensor) -> Tensor:
        """Patches (N, P, D) of frames. The same as the convolution that the weights belong to, as one product: its
        patches do not overlap, and a single frame takes a third of the time.
        """
        patch, count = self.patch.kernel_size[0], self.side
        tiles = frames.reshape(-1, count, patch, count, patch, 3).permute(0, 1, 3, 5, 2, 4)
        pixels = tiles.reshape(-1, count**2, 3 * patch**2).to(self.places.dtype) / 127.5 - 1.0
        return nn.functional.linear(pixels, self.patch.weight.flatten(1), self.patch.bias)


class Projector(nn.Module):
    """Linear, BatchNorm, GELU, Linear: the last LayerNorm of a transformer would keep SIGReg from shaping z."""

    def __init__(self, input_dim: int, hidden: int, output_dim: int) -> None:
        super().__init__()
        self.widen = nn.Linear(input_dim, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.narrow = nn.Linear(hidden, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) -> (..., output_dim); in training the batch is all but the last axis."""
        hidden = self.widen(x)
        hidden = self.norm(hidden.flatten(0, -2)).view_as(hidden)
        return self.narrow(nn.functional.gelu(hidden))


class ProprioEncoder(nn.Module):
    """Standardised proprioception through an MLP, and a learned vector for where there is none.

    `mean` and `std` are buffers: they travel with the weights, and leave the input as it is until set.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: LeWMConfig) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(config.proprio_dim, config.proprio_hidden),
            nn.GELU(),
            nn.Linear(config.proprio_hidden, config.dim),
        )
        self.absent = nn.Parameter(_INIT_STD * torch.randn(config.dim))
        self.register_buffer("mean", torch.zeros(config.proprio_dim))
        self.register_buffer("std", torch.ones(config.proprio_dim))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the input's mean and standard deviation, each (proprio_dim,); a channel that never moved is only centred.

        Raises ValueError for another shape, values that are not finite, or a negative std.
        """
        for name, value in (("mean", mean), ("std", std)):
            if (
                value.shape != self.mean.shape
                or not bool(value.isfinite().all())
                or (name == "std" and value.min() < 0)
            ):
                raise ValueError(
                    f"set_statistics wants a finite {name} of shape {tuple(self.mean.shape)} (std >= 0), got shape "
                    f"{tuple(value.shape)}. Compute it over the training data's first axis."
                )
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, 1.0))

    def forward(self, proprio: Tensor | None, shape: tuple[int, ...], keep: Tensor | None = None) -> Tensor:
        """(*shape, P) -> (*shape, D). None is absent, and so are rows where `keep`, broadcast to `shape`, is False.

        Inputs beyond 8 standard deviations are cut there: a rare contact force must not drive z.
        """
        absent = self.absent.expand(*shape, -1)
        if proprio is None:
            return absent
        found = self.net(((proprio.to(self.mean) - self.mean) / self.std).clamp(-8.0, 8.0))
        return found if keep is None else torch.where(keep.unsqueeze(-1), found, absent)


def start_small(module: nn.Module) -> None:
    """Initial weights of linear layers and patches: normal of std 0.02, cut at two, no bias (use with Module.apply)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=_INIT_STD, a=-2 * _INIT_STD, b=2 * _INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def shrink_frames(frames: Tensor, size: int) -> Tensor:
    """Average areas of (..., H, W, 3) uint8 to (..., size, size, 3) uint8. Raises ValueError for smaller frames."""
    height, width = frames.shape[-3:-1]
    if min(height, width) < size:
        raise ValueError(f"shrink_frames wants frames of at least {size} x {size}, got {height} x {width}.")
    if height == width == size:
        return frames
    flat = frames.reshape(-1, height, width, 3).permute(0, 3, 1, 2).float()
    small = nn.functional.adaptive_avg_pool2d(flat, size).round().to(torch.uint8)
    return small.permute(0, 2, 3, 1).reshape(*frames.shape[:-3], size, size, 3)

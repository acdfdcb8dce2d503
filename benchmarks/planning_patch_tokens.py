"""A world model with a token for every patch, shaped like DINO-WM: what LeWM's one token per frame is measured against.

Zhou et al. 2024 (arXiv 2411.04983): 196 patch tokens of 384 a frame (DINOv2 ViT-S/14 at 196 px), a causal ViT of 6
layers with 16 heads of 64 and an MLP of 2048 over the newest 3 frames, the action added to every token of its frame.
Ours has random weights: time and FLOPs do not depend on them, success would. It is rolled out as published, without a
cache, one frame at a time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class PatchTokenConfig:
    """Sizes of the predictor."""

    patches: int = 196
    dim: int = 384
    layers: int = 6
    heads: int = 16
    head_dim: int = 64
    mlp: int = 2048
    history: int = 3  # frames that it attends over
    action_dim: int = 10


class PatchBlock(nn.Module):
    """Pre-norm transformer block; a token sees all tokens of its own frame and of those before it."""

    def __init__(self, config: PatchTokenConfig) -> None:
        super().__init__()
        inner, self.heads = config.heads * config.head_dim, config.heads
        self.norm1, self.norm2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.query_key_value = nn.Linear(config.dim, 3 * inner, bias=False)
        self.output = nn.Linear(inner, config.dim)
        self.mlp = nn.Sequential(nn.Linear(config.dim, config.mlp), nn.GELU(), nn.Linear(config.mlp, config.dim))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), mask (L, L) bool -> (B, L, D)."""
        q, k, v = self.query_key_value(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class PatchTokenPredictor(nn.Module):
    """Patch tokens of up to 3 frames and the actions that follow -> the patch tokens of the next frame."""

    def __init__(self, config: PatchTokenConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PatchTokenConfig()
        self.embed_action = nn.Linear(config.action_dim, config.dim)
        self.places = nn.Parameter(0.02 * torch.randn(1, config.history, config.patches, config.dim))
        self.blocks = nn.ModuleList(PatchBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, frames: Tensor, actions: Tensor) -> Tensor:
        """(B, T, P, D) and (B, T, A), T up to the history -> the next frame's tokens (B, P, D)."""
        length, patches = frames.shape[1], self.config.patches
        x = (frames + self.embed_action(actions).unsqueeze(2) + self.places[:, :length]).flatten(1, 2)
        frame = torch.arange(length).repeat_interleave(patches)
        mask = frame[:, None] >= frame
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x[:, -patches:])

    def rollout(self, frame: Tensor, actions: Tensor) -> Tensor:
        """One frame's tokens (1, P, D) and candidate plans (1, N, H, A) -> the last frame's tokens (1, N, P, D)."""
        count, horizon = actions.shape[1:3]
        seen, taken = frame.expand(count, -1, -1)[:, None], actions[0]
        for step in range(horizon):
            begin = max(0, step + 1 - self.config.history)
            following = self(seen[:, begin:], taken[:, begin : step + 1])
            seen = torch.cat([seen, following[:, None]], dim=1)
        return seen[None, :, -1]

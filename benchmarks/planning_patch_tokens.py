"""A world model with a token for every patch, shaped like DINO-WM: what LeWM's one token per frame is measured against.

Zhou et al. 2024 (arXiv 2411.04983): 196 patch tokens of 384 a frame (DINOv2 ViT-S/14 at 196 px), a causal ViT of 6
layers with 16 heads of 64 and an MLP of 2048 over the newest 3 frames, the action added to every token of its frame.
It is rolled out as published, without a cache, one frame at a time. Time and FLOPs do not depend on the weights, so the
speed rows have random ones; for success a `PatchWorld` is trained (planning_equal_flops.py).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neon_sim.world_model.encoder import VisionEncoder
from neon_sim.world_model.lewm import LeWM


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
        return self.norm(self._hidden(frames, actions)[:, -1])

    def following(self, frames: Tensor, actions: Tensor) -> Tensor:
        """What follows each frame, told the truth up to it: the same inputs -> (B, T, P, D); for training."""
        return self.norm(self._hidden(frames, actions))

    def _hidden(self, frames: Tensor, actions: Tensor) -> Tensor:
        length, patches = frames.shape[1], self.config.patches
        x = (frames + self.embed_action(actions).unsqueeze(2) + self.places[:, :length]).flatten(1, 2)
        frame = torch.arange(length).repeat_interleave(patches)
        mask = frame[:, None] >= frame
        for block in self.blocks:
            x = block(x, mask)
        return x.unflatten(1, (length, patches))

    def rollout(self, frames: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """The newest frames (1, h, P, D), the actions between them (1, h - 1, A), candidate plans (1, N, H, A) -> the
        tokens after each action, (1, N, H, P, D).
        """
        count, horizon = actions.shape[1:3]
        seen = frames.expand(count, -1, -1, -1)
        taken = torch.cat([past.expand(count, -1, -1), actions[0]], dim=1)
        known = seen.shape[1]
        for last in range(known, known + horizon):
            begin = max(0, last - self.config.history)
            following = self(seen[:, begin:], taken[:, begin:last])
            seen = torch.cat([seen, following[:, None]], dim=1)
        return seen[None, :, known:]


class PatchWorld(nn.Module):
    """A patch-token world model that plans in the place of a LeWM: to a controller its latent is all tokens of a frame
    in a row.

    What it sees are the patch tokens of a trained LeWM's own encoder before its last layer, which serves the class
    token alone, and the token of what is felt; both frozen and normalised, as DINO-WM's are. Its predictor has the LeWM
    predictor's width, depth and history. So the two differ in how many tokens they imagine, and not in what they saw.
    """

    def __init__(self, lewm: LeWM) -> None:
        """Raises ValueError for an encoder of one layer, which has no patch tokens to give."""
        super().__init__()
        old = lewm.config
        if old.encoder_layers < 2:
            raise ValueError("A patch world wants an encoder of two layers or more: the last one has one token only.")
        patches = (old.image_size // old.patch_size) ** 2 + bool(old.proprio_dim)
        self.tokens = PatchTokenPredictor(
            PatchTokenConfig(
                patches, old.dim, old.predictor_layers, old.predictor_heads, old.head_dim, old.predictor_mlp,
                old.history, old.action_dim,
            )
        )  # fmt: skip
        self.lewm = lewm.requires_grad_(False)
        self.config = replace(old, dim=patches * old.dim)

    @property
    def predictor(self) -> "PatchWorld":
        """Itself: what a controller rolls out."""
        return self

    @property
    def encoder(self) -> VisionEncoder:
        """What it sees with."""
        return self.lewm.encoder

    @torch.no_grad()
    def encode(self, frames: Tensor, proprio: Tensor | None = None) -> Tensor:
        """Frames (B, T, S, S, 3) uint8 and proprioception (B, T, P) or None -> latents (B, T, D), see `LeWM.encode`."""
        seen = self.lewm.encoder.patches(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        if self.lewm.config.proprio_dim:
            felt = self.lewm.proprio(proprio, tuple(frames.shape[:2]))
            seen = torch.cat([seen, felt.unsqueeze(2)], dim=2)
        return F.layer_norm(seen, seen.shape[-1:]).flatten(2)

    def split(self, latents: Tensor) -> Tensor:
        """Latents (..., D) as tokens (..., P, d)."""
        return latents.unflatten(-1, (self.tokens.config.patches, self.tokens.config.dim))

    def rollout(self, latents: Tensor, past: Tensor, actions: Tensor, prefix: bool = False) -> Tensor:
        """See `Predictor.rollout`, for one problem. Raises ValueError for `prefix`, which it does not know."""
        if prefix:
            raise ValueError("A patch-token world model does not predict from prefixes.")
        return self.tokens.rollout(self.split(latents), past, actions).flatten(-2)

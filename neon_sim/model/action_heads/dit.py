"""DiTActionHead: a small diffusion transformer over the steps of a chunk, sampled by DDIM."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neon_sim.model.action_heads.chunking import masked_mse
from neon_sim.model.action_heads.denoising import (
    Denoising,
    DenoisingHead,
    NoisyChunk,
    draw,
    require_context,
    without_padding,
)
from neon_sim.model.layers import (
    Activation,
    Attention,
    ResidualScale,
    RMSNorm,
    modulate,
    relu_squared,
    soft_cap,
    time_waves,
)

_STEP_STD = 0.02  # the usual start of learned positions in transformers


def noise_schedule(time: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise level at times in [0, 1], any shape: sin and cos of a quarter turn, so s^2 + n^2 = 1.

    The cosine schedule of Nichol and Dhariwal (arXiv 2102.09672) without its offset: nothing of the action is left at
    time 0, so that sampling starts where training was (Lin et al., arXiv 2305.08891).
    """
    angle = 0.5 * math.pi * time
    return angle.sin(), angle.cos()


def ddim_step(noisy: Tensor, clean: Tensor, time: float, after: float) -> Tensor:
    """x' = s' clean + n' eps with eps = (x - s clean) / n, the noise that `clean` leaves to explain; any shape.

    Deterministic DDIM (arXiv 2010.02502, eq. 12 with sigma 0); s, n of `noise_schedule`.
    """
    (signal, next_signal), (level, next_level) = (
        (float(a), float(b)) for a, b in noise_schedule(torch.tensor([time, after], dtype=torch.float64))
    )
    clean = clean.to(noisy.dtype)
    return next_signal * clean + next_level * (noisy - signal * clean) / level


def _norm(dim: int, use_rmsnorm: bool) -> nn.Module:
    return RMSNorm(dim) if use_rmsnorm else nn.LayerNorm(dim, elementwise_affine=False)


class DiTBlock(nn.Module):
    """Self-attention over the action tokens, optional cross-attention, MLP; each modulated by adaLN and gated.

    Every part is h + gate * part(norm(h) (1 + scale) + shift) with shift, scale and gate from the condition, and all
    three start at zero (adaLN-zero, arXiv 2212.09748): a new block is the identity. The residual has its own alpha
    (eq. 7). With the v2 switches off it is the published block: GELU, LayerNorm, plain residuals.

    Args:
        hidden_dim: width of tokens and condition.
        num_heads: divides hidden_dim.
        cross_attention_dim: width of the context tokens; None for no cross-attention.
        mlp_ratio: inner width of the MLP over hidden_dim. Half of the usual 4: the documents want a small head.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        dropout: float = 0.1,
        cross_attention_dim: int | None = None,
        mlp_ratio: int = 2,
        use_relu_squared: bool = True,
        use_rmsnorm: bool = True,
        use_residual_scale: bool = True,
    ) -> None:
        super().__init__()
        self.context_dim = cross_attention_dim
        self.activation: Activation = relu_squared if use_relu_squared else F.gelu
        self.self_attention = Attention(hidden_dim, num_heads)
        if cross_attention_dim is not None:
            self.cross_attention = Attention(hidden_dim, num_heads, cross_attention_dim)
        self.mlp_in = nn.Linear(hidden_dim, mlp_ratio * hidden_dim)
        self.mlp_out = nn.Linear(mlp_ratio * hidden_dim, hidden_dim)
        parts = 2 if cross_attention_dim is None else 3
        self.norms = nn.ModuleList(_norm(hidden_dim, use_rmsnorm) for _ in range(parts))
        self.residuals = nn.ModuleList(ResidualScale() for _ in range(parts)) if use_residual_scale else None
        self.modulation = nn.Linear(hidden_dim, 3 * parts * hidden_dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, condition: Tensor, context: Tensor | None = None) -> Tensor:
        """Tokens x (B, T, D), condition (B, D), context (B, M, cross_attention_dim) -> (B, T, D).

        Raises ValueError for a context where there is no cross-attention, and for none where there is.
        """
        require_context(context, self.context_dim, "DiTBlock")
        levels = iter(self.modulation(F.silu(condition)).chunk(3 * len(self.norms), dim=-1))
        for index, norm in enumerate(self.norms):
            shift, scale, gate = next(levels), next(levels), next(levels)
            update = gate.unsqueeze(1) * self.dropout(self._part(index, modulate(norm(x), shift, scale), context))
            x = x + update if self.residuals is None else self.residuals[index](update, x)
        return x

    def _part(self, index: int, x: Tensor, context: Tensor | None) -> Tensor:
        if index == 0:
            return self.self_attention(x, x)
        if index == 1 and context is not None:
            return self.cross_attention(x, context)
        return self.mlp_out(self.activation(self.mlp_in(x)))


class DiTActionHead(DenoisingHead):
    """x_t = s(t) action + n(t) noise; a transformer over the T steps says which action is in it.

    One token per step: the noisy action of the step and the step's embedding. The condition is the features plus the
    denoising time. The network predicts the clean chunk, soft-capped (eq. 9), so its estimate is a legal chunk at
    every step. U-Net skips have no place here; the other v2 switches act in the blocks.

    Args:
        cross_attention_dim: width E of context tokens, brought to hidden_dim once for all blocks; None for none.
        num_heads: divides hidden_dim, which is even.
    """

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        num_steps: int = 16,
        hidden_dim: int = 384,
        num_layers: int = 8,
        num_heads: int = 6,
        num_denoise_steps: int = 4,
        soft_cap_value: float = 1.0,
        cross_attention_dim: int | None = None,
        dropout: float = 0.1,
        mlp_ratio: int = 2,
        use_relu_squared: bool = True,
        use_rmsnorm: bool = True,
        use_residual_scale: bool = True,
    ) -> None:
        super().__init__(action_dim, num_steps, num_denoise_steps)
        self.soft_cap_value, self.context_dim = soft_cap_value, cross_attention_dim
        self.feature_proj = nn.Linear(input_dim, hidden_dim)
        self.time_in, self.time_out = nn.Linear(hidden_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
        self.action_proj = nn.Linear(action_dim, hidden_dim)
        self.step_embed = nn.Parameter(_STEP_STD * torch.randn(num_steps, hidden_dim))
        switches = use_relu_squared, use_rmsnorm, use_residual_scale
        self.blocks = nn.ModuleList(
            DiTBlock(hidden_dim, num_heads, dropout, cross_attention_dim and hidden_dim, mlp_ratio, *switches)
            for _ in range(num_layers)
        )
        if cross_attention_dim is not None:
            self.context_norm = RMSNorm(cross_attention_dim)
            self.context_proj = nn.Linear(cross_attention_dim, hidden_dim)
        self.norm = _norm(hidden_dim, use_rmsnorm)
        self.modulation = nn.Linear(hidden_dim, 2 * hidden_dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.output = nn.Linear(hidden_dim, action_dim)

    def estimate(self, noisy: Tensor, time: Tensor, features: Tensor, context: Tensor | None = None) -> Tensor:
        """The action in noisy (B, T, A) at time (B,); features (B, input_dim), context (B, M, E) -> (B, T, A)."""
        return self._estimate(noisy, time, features, self._memory(context))

    def _memory(self, context: Tensor | None) -> Tensor | None:
        require_context(context, self.context_dim, "DiTActionHead")
        return None if context is None else self.context_proj(self.context_norm(context))

    def _estimate(self, noisy: Tensor, time: Tensor, features: Tensor, memory: Tensor | None) -> Tensor:
        projected = self.feature_proj(features)
        waves = time_waves(time, self.time_in.in_features).to(projected.dtype)
        condition = projected + self.time_out(F.silu(self.time_in(waves)))
        # One row of embeddings per sample, though they are equal: a per-sample Fisher reads gradients by batch row.
        x = self.action_proj(noisy.to(features.dtype)) + self.step_embed.expand(len(noisy), -1, -1)
        for block in self.blocks:
            x = block(x, condition, memory)
        shift, scale = self.modulation(F.silu(condition)).chunk(2, dim=-1)
        return soft_cap(self.output(modulate(self.norm(x), shift, scale)), self.soft_cap_value)

    def begin(
        self,
        features: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Denoising:
        """See DenoisingHead. Raises ValueError for noise of another shape and for a context that does not fit."""
        noise = self.draw_noise(features, generator) if noise is None else noise
        self.require_chunk(noise, len(features))
        return NoisyChunk(noise, partial(self._predict, features=features, memory=self._memory(context)), ddim_step)

    def _predict(self, noisy: Tensor, time: float, features: Tensor, memory: Tensor | None) -> Tensor:
        return self._estimate(noisy, torch.full((len(noisy),), time, device=noisy.device), features, memory)

    def compute_loss(
        self,
        features: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        dim_weights: Tensor | None = None,
    ) -> Tensor:
        """|action_pred - action|^2 at one uniform time per row, mean over real steps (D16); see DenoisingHead."""
        self.require_chunk(target, len(features))
        time = draw(torch.rand, (len(features),), features.new_empty((), dtype=torch.float32), generator)
        noise = self.draw_noise(features, generator)
        noisy = self.disturb(without_padding(target, mask), noise, time)
        return masked_mse(self.estimate(noisy, time, features, context), target, mask, dim_weights)

    def disturb(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """s(t) clean + n(t) noise: chunks (B, T, A), time (B,) -> (B, T, A)."""
        signal, level = (share.view(-1, 1, 1) for share in noise_schedule(time))
        return signal * clean + level * noise

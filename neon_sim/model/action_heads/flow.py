"""FlowMatchingHead: a straight path from noise to a chunk, learned as a velocity and walked by Euler steps."""

from functools import partial

import torch
from torch import Tensor, nn

from neon_sim.model.action_heads.chunking import masked_mse
from neon_sim.model.action_heads.denoising import (
    Denoising,
    DenoisingHead,
    NoisyChunk,
    draw,
    require_context,
    without_padding,
)
from neon_sim.model.action_heads.mlp import MLPDecoder
from neon_sim.model.layers import Attention, RMSNorm, time_waves

# Training times end here. The velocity is the way left over the time left, so the error of a guess at the end counts
# 1 / (1 - t)^2 times; 0.05 is the least time left in "Back to Basics" (arXiv 2511.13720), which has the same form.
LAST_TIME = 0.95


def euler_step(noisy: Tensor, clean: Tensor, time: float, after: float) -> Tensor:
    """x + (after - time) v with v = (clean - x) / (1 - time), the velocity of the straight path; any shape.

    Written as an interpolation, which at after = 1 gives `clean` to the bit.
    """
    return torch.lerp(noisy, clean.to(noisy.dtype), (after - time) / (1.0 - time))


class FlowMatchingHead(DenoisingHead):
    """x_t = (1 - t) noise + t action; a network learns the velocity action - noise (rectified flow, pi0).

    The network says where the path ends (a soft-capped chunk, eq. 9) and the velocity is what leads there,
    v = (end - x_t) / (1 - t). A chunk is smooth and lies in few dimensions; its noise has all T x A of them, and a
    network that named the velocity itself would have to carry them all through its hidden layers. And the cap is then
    part of what is trained: put on the finished sample it would bend 0.9 to 0.72.

    Args:
        noise_beta_alpha: 0 draws training times uniformly; above 0 the share of noise 1 - t follows Beta(alpha, 1), as
            in pi0 (alpha 1.5): more of the noisy end, where the modes are chosen.
        use_cross_attention: the condition also attends to context tokens (B, M, cross_attention_dim), input_dim wide
            if that is None.
        num_heads: of that attention; divides hidden_dim.
    """

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        num_steps: int = 16,
        hidden_dim: int = 512,
        num_layers: int = 4,
        num_denoise_steps: int = 4,
        soft_cap_value: float = 1.0,
        noise_beta_alpha: float = 0.0,
        use_cross_attention: bool = False,
        cross_attention_dim: int | None = None,
        num_heads: int = 8,
        dropout: float = 0.1,
        use_relu_squared: bool = True,
        use_rmsnorm: bool = True,
        use_residual_scale: bool = True,
        use_skip_connections: bool = True,
    ) -> None:
        super().__init__(action_dim, num_steps, num_denoise_steps)
        if noise_beta_alpha < 0.0:
            raise ValueError(f"noise_beta_alpha wants 0 (uniform) or more, got {noise_beta_alpha}. pi0 uses 1.5.")
        self.noise_beta_alpha = noise_beta_alpha
        self.context_dim = (cross_attention_dim or input_dim) if use_cross_attention else None
        self.feature_in, self.feature_out = nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
        self.feature_norm = RMSNorm(hidden_dim) if use_rmsnorm else nn.Identity()
        if self.context_dim is not None:
            self.query_norm, self.context_norm = RMSNorm(hidden_dim), RMSNorm(self.context_dim)
            self.attention = Attention(hidden_dim, num_heads, self.context_dim)
        self.time_proj = nn.Linear(hidden_dim, hidden_dim)
        self.net = MLPDecoder(
            num_steps * action_dim + hidden_dim,
            num_steps * action_dim,
            hidden_dim,
            num_layers,
            dropout,
            use_relu_squared,
            use_rmsnorm,
            use_residual_scale,
            use_skip_connections,
            soft_cap_value,
        )

    def condition(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        """What every step of one chunk has in common: features (B, input_dim), context (B, M, E) -> (B, hidden)."""
        require_context(context, self.context_dim, "FlowMatchingHead")
        condition = self.feature_out(self.net.activation(self.feature_norm(self.feature_in(features))))
        if context is None:
            return condition
        found = self.attention(self.query_norm(condition).unsqueeze(1), self.context_norm(context))
        return condition + found.squeeze(1)

    def estimate(self, noisy: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """The end of the path: noisy (B, T, A), time (B,), condition (B, hidden) -> clean chunk (B, T, A)."""
        waves = time_waves(time, self.time_proj.in_features).to(condition.dtype)
        joined = torch.cat([noisy.to(condition.dtype).flatten(1), condition + self.time_proj(waves)], dim=-1)
        return self.net(joined).view(noisy.shape)

    def velocity(self, noisy: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """d x_t / d t, (B, T, A), for `estimate`'s arguments; time below 1."""
        return (self.estimate(noisy, time, condition) - noisy) / (1.0 - time).view(-1, 1, 1)

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
        return NoisyChunk(noise, partial(self._predict, condition=self.condition(features, context)), euler_step)

    def _predict(self, noisy: Tensor, time: float, condition: Tensor) -> Tensor:
        return self.estimate(noisy, torch.full((len(noisy),), time, device=noisy.device), condition)

    def draw_times(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Training times (B,) float32 in [0, LAST_TIME], by the noise schedule, for features (B, input_dim)."""
        noise_share = draw(torch.rand, (len(features),), features.new_empty((), dtype=torch.float32), generator)
        if self.noise_beta_alpha > 0.0:
            noise_share = noise_share.pow(1.0 / self.noise_beta_alpha)  # Beta(alpha, 1) has the CDF x^alpha
        return LAST_TIME * (1.0 - noise_share)

    def compute_loss(
        self,
        features: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        dim_weights: Tensor | None = None,
    ) -> Tensor:
        """|v_pred - (action - noise)|^2 at one drawn time per row, mean over real steps (D16); see DenoisingHead."""
        self.require_chunk(target, len(features))
        time, noise = self.draw_times(features, generator), self.draw_noise(features, generator)
        predicted, wanted = self.velocities(features, target, noise, time, mask, context)
        return masked_mse(predicted, wanted, mask, dim_weights)

    def velocities(
        self,
        features: Tensor,
        target: Tensor,
        noise: Tensor,
        time: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The predicted and the true velocity (B, T, A) for noise (B, T, A) and times (B,) that are given."""
        target = without_padding(target, mask)
        share = time.view(-1, 1, 1)
        noisy = (1.0 - share) * noise + share * target
        return self.velocity(noisy, time, self.condition(features, context)), target - noise

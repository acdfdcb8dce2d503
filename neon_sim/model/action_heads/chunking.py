"""ActionChunkingHead: one observation seen from 16 instants (eq. 10), and the masked chunk loss (eq. 11)."""

import torch
from torch import Tensor, nn

from neon_sim.model.action_heads.mlp import MLPDecoder

# Standard deviation of a new step embedding: nn.Linear's initial output for features of unit variance (1/sqrt(3)),
# so that "which step" and "which observation" weigh the same in the concatenation.
_STEP_STD = 0.577


def require_same_shape(predicted: Tensor, target: Tensor) -> None:
    """Raise ValueError unless both chunks are of one shape (..., T, A): broadcasting would hide a wrong target."""
    if predicted.shape != target.shape:
        raise ValueError(
            f"A chunk loss wants predicted and target of one shape, got {tuple(predicted.shape)} and "
            f"{tuple(target.shape)}. Resample or slice the target chunk to the head's steps and dimensions."
        )


def require_mask(mask: Tensor, chunk: Tensor) -> None:
    """Raise ValueError unless mask is (B, T), one entry per step of the chunk (B, T, A)."""
    if mask.shape != chunk.shape[:-1]:
        raise ValueError(
            f"A chunk loss wants a mask of shape {tuple(chunk.shape[:-1])}, one per step, got {tuple(mask.shape)}."
        )


def masked_mse(
    predicted: Tensor, target: Tensor, mask: Tensor | None = None, dim_weights: Tensor | None = None
) -> Tensor:
    """Mean squared error over the steps that are real: predicted and target (B, T, A), mask (B, T) -> scalar float32.

    Divides by the number of unmasked elements (decision D16), so that padding does not dilute the loss as eq. 11's
    1/(T A) would. A step counts where mask is nonzero; what stands in a padded step, NaN included, has no effect on
    value or gradient. A batch that is all padding gives 0. dim_weights (A,) multiply the squared error of each
    dimension. Raises ValueError when shapes disagree.
    """
    require_same_shape(predicted, target)
    difference = predicted.float() - target.float()
    if dim_weights is not None:
        difference = difference * dim_weights.sqrt()
    if mask is None:
        return difference.square().mean()
    require_mask(mask, predicted)
    real = mask.bool().unsqueeze(-1)
    # The difference is masked before it is squared: a NaN in the padding would otherwise come back as 0 * NaN.
    total = torch.where(real, difference, 0.0).square().sum()
    return total / (real.sum() * predicted.shape[-1]).clamp(min=1)


class ActionChunkingHead(nn.Module):
    """a_t = MLPDecoder(concat[Proj(f), e_t]) with one learnable embedding e_t per step (eq. 10).

    The decoder's first layer is kept in two halves, one for Proj(f) and one for e_t: W concat[p, e] = W_p p + W_e e,
    and the first term is the same for every step, so it is computed once.
    """

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        num_steps: int = 16,
        hidden_dim: int = 512,
        num_layers: int = 3,
        dropout: float = 0.1,
        use_relu_squared: bool = True,
        use_rmsnorm: bool = True,
        use_residual_scale: bool = True,
        use_skip_connections: bool = True,
        soft_cap_value: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.proj = nn.Linear(input_dim, hidden_dim)
        self.step_embed = nn.Parameter(torch.randn(num_steps, hidden_dim) * _STEP_STD)
        self.step_hidden = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.decoder = MLPDecoder(
            hidden_dim,
            action_dim,
            hidden_dim,
            num_layers,
            dropout,
            use_relu_squared,
            use_rmsnorm,
            use_residual_scale,
            use_skip_connections,
            soft_cap_value,
        )

    def forward(self, features: Tensor) -> Tensor:
        """Fused features (B, input_dim) -> normalised actions (B, num_steps, action_dim)."""
        from_features = self.decoder.hidden[0](self.proj(features)).unsqueeze(1)
        # One row of embeddings per sample, though they are equal: a per-sample Fisher reads gradients by batch row.
        from_steps = self.step_hidden(self.step_embed.expand(len(features), -1, -1))
        return self.decoder.decode(from_features + from_steps)

    def compute_loss(self, features: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """features (B, input_dim), target (B, T, A), mask (B, T) of real steps -> scalar masked MSE."""
        return masked_mse(self(features), target, mask)

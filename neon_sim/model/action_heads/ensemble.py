"""EnsembleHead: an MLP, a flow and a DiT head, mixed by a gate that reads the features."""

from typing import Any, Final

import torch
from torch import Tensor, nn

from neon_sim.model.action_heads.chunking import ActionChunkingHead, masked_mse
from neon_sim.model.action_heads.denoising import Denoising, DenoisingHead, HeldChunk, MixedDenoising, denoise, mix
from neon_sim.model.action_heads.dit import DiTActionHead
from neon_sim.model.action_heads.flow import FlowMatchingHead

MEMBERS: Final = ("mlp", "flow", "dit")


def energy_score(first: Tensor, second: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """(|X - y| + |X' - y|) / 2 - |X - X'| / 2 for two draws X, X' and the truth y, (B, T, A) each -> (B,).

    The energy score (Gneiting and Raftery 2007): its expectation is least when the draws have the truth's own
    distribution, so it rewards a sharp choice between two modes where a squared error rewards their average.
    |.| is the root mean square over the steps that are real (mask (B, T)); a row without any scores 0.
    """
    real = torch.ones_like(target, dtype=torch.bool) if mask is None else mask.bool().unsqueeze(-1).expand_as(target)
    count = real.sum(dim=(1, 2)).clamp(min=1)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        # The small number keeps the slope finite where two draws agree.
        return (torch.where(real, a - b, 0.0).float().square().sum(dim=(1, 2)) / count + 1e-12).sqrt()

    return 0.5 * (distance(first, target) + distance(second, target) - distance(first, second))


class EnsembleHead(DenoisingHead):
    """gate_0 MLP + gate_1 Flow + gate_2 DiT with gate = softmax(Linear(features)).

    Each member learns by its own loss. The gate learns by the energy score of the mixture, members held fixed: under a
    squared error it would trust the MLP, whose average of all right answers no draw can beat. Flow and DiT start from
    the same noise, so that they mostly choose the same mode and their mixture lies in it.

    A training step draws flow and DiT twice, without gradient, for the gate's loss: num_denoise_steps more forward
    passes of twice the batch.
    """

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        num_steps: int = 16,
        mlp_hidden: int = 512,
        flow_hidden: int = 512,
        dit_hidden: int = 384,
        dit_layers: int = 8,
        dit_heads: int = 6,
        flow_layers: int = 4,
        num_denoise_steps: int = 4,
        mlp_layers: int = 3,
        soft_cap_value: float = 1.0,
        noise_beta_alpha: float = 0.0,
        cross_attention_dim: int | None = None,
        dropout: float = 0.1,
        use_relu_squared: bool = True,
        use_rmsnorm: bool = True,
        use_residual_scale: bool = True,
        use_skip_connections: bool = True,
    ) -> None:
        super().__init__(action_dim, num_steps, num_denoise_steps)
        shared: dict[str, Any] = {
            "input_dim": input_dim,
            "action_dim": action_dim,
            "num_steps": num_steps,
            "soft_cap_value": soft_cap_value,
            "dropout": dropout,
            "use_relu_squared": use_relu_squared,
            "use_rmsnorm": use_rmsnorm,
            "use_residual_scale": use_residual_scale,
        }
        skips: dict[str, Any] = {"use_skip_connections": use_skip_connections}  # not the transformer's
        self.mlp = ActionChunkingHead(hidden_dim=mlp_hidden, num_layers=mlp_layers, **shared, **skips)
        self.flow = FlowMatchingHead(
            hidden_dim=flow_hidden,
            num_layers=flow_layers,
            num_denoise_steps=num_denoise_steps,
            noise_beta_alpha=noise_beta_alpha,
            use_cross_attention=cross_attention_dim is not None,
            cross_attention_dim=cross_attention_dim,
            **shared,
            **skips,
        )
        self.dit = DiTActionHead(
            hidden_dim=dit_hidden,
            num_layers=dit_layers,
            num_heads=dit_heads,
            num_denoise_steps=num_denoise_steps,
            cross_attention_dim=cross_attention_dim,
            **shared,
        )
        self.gate = nn.Linear(input_dim, len(MEMBERS))

    def shares(self, features: Tensor) -> Tensor:
        """Trust in mlp, flow and dit: features (B, input_dim) -> (B, 3), each row sums to one."""
        return self.gate(features).softmax(dim=-1)

    def begin(
        self,
        features: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Denoising:
        """See DenoisingHead. A guide sees the mixture and moves flow and DiT; the MLP's part stays."""
        noise = self.draw_noise(features, generator) if noise is None else noise
        return MixedDenoising(self._members(features, context, noise), self.shares(features))

    def _members(self, features: Tensor, context: Tensor | None, noise: Tensor) -> list[Denoising]:
        return [
            HeldChunk(self.mlp(features)),
            self.flow.begin(features, context, noise=noise),
            self.dit.begin(features, context, noise=noise),
        ]

    def compute_loss(
        self,
        features: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        dim_weights: Tensor | None = None,
    ) -> Tensor:
        """Sum of the members' own losses and the gate's energy score (unweighted by dimension); see DenoisingHead."""
        self.require_chunk(target, len(features))
        given = (features, target, mask, context, generator, dim_weights)
        own = masked_mse(self.mlp(features), target, mask, dim_weights)
        own = own + self.flow.compute_loss(*given) + self.dit.compute_loss(*given)
        return own + self.gate_loss(features, target, mask, context, generator)

    def gate_loss(
        self,
        features: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean energy score of two drawn mixtures over the rows that are not all padding; trains the gate only."""
        shares = self.shares(features)
        first, second = (mix(chunks, shares) for chunks in self._draw_twice(features, context, generator))
        scores = energy_score(first, second, target, mask)
        if mask is None:
            return scores.mean()
        real = mask.bool().any(dim=1)
        return torch.where(real, scores, 0.0).sum() / real.sum().clamp(min=1)

    @torch.no_grad()
    def _draw_twice(
        self, features: Tensor, context: Tensor | None, generator: torch.Generator | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Two draws of each member's chunk, made as one batch of 2 B rows."""
        features = features.repeat(2, 1)
        context = None if context is None else context.repeat(2, 1, 1)
        members = self._members(features, context, self.draw_noise(features, generator))
        chunks = [denoise(member, self.num_denoise_steps).chunk(2) for member in members]
        return [pair[0] for pair in chunks], [pair[1] for pair in chunks]

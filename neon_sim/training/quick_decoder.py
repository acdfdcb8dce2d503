"""The heads' chunk for a learning step: what the module itself gives but for rounding, at a fraction of the cost.

Learning online takes hundreds of thousands of steps, and most of their time goes into the chunking head's decoder. Two
of its matrix products are larger than they need be: the step embeddings are the same for every sample, and with three
layers and no dropout the skip connection joins a tensor to itself, W concat[h, h] = (W_left + W_right) h.
Most of the rest is memory traffic of norms and activations, which have one backward here that is written by hand.
A Fisher is measured on the module as it is: it reads each sample's own gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from neon_sim.model.action_heads.chunking import ActionChunkingHead
from neon_sim.model.action_heads.denoising import hold
from neon_sim.model.action_heads.mlp import MLPDecoder
from neon_sim.model.layers import RMSNorm, relu_squared, soft_cap
from neon_sim.training.head_decoder import HeadDecoder


def quick_decode(decoder: HeadDecoder, fused: Tensor, goal: Tensor, **context: Tensor) -> Tensor:
    """(B, D), (B, 5) -> chunk (B, T, A), as `decoder(fused, goal, **context)`; other heads go the usual way."""
    group = decoder.action_head
    heads = [head for head in group.heads.values() if isinstance(head, ActionChunkingHead)]
    if group.samples or len(heads) < len(group.heads):
        chunk: Tensor = decoder(fused, goal, **context)
        return chunk
    told = torch.cat([fused, decoder.goal_embed(goal)], dim=-1)
    return torch.cat([hold(_chunk(head, told), group.config.num_action_steps) for head in heads], dim=-1)


def _chunk(head: ActionChunkingHead, features: Tensor) -> Tensor:
    """Features (B, D) -> (B, T, A) of one group."""
    mlp = head.decoder
    from_features = mlp.hidden[0](head.proj(features))[:, None]
    first = from_features + head.step_hidden(head.step_embed)  # once for all samples
    dropped = mlp.training and mlp.dropout.p > 0.0
    return _decode_twin(mlp, first) if _joins_twins(mlp) and not dropped else mlp.decode(first)


def _joins_twins(mlp: MLPDecoder) -> bool:
    """Whether the only layer between the first and the last one reads the same tensor twice."""
    return mlp.use_skip_connections and len(mlp.hidden) == 2


def _decode_twin(mlp: MLPDecoder, first: Tensor) -> Tensor:
    hidden = _activated(mlp, mlp.norms[0], first)
    layer = mlp.hidden[1]
    assert isinstance(layer, nn.Linear)
    left, right = layer.weight.chunk(2, dim=1)
    update = _activated(mlp, mlp.norms[1], F.linear(hidden, left + right, layer.bias))
    joined = update + hidden if mlp.residuals is None else mlp.residuals[0](update, hidden)
    return soft_cap(mlp.output(joined), mlp.soft_cap_value)


def _activated(mlp: MLPDecoder, norm: nn.Module, x: Tensor) -> Tensor:
    """The norm, then the activation: (..., dim) -> (..., dim)."""
    if isinstance(norm, RMSNorm) and mlp.activation is relu_squared:
        activated: Tensor = _NormReluSquared.apply(x, norm.weight, norm.eps)
        return activated
    return mlp.activation(norm(x))


class _NormReluSquared(torch.autograd.Function):
    """y = max(0, n w)^2 with n = x r and r = (mean(x^2) + eps)^(-1/2): eq. 6, then eq. 5; x (..., dim), w (dim,).

    With h = dL/dy max(0, n w): dL/dw = 2 sum h n over all rows, dL/dx = 2 r (h w - n mean(h w n)) within each row.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / x.shape[-1] + eps).rsqrt_()
        normed = x * scale
        positive = (normed * weight).relu_()
        ctx.save_for_backward(normed, positive, scale, weight)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, positive, scale, weight = ctx.saved_tensors
        half = slope * positive
        along = half * normed
        mean = (along @ weight).unsqueeze(-1) / normed.shape[-1]
        to_weight = 2.0 * along.flatten(0, -2).sum(0)
        return half.mul_(weight).addcmul_(normed, mean, value=-1.0).mul_(2.0 * scale), to_weight, None

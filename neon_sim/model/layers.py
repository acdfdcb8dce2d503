"""The small pieces that every head is made of: ReLU squared, RMSNorm, residual scale, soft cap (paper, section 4).

Then what the denoising heads need beside them: attention, adaptive modulation, waves of the denoising time.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Callable[[Tensor], Tensor]


def relu_squared(x: Tensor) -> Tensor:
    """max(0, x)^2, elementwise, any shape (eq. 5). Its slope, 2 max(0, x), is continuous at zero."""
    return F.relu(x).square()


def soft_cap(x: Tensor, cap: float) -> Tensor:
    """Bound x smoothly to (-cap, cap): cap * tanh(x / cap), any shape (eq. 9).

    A cap of 1 is tanh itself, and a cap of 0 asks for the vanilla bound, which is tanh as well (decision D5): only
    another cap changes anything. Raises ValueError for a negative cap.
    """
    if cap < 0.0:
        raise ValueError(f"soft_cap wants cap >= 0 (0 means plain tanh), got {cap}. Action heads use 1.0.")
    if cap in (0.0, 1.0):
        return torch.tanh(x)
    return cap * torch.tanh(x / cap)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (eq. 6); weight starts at one."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class ResidualScale(nn.Module):
    """update + alpha * residual with one learnable alpha that starts at 1 (eq. 7)."""

    def __init__(self, initial: float = 1.0) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(float(initial)))

    def forward(self, update: Tensor, residual: Tensor) -> Tensor:
        """Two tensors of one shape -> their scaled sum, the same shape."""
        return torch.addcmul(update, self.alpha, residual)


class Attention(nn.Module):
    """Multi-head attention of queries over a memory, the same tokens or others.

    Keys and values carry no bias: softmax does not see a constant added to every logit, so a key bias would never
    learn, and a value bias is the output's bias once more.
    """

    def __init__(self, dim: int, num_heads: int, memory_dim: int | None = None) -> None:
        """Raises ValueError unless num_heads divides dim. `memory_dim` None is dim."""
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"Attention wants num_heads that divide its width, got {num_heads} heads for {dim}.")
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(memory_dim or dim, 2 * dim, bias=False)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """x (B, Q, dim), memory (B, M, memory_dim) -> (B, Q, dim)."""
        keys, values = self.key_value(memory).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (self.query(x), keys, values))
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift, the adaptive part of adaLN: x (B, T, D), shift and scale (B, D) -> (B, T, D)."""
    return torch.addcmul(shift.unsqueeze(1), x, 1.0 + scale.unsqueeze(1))


# Periods of the time waves: the longest tells 0 from 1, the shortest two steps of a sampler with 25 of them. Ours.
_LONGEST_PERIOD, _SHORTEST_PERIOD = 4.0, 0.08


def time_waves(time: Tensor, dim: int) -> Tensor:
    """Denoising time in [0, 1], (B,) -> cosines, then sines, of geometric periods, (B, dim). `dim` is even."""
    if dim < 2 or dim % 2:
        raise ValueError(f"time_waves wants an even width of 2 or more (a cosine and a sine each), got {dim}.")
    share = torch.linspace(0.0, 1.0, dim // 2, dtype=time.dtype, device=time.device)
    period = _LONGEST_PERIOD * (_SHORTEST_PERIOD / _LONGEST_PERIOD) ** share
    angle = 2.0 * math.pi * time.unsqueeze(-1) / period
    return torch.cat([angle.cos(), angle.sin()], dim=-1)

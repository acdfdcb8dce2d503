"""The small pieces that every head is made of: ReLU squared, RMSNorm, residual scale, soft cap (paper, section 4)."""

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

"""The self-supervised losses as pure functions (decisions D17 and D18). None of them needs a label."""

import torch.nn.functional as F
from torch import Tensor


def outcome_loss(predicted_after: Tensor, after: Tensor) -> Tensor:
    """|f_pred(f_before, chunk) - f_after|^2, mean over (B, D). `after`, the world's answer, carries no gradient."""
    return F.mse_loss(predicted_after, after.detach())


def coherence_loss(predicted_after: Tensor, before: Tensor, wanted: Tensor) -> Tensor:
    """1 - cos(f_pred - f_before, P e_text), mean over the batch; all (B, D). `before` carries no gradient."""
    return (1.0 - F.cosine_similarity(predicted_after - before.detach(), wanted, dim=-1)).mean()


def consistency_loss(chunk: Tensor, executed: Tensor) -> Tensor:
    """Smooth L1 between what the heads say now and what was carried out, (B, T, A). By itself only a trust region."""
    return F.smooth_l1_loss(chunk, executed.detach(), beta=0.1)


def hindsight_loss(chunk: Tensor, executed: Tensor, weight: Tensor) -> Tensor:
    """Squared error of the chunk for the goal that was *achieved* against the chunk that achieved it (D18).

    chunk, executed (B, T, A); weight (B,) says how much each sample counts, 0 for none. Mean over what counts.
    """
    error = (chunk - executed.detach()).square().mean(dim=(1, 2))
    # Not the smallest float there is: its inverse overflows in the gradient, and inf times a weight of 0 is NaN.
    return (error * weight).sum() / weight.sum().clamp(min=1e-6)

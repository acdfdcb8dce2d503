"""What may steer a chunk while it is sampled, and how a sampler asks it."""

from typing import Protocol

import torch
from torch import Tensor


class Guide(Protocol):
    """Steers a chunk while it is sampled; the weights stay as they are (the idea of AirVLA, arXiv 2603.25038).

    Called once per denoising step with
      chunk_estimate (B, T, A): the clean chunk as the head sees it at this step, normalised actions in the action
        space's layout. From G1ActionHead it is the whole action, all groups in place, and absolute even where the head
        predicts differences. A leaf tensor with requires_grad on and autograd enabled, whatever mode the sampler runs
        in: `torch.autograd.grad(loss(chunk_estimate), chunk_estimate)` works as it stands.
      time: in [0, 1); 0 is noise alone. The first estimates are vague, the last one (time 1 - 1/steps) is nearly the
        answer; a guide chooses its own strength from it.
    Returns what to add to the estimate, (B, T, A) in the same unit; minus a gradient times a strength descends a loss.
    It is used as it is: not scaled, not cut to [-1, 1]. No gradient flows back through it.
    """

    def __call__(self, chunk_estimate: Tensor, time: float, /) -> Tensor: ...


def guide_correction(guide: Guide, chunk_estimate: Tensor, time: float) -> Tensor:
    """Ask the guide, and refuse a correction that is not finite or not of the estimate's shape (ValueError)."""
    # inference_mode forbids autograd even inside enable_grad; a clone made outside it is an ordinary tensor.
    with torch.inference_mode(False), torch.enable_grad():
        correction = guide(chunk_estimate.detach().clone().requires_grad_(), time)
    if correction.shape != chunk_estimate.shape:
        raise ValueError(
            f"A guide returns a correction of its estimate's shape {tuple(chunk_estimate.shape)}, got "
            f"{tuple(correction.shape)}."
        )
    if not bool(correction.isfinite().all()):
        raise ValueError(f"The guide's correction at time {time:g} is not finite. Bound its loss or its strength.")
    return correction.detach()

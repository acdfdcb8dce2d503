"""Physics guidance: losses over an action chunk whose gradients steer a flow or diffusion head while it samples.

The weights stay as they are (the idea of AirVLA, arXiv 2603.25038): at each sampling step the head shows its present
estimate of the finished chunk, and a `PhysicsGuide` answers with what to add to it. A chunk that breaks no rule is
left as it is, to the bit.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.physics_losses import CompositeLoss, Motion, PhysicsLoss, Situation


@dataclass(frozen=True)
class GuidanceConfig:
    """How strongly a guide steers.

    scale: of Polyak's step (see `PhysicsGuide`); 2 undoes a quadratic loss at once, above 2 it may diverge.
    iterations: steps within one call. max_correction: action units, the most that one call adds to any entry.
    start_time: no correction before it; 0 is noise and 1 the finished chunk.
    """

    scale: float = 1.5
    iterations: int = 2
    max_correction: float = 0.1
    start_time: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 < self.scale <= 2.0 and self.iterations >= 1 and self.max_correction > 0.0):
            raise ValueError(f"GuidanceConfig wants 0 < scale <= 2, iterations >= 1, max_correction > 0, got {self}.")


@dataclass(frozen=True, eq=False)
class PhysicsGuide:
    """`guide(chunk_estimate, time)` is what a sampling loop adds to its estimate of the finished chunk.

    Each loss L moves a row by -scale L g / |g|^2 (Polyak, 1969): the length follows from the loss itself, so metres,
    torques and radians need no tuning against each other. g is the gradient by what is commanded, in rad and m/s, and
    the step is turned into action units afterwards: a joint is not pushed harder for having a wider range. A
    composite's weight is the share of its step that a part may take. Rows of a batch do not influence each other.
    """

    space: G1ActionSpace
    loss: PhysicsLoss
    config: GuidanceConfig = GuidanceConfig()
    situation: Situation = field(default_factory=Situation)

    def at(self, situation: Situation) -> "PhysicsGuide":
        """The same guide where the robot is now."""
        return replace(self, situation=situation)

    def __call__(self, chunk_estimate: Tensor, time: float) -> Tensor:
        """Correction (B, T, A) in action units for an estimate (B, T, A) at `time`, 0 (noise) to 1 (finished).

        Works under no_grad and inference_mode alike; the answer carries no gradient.
        Raises ValueError for a chunk of another action space and for a time outside [0, 1].
        """
        if not 0.0 <= time <= 1.0:
            raise ValueError(f"A guide wants a time from 0 (noise) to 1 (finished chunk), got {time}.")
        with torch.inference_mode(False), torch.enable_grad():
            estimate = chunk_estimate.detach().clone()
            if estimate.dtype not in (torch.float32, torch.float64):
                estimate = estimate.float()
            correction = torch.zeros_like(estimate)
            for _ in range(self.config.iterations if time >= self.config.start_time else 0):
                step = self._step(estimate + correction, estimate)
                if step is None:
                    break
                limit = self.config.max_correction
                correction = (correction + step).clamp(-limit, limit)
        return correction.to(chunk_estimate.dtype)

    def _step(self, chunk: Tensor, reference: Tensor) -> Tensor | None:
        """Sum of the parts' steps (B, T, A) from a chunk; None where no part asks for anything."""
        motion = Motion(chunk.requires_grad_(), self.space, self.situation, reference)
        parts = self.loss.parts if isinstance(self.loss, CompositeLoss) else ((self.loss, 1.0),)
        total = None
        for loss, weight in parts:
            value = loss(motion)
            if not value.any():
                continue
            (gradient,) = torch.autograd.grad(value.sum(), motion.values, retain_graph=True)
            length = self.config.scale * weight * value.detach() / gradient.square().sum((1, 2)).clamp(min=1e-12)
            total = -length[:, None, None] * gradient + (0.0 if total is None else total)
        return None if total is None else total / motion.slope

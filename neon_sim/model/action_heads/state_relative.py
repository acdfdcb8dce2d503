"""StateRelativeHead: any head, predicting the difference to where the robot is now."""

import torch
from torch import Tensor, nn

from neon_sim.model.action_heads.chunking import masked_mse
from neon_sim.model.action_heads.denoising import (
    Denoising,
    DenoisingHead,
    ShiftedDenoising,
    begin_denoising,
    denoise,
    hold,
)
from neon_sim.model.action_heads.guide import Guide


class StateRelativeHead(nn.Module):
    """a_t = state + inner_t: no parameters of its own (GR00T N1.6's relative actions).

    The state is in the unit of the actions: joint positions and commanded velocity through `G1ActionSpace.encode`. The
    inner head's soft cap bounds the difference, so a sum can leave [-1, 1]; the environment's limits cut it there and
    say so. An inner head that gives a single action has its answer held over num_steps.

    Raises ValueError when the inner head has another action_dim or num_steps of its own.
    """

    def __init__(self, inner_head: nn.Module, action_dim: int, num_steps: int = 16) -> None:
        super().__init__()
        for name, wanted in (("action_dim", action_dim), ("num_steps", num_steps)):
            if getattr(inner_head, name, wanted) != wanted:
                raise ValueError(
                    f"StateRelativeHead was given {name} {wanted}, its inner head has {getattr(inner_head, name)}."
                )
        self.inner_head, self.action_dim, self.num_steps = inner_head, action_dim, num_steps

    def forward(
        self,
        features: Tensor,
        current_state: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Features (B, input_dim) and state (B, A) -> absolute chunk (B, T, A); the rest as in DenoisingHead.sample.

        Raises ValueError for a state of another shape, and for a guide on a head that is computed, not sampled.
        """
        if isinstance(self.inner_head, DenoisingHead):
            process = self.begin(features, current_state, context, generator)
            return denoise(process, self.inner_head.num_denoise_steps, guide)
        if guide is not None:
            raise ValueError("A guide steers heads that sample (flow, DiT, ensemble); this inner head computes.")
        return hold(self.inner_head(features), self.num_steps) + self._offset(features, current_state)

    def begin(
        self,
        features: Tensor,
        current_state: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Denoising:
        """The inner head's denoising, seen by a guide as absolute actions; noise (B, T, A) is the inner head's."""
        inner = begin_denoising(self.inner_head, features, self.num_steps, context, generator, noise)
        return ShiftedDenoising(inner, self._offset(features, current_state))

    def compute_loss(
        self,
        features: Tensor,
        target: Tensor,
        current_state: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        dim_weights: Tensor | None = None,
    ) -> Tensor:
        """The inner head's own loss on target - state: target (B, T, A) absolute, state (B, A) -> scalar."""
        difference = target - self._offset(features, current_state)
        if isinstance(self.inner_head, DenoisingHead):
            return self.inner_head.compute_loss(features, difference, mask, context, generator, dim_weights)
        return masked_mse(hold(self.inner_head(features), self.num_steps), difference, mask, dim_weights)

    def _offset(self, features: Tensor, state: Tensor) -> Tensor:
        wanted = (len(features), self.action_dim)
        if state.shape != wanted:
            raise ValueError(
                f"StateRelativeHead wants the current state as {wanted} in normalised actions, got "
                f"{tuple(state.shape)}. Encode joint positions with G1ActionSpace.encode."
            )
        return state.unsqueeze(1)

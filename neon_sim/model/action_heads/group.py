"""G1ActionHead: one head per joint group, joined into one chunk in the action space's layout."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.action_heads.build import SINGLE_HEAD, build_head
from neon_sim.model.action_heads.chunking import masked_mse, require_same_shape
from neon_sim.model.action_heads.config import ActionHeadConfig
from neon_sim.model.action_heads.context import ContextTokens
from neon_sim.model.action_heads.denoising import (
    Denoising,
    DenoisingHead,
    JoinedDenoising,
    begin_denoising,
    denoise,
    hold,
)
from neon_sim.model.action_heads.guide import Guide
from neon_sim.model.action_heads.state_relative import StateRelativeHead
from neon_sim.names import nearest


class G1ActionHead(nn.Module):
    """Fused features -> (B, T, dim) normalised actions, one head per group of the action space.

    `heads` is keyed by group name, so a head keeps its weights when another control mode adds groups beside it.
    Groups that do not predict a chunk hold their one action over all T steps (D15), whatever the head type.

    Heads that sample draw their noise group by group in layout order, from one generator: a group keeps its draw when
    groups are added behind it. Separate heads choose between modes independently of each other; where arms and
    legs must choose together, use_separate_heads=False has one head choose for all.
    """

    def __init__(self, config: ActionHeadConfig, action_space: G1ActionSpace | Mapping[str, slice]) -> None:
        """`action_space` is a G1ActionSpace or its `.groups`: name -> slice of the action vector, without gaps.

        Raises ValueError when the slices do not tile the action vector, when a group weight names no group, and when
        no group has a weight above 0.
        """
        super().__init__()
        groups = action_space.groups if isinstance(action_space, G1ActionSpace) else action_space
        self.groups = _in_layout_order(groups)
        self.loss_weights = _loss_weights(config.group_weights, tuple(self.groups))
        self.config = replace(config, action_dim=sum(_width(where) for where in self.groups.values()))
        self.parts = self.groups if config.use_separate_heads else {SINGLE_HEAD: slice(0, self.config.action_dim)}
        self.heads = nn.ModuleDict(
            {name: build_head(config, name, _width(where)) for name, where in self.parts.items()}
        )
        self.context = ContextTokens(config.token_dim, config.goal_dim) if config.token_dim else None

    @property
    def samples(self) -> bool:
        """True where the chunk is drawn (flow, dit, ensemble), False where it is computed."""
        return self.config.head_type != "chunking"

    def forward(
        self,
        features: Tensor,
        *,
        state: Tensor | None = None,
        tokens: Tensor | None = None,
        goal: Tensor | None = None,
        generator: torch.Generator | None = None,
        guide: Guide | None = None,
        num_denoise_steps: int | None = None,
        noise: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Fused features (B, hidden_size) -> normalised actions (B, T, dim).

        In (-cap, cap), but for a state-relative head and for what a guide adds.

        Args:
            features: fused features; they carry the goal already, as NeonVLA makes them.
            state: (B, dim) the current state in normalised actions; for config.state_relative, and needed there.
            tokens, goal: backbone tokens (B, N, token_dim) and goal token (B, goal_dim), for cross-attention. Heads
                without it have no use for them.
            generator: where sampling heads draw their noise; None is torch's global generator.
            guide: sees and corrects the whole action at every denoising step, see Guide.
            num_denoise_steps: None for the config's.
            noise: of `draw_noise`, where it is drawn already; the generator is not asked then.

        Raises:
            ValueError: something that the config needs is missing or misshapen, or a guide for a head that computes.
        """
        if self.samples:
            process = self.begin(features, state=state, tokens=tokens, goal=goal, generator=generator, noise=noise)
            steps = self.config.num_denoise_steps if num_denoise_steps is None else num_denoise_steps
            return denoise(process, steps, guide)
        if guide is not None:
            raise ValueError("A guide steers heads that sample; this one has head_type 'chunking'. Use flow or dit.")
        return torch.cat([self._computed(name, features, state) for name in self.parts], dim=-1)

    def begin(
        self,
        features: Tensor,
        *,
        state: Tensor | None = None,
        tokens: Tensor | None = None,
        goal: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Mapping[str, Tensor] | None = None,
    ) -> Denoising:
        """A denoising of the whole action at time 0; `forward`'s arguments."""
        context = None if self.context is None else self.context(tokens, goal)
        noise = self.draw_noise(features, generator) if noise is None else noise
        processes: list[Denoising] = []
        for name, head in self.heads.items():
            drawn = noise.get(name)
            if isinstance(head, StateRelativeHead):
                processes.append(head.begin(features, self._state(name, state), context, noise=drawn))
            else:
                processes.append(begin_denoising(head, features, self.config.num_action_steps, context, noise=drawn))
        return JoinedDenoising(processes, [_width(where) for where in self.parts.values()])

    def draw_noise(self, like: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """What the heads that sample start from: name of the head -> (B, T, width) standard normal, in layout order.

        As many rows as `like` (B, ...), in its dtype and on its device; {} where every head computes.
        """
        drawn = {}
        for name, head in self.heads.items():
            inner = head.inner_head if isinstance(head, StateRelativeHead) else head
            if isinstance(inner, DenoisingHead):
                drawn[name] = inner.draw_noise(like, generator)
        return drawn

    def group_losses(self, predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Unweighted masked MSE of every group: predicted, target (B, T, dim), mask (B, T) -> name -> scalar."""
        require_same_shape(predicted, target)
        return {
            name: masked_mse(predicted[..., where], target[..., where], mask) for name, where in self.groups.items()
        }

    def weighted_loss(self, predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean of the group losses under `group_weights` (scalar); scaling all weights alike changes nothing."""
        losses = self.group_losses(predicted, target, mask)
        return torch.stack([weight * losses[name] for name, weight in self.loss_weights.items()]).sum()

    def compute_loss(self, features: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """features (B, hidden_size), target (B, T, dim), mask (B, T) of real steps -> scalar weighted loss."""
        return self.loss(features, None, target, mask)

    def loss(
        self,
        features: Tensor,
        goal: Tensor | None,
        target: Tensor,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        *,
        tokens: Tensor | None = None,
        state: Tensor | None = None,
    ) -> Tensor:
        """What this kind of head learns from, weighted over groups: a scalar, the same call for every head type.

        features (B, hidden_size), goal (B, goal_dim), target (B, T, dim) absolute, mask (B, T) of real steps; tokens,
        state and generator as in `forward`. Chunking: masked MSE. Flow: velocity error. DiT: error of the denoised
        chunk. Ensemble: its members' and its gate's. Groups that hold one action: masked MSE.
        """
        if not self.samples:
            return self.weighted_loss(self(features, state=state), target, mask)
        losses = self.head_losses(features, goal, target, mask, generator, tokens=tokens, state=state)
        return torch.stack([self.loss_weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()

    def head_losses(
        self,
        features: Tensor,
        goal: Tensor | None,
        target: Tensor,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        *,
        tokens: Tensor | None = None,
        state: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Each head's own loss before `group_weights`, name -> scalar; `loss`'s arguments.

        A single head for all groups ("all") has the weights inside, spread over its dimensions.
        """
        wanted = (len(features), self.config.num_action_steps, self.config.action_dim)
        if target.shape != wanted:
            raise ValueError(f"G1ActionHead wants target chunks of one shape {wanted}, got {tuple(target.shape)}.")
        context = None if self.context is None else self.context(tokens, goal)
        weights = None if self.config.use_separate_heads else self._dim_weights(features)
        losses = {}
        for name, head in self.heads.items():
            own = target[..., self.parts[name]]
            if isinstance(head, StateRelativeHead):
                here = self._state(name, state)
                losses[name] = head.compute_loss(features, own, here, mask, context, generator, weights)
            elif isinstance(head, DenoisingHead):
                losses[name] = head.compute_loss(features, own, mask, context, generator, weights)
            else:
                losses[name] = masked_mse(self._computed(name, features, state), own, mask, weights)
        return losses

    def _computed(self, name: str, features: Tensor, state: Tensor | None) -> Tensor:
        head = self.heads[name]
        if isinstance(head, StateRelativeHead):
            return head(features, self._state(name, state))
        return hold(head(features), self.config.num_action_steps)

    def _state(self, name: str, state: Tensor | None) -> Tensor:
        if state is None:
            raise ValueError("A state-relative head wants `state` (B, dim): the current state in normalised actions.")
        if state.shape[-1] != self.config.action_dim:
            raise ValueError(f"G1ActionHead wants a state (B, {self.config.action_dim}), got {tuple(state.shape)}.")
        return state[..., self.parts[name]]

    def _dim_weights(self, like: Tensor) -> Tensor:
        """(dim,) weights whose mean squared error is the weighted loss over groups; they average to one."""
        weights = torch.empty(self.config.action_dim, device=like.device)
        for name, where in self.groups.items():
            weights[where] = self.loss_weights[name] * self.config.action_dim / _width(where)
        return weights


def _width(where: slice) -> int:
    return where.stop - where.start


def _in_layout_order(groups: Mapping[str, slice]) -> dict[str, slice]:
    ordered = dict(sorted(groups.items(), key=lambda item: item[1].start))
    start = 0
    for name, where in ordered.items():
        if where.start != start or where.stop <= start or where.step not in (None, 1):
            raise ValueError(
                f"G1ActionHead wants groups that tile the action vector; {name!r} should start at {start}, got {where}."
            )
        start = where.stop
    if not ordered:
        raise ValueError("G1ActionHead wants at least one action group, got none. Pass a G1ActionSpace.")
    return ordered


def _loss_weights(given: Mapping[str, float], groups: tuple[str, ...]) -> dict[str, float]:
    """Group -> share of the loss; the shares sum to one."""
    for name in given:
        if name not in groups:
            raise nearest("action group", name, groups)
    weights = {name: given.get(name, 1.0) for name in groups}
    total = sum(weights.values())
    if total <= 0.0:
        raise ValueError(f"G1ActionHead wants a group weight above 0, got {weights}: nothing would be learned.")
    return {name: weight / total for name, weight in weights.items()}

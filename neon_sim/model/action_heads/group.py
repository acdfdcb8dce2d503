"""G1ActionHead: one head per joint group, joined into one chunk in the action space's layout."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.action_heads.chunking import ActionChunkingHead, masked_mse, require_same_shape
from neon_sim.model.action_heads.config import ActionHeadConfig
from neon_sim.model.action_heads.mlp import MLPDecoder
from neon_sim.names import nearest

CHUNKED_GROUPS: Final = ("arms", "locomotion")  # the documents' diagram; the other groups hold one action (D15)
SINGLE_HEAD: Final = "all"  # key of the only head when use_separate_heads is off


class G1ActionHead(nn.Module):
    """Fused features -> (B, T, dim) normalised actions, one decoder per group of the action space.

    `heads` is keyed by group name, so a head keeps its weights when another control mode adds groups beside it.
    Groups that do not predict a chunk hold their one action over all T steps.
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
        parts = self.groups if config.use_separate_heads else {SINGLE_HEAD: slice(0, self.config.action_dim)}
        self.heads = nn.ModuleDict({name: _build_head(config, name, _width(where)) for name, where in parts.items()})

    def forward(self, features: Tensor) -> Tensor:
        """Fused features (B, hidden_size) -> normalised actions (B, T, dim) in (-1, 1)."""
        return torch.cat([self._chunk(head(features)) for head in self.heads.values()], dim=-1)

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
        return self.weighted_loss(self(features), target, mask)

    def _chunk(self, actions: Tensor) -> Tensor:
        """Hold a single action (B, A) over the chunk; a chunk (B, T, A) passes."""
        if actions.dim() == 3:
            return actions
        return actions.unsqueeze(1).expand(-1, self.config.num_action_steps, -1)


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


def _build_head(config: ActionHeadConfig, name: str, width: int) -> nn.Module:
    chunked = config.use_action_chunking and (name in (*CHUNKED_GROUPS, SINGLE_HEAD) or config.chunk_all_groups)
    head = partial(ActionChunkingHead, num_steps=config.num_action_steps) if chunked else MLPDecoder
    return head(
        config.hidden_size,
        width,
        hidden_dim=config.mlp_hidden,
        num_layers=config.num_layers,
        dropout=config.dropout,
        use_relu_squared=config.use_relu_squared,
        use_rmsnorm=config.use_rmsnorm,
        use_residual_scale=config.use_residual_scale,
        use_skip_connections=config.use_skip_connections,
        soft_cap_value=config.soft_cap_value,
    )

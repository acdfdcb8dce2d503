"""What a `NeonSelfLearner` makes smaller: the losses of a batch of experience that have a weight, and their sum."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from neon_sim.training.experience import context_of
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.head_decoder import HeadDecoder
from neon_sim.training.learner_config import SelfLearnerConfig
from neon_sim.training.losses import coherence_loss, consistency_loss, hindsight_loss, outcome_loss
from neon_sim.training.quick_decoder import quick_decode

ASKED_SHARE: Final = 4  # coherence and consistency look at a quarter of a batch: they only hold the heads in place


def losses_with_weight(
    batch: dict[str, Tensor], decoder: HeadDecoder, forward_model: ForwardModel, config: SelfLearnerConfig
) -> dict[str, Tensor]:
    """Those of the four losses whose weight is above 0, each with a path to the heads (`neon_sim.training.losses`).

    Only what they need is worked out: hindsight alone asks the heads once a row, and no forward model.
    """
    size = len(batch["fused"])
    share = max(1, size // ASKED_SHARE) if config.coherence_weight or config.consistency_weight else 0
    fused = torch.cat([batch["fused"], batch["fused"][:share]])
    context = {name: torch.cat([value, value[:share]]) for name, value in context_of(batch).items()}
    both = quick_decode(decoder, fused, torch.cat([batch["achieved"], batch["goal"][:share]]), **context)
    told, asked, before = both[:size], both[size:], batch["fused"][:share]
    losses = {}
    if config.hindsight_weight:
        losses["hindsight"] = hindsight_loss(told, batch["executed"], batch["weight"])
    if config.outcome_weight:
        losses["outcome"] = outcome_loss(forward_model(batch["fused"], told), batch["fused_after"])
    if config.coherence_weight:
        wanted = forward_model.wanted_change(batch["text"][:share]).detach()
        losses["coherence"] = coherence_loss(forward_model(before, asked), before, wanted)
    if config.consistency_weight:
        losses["consistency"] = consistency_loss(asked, batch["executed"][:share])
    return losses


def weighed(losses: Mapping[str, Tensor], weights: SelfLearnerConfig) -> Tensor:
    """Their sum, each times its weight in the config."""
    return torch.stack([getattr(weights, f"{name}_weight") * loss for name, loss in losses.items()]).sum()

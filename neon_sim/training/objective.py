"""What a `NeonSelfLearner` makes smaller: the four losses of a batch of experience, and their weighted sum."""

from collections.abc import Mapping

import torch
from torch import Tensor

from neon_sim.training.experience import context_of
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.head_decoder import HeadDecoder
from neon_sim.training.learner_config import SelfLearnerConfig
from neon_sim.training.losses import coherence_loss, consistency_loss, hindsight_loss, outcome_loss
from neon_sim.training.quick_decoder import quick_decode

ASKED_SHARE = 4  # coherence and consistency look at a quarter of a batch: they only hold the heads in place


def four_losses(batch: dict[str, Tensor], decoder: HeadDecoder, forward_model: ForwardModel) -> dict[str, Tensor]:
    """The losses of a batch of `experience.stack`, each with a path to the heads (see `neon_sim.training.losses`)."""
    size = len(batch["fused"])
    share = max(1, size // ASKED_SHARE)
    fused = torch.cat([batch["fused"], batch["fused"][:share]])
    context = {name: torch.cat([value, value[:share]]) for name, value in context_of(batch).items()}
    both = quick_decode(decoder, fused, torch.cat([batch["achieved"], batch["goal"][:share]]), **context)
    foreseen = forward_model(fused, both)
    told, asked, before = both[:size], both[size:], batch["fused"][:share]
    wanted = forward_model.wanted_change(batch["text"][:share]).detach()
    return {
        "hindsight": hindsight_loss(told, batch["executed"], batch["weight"]),
        "outcome": outcome_loss(foreseen[:size], batch["fused_after"]),
        "coherence": coherence_loss(foreseen[size:], before, wanted),
        "consistency": consistency_loss(asked, batch["executed"][:share]),
    }


def weighed(losses: Mapping[str, Tensor], weights: SelfLearnerConfig) -> Tensor:
    """Their sum, each times its weight in the config."""
    return (
        weights.hindsight_weight * losses["hindsight"]
        + weights.outcome_weight * losses["outcome"]
        + weights.coherence_weight * losses["coherence"]
        + weights.consistency_weight * losses["consistency"]
    )

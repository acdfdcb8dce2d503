"""An episode as it was lived, chunk by chunk, and what its chunks are examples of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neon_sim.inference.neon_policy import Decision
from neon_sim.model.goal import HANDS, make_goal
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.experience import CONTEXT, Experience
from neon_sim.training.head_decoder import head_context

PALM_SLICES = (slice(0, 3), slice(7, 10))  # left and right palm position in the eef observation


@dataclass
class LivedChunk:
    """What was decided, what the robot felt before, and when that was."""

    decision: Decision
    fused: Tensor  # (D,) features before it
    palms: Tensor  # (14,) eef before it
    seen: int = 0  # its date, see `Experience.seen`; 0 until the drift detector has seen what came of it


def where_it_ended(last: LivedChunk, palms: Tensor, settled_m: float) -> tuple[Tensor, float]:
    """The goal token (5,) of where the hand in question is now, and 1.0 if it has come to rest there, else 0.0.

    last: the last whole chunk; palms (14,): after it; settled_m: a palm that moved less meanwhile rests.
    """
    hand = int(last.decision.goal[0, :HANDS].argmax())
    where = PALM_SLICES[hand]
    rest, before = palms[where], last.palms[where]
    arrived = float((rest - before).norm()) < settled_m
    return make_goal(torch.tensor([hand], device=rest.device), rest[None])[0], float(arrived)


def examples_of(
    model: NeonVLA,
    chunks: Sequence[LivedChunk],
    last_fused: Tensor,
    achieved: Callable[[Decision], Tensor],
    weight: float,
) -> list[Experience]:
    """The chunks of one episode as experience.

    last_fused (D,): features after the last one; achieved: gives the goal token (5,) that a decision is the right one
    for; weight: of each.
    """
    afters = [chunk.fused for chunk in chunks[1:]] + [last_fused]
    items = []
    for chunk, after in zip(chunks, afters, strict=True):
        decision = chunk.decision
        asked, did, text = decision.goal[0], decision.chunk[0], decision.features.text[0]
        context = head_context(model, decision.features, decision.senses)
        state, tokens = (context[name][0] if name in context else None for name in CONTEXT)
        became = achieved(decision)
        items.append(Experience(chunk.fused, after, text, asked, did, became, weight, state, tokens, chunk.seen))
    return items


def refuse_parts(carried_out: int, decision: Decision) -> None:
    """Raise ValueError where another chunk is about to be asked for before this one's steps were all carried out."""
    length = decision.chunk.shape[1]
    if carried_out < length:
        raise ValueError(
            f"A self-learner learns from whole chunks, {carried_out} of {length} steps were carried out. Let rollout"
            " execute all of them."
        )

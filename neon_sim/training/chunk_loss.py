"""What the action layer learns from a group of samples: the chunk, and the goal where somebody said what it was."""

from collections.abc import Callable

import torch
from torch import Tensor

from neon_sim.model.goal import BOTH, GOAL_DIM, HANDS, goal_loss, goal_token, make_goal
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.training.batches import Group

Encoder = Callable[..., BackboneFeatures]  # NeonVLA.encode, or a FeatureCache in front of it


def encode_group(model: NeonVLA, encode: Encoder, group: Group) -> BackboneFeatures:
    """Features of a group's clips; an episode without a camera shows black pictures.

    A backbone that hears is given the sound if the policy listens: one without an encoder for it is given none later.
    """
    listens = model.backbone.hears and "audio" in model.senses and "audio" in group.senses
    sound = (group.senses["audio"],) if listens else ()
    if group.frames is not None:
        return encode(group.frames, group.instructions, *sound)
    config = model.config.backbone
    clip = (config.max_frames, config.image_size, config.image_size, 3)
    black = group.mask.new_zeros(clip, dtype=torch.uint8).expand(len(group), *clip)
    if sound:
        return encode(black, group.instructions, *sound)
    rows = {words: row for row, words in enumerate(dict.fromkeys(group.instructions))}  # only they differ: once each
    said = encode(black[: len(rows)], list(rows))
    row = torch.tensor([rows[words] for words in group.instructions], device=group.chunk.device)
    return BackboneFeatures(said.tokens[row], said.pooled[row], said.text[row])


def group_losses(model: NeonVLA, features: BackboneFeatures, group: Group) -> tuple[Tensor, Tensor]:
    """Mean loss of the chunks over unmasked entries, and of the goal reading over labelled samples (0 without any).

    Heads are taught with what is known of the true goal; for the rest with what is read, through which they teach the
    reader: all of it, or the hand where the words mean both. Heads that do without a goal (`goal_width` 0) leave the
    reader as it is, half of the work.
    """
    if not model.config.goal_width:
        unread = features.pooled.new_zeros(len(features.pooled), GOAL_DIM)
        return model.loss(features, group.senses, unread, group.chunk, group.mask), unread.sum()
    heard = model.hear(features, group.senses)
    raw = model.goal_reader(features, heard)
    known = group.hand >= 0
    goal, reading = goal_token(raw), raw.sum() * 0.0
    if known.any():
        told = make_goal(group.hand.clamp(0, HANDS - 1), group.target_pos_b)
        entries = known[:, None].repeat(1, GOAL_DIM)
        entries[:, :HANDS] &= (group.hand != BOTH)[:, None]
        goal = torch.where(entries, told.to(goal), goal)
        reading = goal_loss(raw[known], group.hand[known], group.target_pos_b[known])
    return model.loss(features, group.senses, goal, group.chunk, group.mask, heard=heard), reading


@torch.no_grad()
def teacher_chunk(teacher: NeonVLA, student: NeonVLA, features: BackboneFeatures, group: Group) -> Tensor:
    """What a trained policy would do in these samples, (B, steps, A).

    features: by the student's backbone; a teacher that has its own looks for itself.
    """
    if teacher.backbone is not student.backbone:
        features = encode_group(teacher, teacher.encode, group)
    chunk, _ = teacher(features, group.senses)
    return chunk

"""What a group of samples is encoded as."""

import torch
from tiny_neon import tiny_model

from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.training.batches import Group
from neon_sim.training.chunk_loss import encode_group

WORDS = ["touch the red ball", "stand", "touch the red ball", "touch the red ball"]


def _blind(instructions: list[str]) -> Group:
    size = len(instructions)
    chunk, mask, target = torch.zeros(size, 16, 17), torch.ones(size, 16), torch.zeros(size, 3)
    return Group(None, instructions, {}, chunk, mask, torch.full((size,), -1), target)


def test_without_pictures_the_same_words_are_encoded_once_and_each_sample_has_its_own(tmp_path) -> None:
    model = tiny_model(tmp_path)
    asked: list[list[str]] = []

    def encode(frames: torch.Tensor, words: list[str]) -> BackboneFeatures:
        assert frames.dtype == torch.uint8 and not frames.any()
        asked.append(words)
        return model.encode(frames, words)

    features = encode_group(model, encode, _blind(WORDS))
    assert asked == [["touch the red ball", "stand"]]
    backbone = model.config.backbone
    black = torch.zeros(4, backbone.max_frames, backbone.image_size, backbone.image_size, 3, dtype=torch.uint8)
    each = model.encode(black, WORDS)
    for name in ("tokens", "pooled", "text"):
        torch.testing.assert_close(getattr(features, name), getattr(each, name))
    assert not torch.equal(features.text[0], features.text[1])

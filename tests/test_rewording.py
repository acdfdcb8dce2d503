"""Words said otherwise in training: whose, how, and by whose randomness."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train import tiny_training, weights_of
from tiny_neon import noise_frames, tiny_backbone
from tiny_wordnet import write_wordnet

from neon_sim.model.compact import CompactBackbone, save_compact
from neon_sim.training.rewording import Rewording
from neon_sim.training.train import NeonTrainer
from neon_sim.training.wordings import WordingTraining, with_meanings
from neon_sim.training.wordnet import WordVectorConfig, read_wordnet, word_vectors

WORDS = ["touch the red thing", "stand upright", "reach", "touch the blue thing"]


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> CompactBackbone:
    """A tiny backbone with a table of twenty words."""
    found = read_wordnet(write_wordnet(tmp_path_factory.mktemp("wordnet")))
    backbone = with_meanings(tiny_backbone(), word_vectors(found, WordVectorConfig(words=20, dim=6)))
    return backbone.requires_grad_(False)


def test_features_are_those_of_the_other_words(eyes: CompactBackbone) -> None:
    """Nothing but colours and hands is left where every word is left out."""
    frames = torch.from_numpy(noise_frames(4, 4, 128, 0))
    reword = Rewording(eyes, 1.0, WordingTraining(left_out=1.0, replaced=0.0))
    with torch.no_grad():
        told, bare = reword(eyes(frames, WORDS), WORDS), eyes(frames, ["red", "", "", "blue"])
    for name in ("tokens", "pooled", "text"):
        torch.testing.assert_close(getattr(told, name), getattr(bare, name), rtol=1e-4, atol=1e-5)


def test_a_share_of_the_samples_changes_and_the_rest_does_not(eyes: CompactBackbone) -> None:
    words = WORDS * 100
    with torch.no_grad():
        features = eyes(torch.zeros(1, 4, 128, 128, 3, dtype=torch.uint8).expand(400, -1, -1, -1, -1), words)
    before = features.text.clone()
    torch.manual_seed(0)
    told = Rewording(eyes, 0.5, WordingTraining(left_out=1.0, replaced=0.0))(features, words)
    changed = (told.text != before).any(dim=1)
    assert 0.4 < changed.float().mean() < 0.6
    assert torch.equal(told.pooled[~changed], features.pooled[~changed])
    assert torch.equal(features.text, before)  # what was given is left alone


def test_the_same_seed_says_the_same(eyes: CompactBackbone) -> None:
    with torch.no_grad():
        features = eyes(torch.zeros(4, 4, 128, 128, 3, dtype=torch.uint8), WORDS)
    said = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        said.append(Rewording(eyes, 1.0, WordingTraining(near=2))(features, WORDS).text)
    assert torch.equal(said[0], said[1]) and not torch.equal(said[0], said[2])


def test_a_text_side_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compact_words"):
        Rewording(tiny_backbone().requires_grad_(False), 0.5)


def test_a_backbone_that_learns_is_refused(eyes: CompactBackbone) -> None:
    with pytest.raises(ValueError, match="frozen"):
        Rewording(copy.deepcopy(eyes).requires_grad_(True), 0.5)


def test_a_training_says_words_otherwise_and_goes_on_to_the_bit(eyes: CompactBackbone, tmp_path: Path) -> None:
    save_compact(eyes, tmp_path / "backbone")
    config = tiny_training(tmp_path, max_steps=4, gradient_accumulation=1, reworded=0.5)
    whole, plain = (
        NeonTrainer(config, progress=False),
        NeonTrainer(replace(config, reworded=0.0, output_dir=str(tmp_path / "plain")), progress=False),
    )
    parted = replace(config, output_dir=str(tmp_path / "parted"))
    first = NeonTrainer(parted, progress=False)
    for _, batches in zip(range(2), first._micro_batches(), strict=False):
        first.update(batches)
    first.save()
    for trainer in (whole, plain, second := NeonTrainer(parted, progress=False)):
        trainer.train()
    assert torch.equal(weights_of(second), weights_of(whole)) and not torch.equal(weights_of(plain), weights_of(whole))
    with pytest.raises(ValueError, match="reworded"):
        NeonTrainer(replace(config, reworded=1.5), progress=False)

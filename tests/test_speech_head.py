"""SpeechResponseHead: linear, softmax, and short answers that it learns."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_neon import tiny_features, tiny_model, tiny_senses

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.speech import SpeechResponseHead
from neon_sim.training.train_config import TrainConfig
from neon_sim.training.train_parts import model_config

WORDS = ("touching", "the", "red", "blue", "ball")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_it_is_linear_in_the_features_and_a_softmax_over_the_vocabulary() -> None:
    head = SpeechResponseHead(6, WORDS, max_words=4, rank=3).double()
    features = torch.randn(2, 6).double()
    logits = head(features)
    assert logits.shape == (2, 4, 6)  # the end of an answer is a word too
    torch.testing.assert_close(head(0.5 * features[:1] + 0.5 * features[1:]), logits.mean(0, keepdim=True))
    probabilities = head.probabilities(features)
    torch.testing.assert_close(probabilities, logits.exp() / logits.exp().sum(-1, keepdim=True))


def test_encoding_by_hand() -> None:
    head = SpeechResponseHead(6, WORDS, max_words=4)
    ids = head.encode(["the red ball", "", "touching the red ball"])
    assert ids.tolist() == [[2, 3, 5, 0], [0, -100, -100, -100], [1, 2, 3, 5]]


def test_loss_by_hand_counts_words_and_the_end_alone() -> None:
    head = SpeechResponseHead(6, WORDS, max_words=4)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.output.bias[5] = math.log(5.0)  # "ball" has 5 / 10, every other word 1 / 10
    loss = head.compute_loss(torch.randn(2, 6), ["ball", ""])
    assert loss.item() == pytest.approx((math.log(2.0) + 2 * math.log(10.0)) / 3, rel=1e-5)


def test_it_learns_what_to_say_from_the_features() -> None:
    head = SpeechResponseHead(4, WORDS, max_words=4, rank=8)
    features = torch.eye(4)[:3]
    answers = ["touching the red ball", "the blue ball", ""]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        loss = head.compute_loss(features, answers)
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and bool(p.grad.any()) for p in head.parameters())
    assert head.respond(features) == answers and loss.item() < 0.1


def test_wrong_inputs_are_refused() -> None:
    head = SpeechResponseHead(6, WORDS, max_words=2)
    with pytest.raises(ValueError, match="has 3 words; this head says at most 2"):
        head.encode(["the red ball"])
    with pytest.raises(ValueError, match=r"outside the vocabulary: \['cube'\]"):
        head.encode(["red cube"])
    with pytest.raises(ValueError, match="2 rows of features want as many answers, got 1"):
        head.compute_loss(torch.zeros(2, 6), ["ball"])
    for vocabulary in ((), ("a", "a"), ("a", "")):
        with pytest.raises(ValueError, match="different, non-empty words"):
            SpeechResponseHead(6, vocabulary)
    with pytest.raises(ValueError, match="max_words and rank of 1 or more, got 0 and 64"):
        SpeechResponseHead(6, WORDS, max_words=0)


def test_a_policy_learns_to_answer_and_its_checkpoint_still_does(tmp_path: Path) -> None:
    mute = tiny_model(tmp_path / "backbone", dropout=0.0)
    model = tiny_model(tmp_path / "backbone", dropout=0.0, speech_vocabulary=WORDS, speech_words=4)
    features, senses = tiny_features(2), tiny_senses(2)
    assert set(model.state_dict()) - set(mute.state_dict()) == {
        f"speech_head.{part}.{kind}" for part in ("places", "output") for kind in ("weight", "bias")
    }
    with torch.no_grad():
        assert torch.equal(model(features, senses)[0], mute(features, senses)[0])  # the hands are as they were
    answers = ["touching the red ball", ""]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.speech_loss(features, senses, answers).backward()
        optimizer.step()
    assert model.respond(features, senses) == answers
    assert model.fusion.proj.weight.grad is not None and bool(model.fusion.proj.weight.grad.any())
    model.save_pretrained(tmp_path / "policy")
    again = NeonVLA.from_pretrained(tmp_path / "policy")
    assert again.config == model.config and again.respond(features, senses) == answers
    assert again.parameter_table()["speech_head"] == sum(p.numel() for p in model.speech_head.parameters())


def test_a_policy_without_words_says_so_and_is_known_as_before(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    for call in (lambda: model.respond(tiny_features(1), {}), lambda: model.speech_loss(tiny_features(1), {}, ["a"])):
        with pytest.raises(ValueError, match="no words to answer with. Build it with NeonConfig.speech_vocabulary"):
            call()
    assert "speech" not in repr(model.config) and "sound_memory" not in repr(model.config)
    speaking = replace(model.config, speech_vocabulary=WORDS, sound_memory_s=3.0)
    assert "speech_vocabulary=('touching', 'the'" in repr(speaking) and "sound_memory_s=3.0" in repr(speaking)
    with pytest.raises(ValueError, match="no answers to learn from"):
        model_config(TrainConfig(speaking))
    with pytest.raises(ValueError, match="0.1 to 30 s, got 0.05"):
        replace(model.config, sound_memory_s=0.05)

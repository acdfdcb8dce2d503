"""Teaching the text side meanings: what is said, how it is said otherwise, what is learned, and how it is judged."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_neon import noise_frames, tiny_backbone
from tiny_wordnet import write_wordnet

from neon_sim.tasks.said import SPOKEN, WRITTEN
from neon_sim.tasks.wording import Wording
from neon_sim.training.backbone import Films
from neon_sim.training.multitask import STANDING
from neon_sim.training.wording_probes import judge_finding, judge_wordings, text_in_pooled
from neon_sim.training.wordings import (
    Phrase,
    WordingTraining,
    even_chances,
    paraphrase,
    phrases_of,
    say_all,
    teach_wordings,
    where_it_lies,
)
from neon_sim.training.wordnet import WordVectorConfig, read_wordnet, word_vectors

PHRASES = (
    Phrase("reach", "touch the {color} thing with the {hand} foot"),
    Phrase("reach", "make contact with the {color} thing"),
    Phrase("wave/raise", "stand upright"),
)


def test_every_filling_of_a_phrase_is_said() -> None:
    said = say_all(PHRASES)
    assert len(said) == 10 + 5 + 1 and said[0].text == "touch the red thing with the left foot"
    assert (said[1].color, said[1].hand, said[10].hand, said[15].color) == (0, 1, -1, -1)
    assert [phrase.task for phrase in PHRASES] == ["reach", "reach", "wave"]


def test_tasks_meanings_and_templates_are_drawn_equally() -> None:
    chances = even_chances(say_all(PHRASES))
    np.testing.assert_allclose(chances, [*[1 / 40] * 10, *[1 / 20] * 5, 1 / 2])


def test_wordings_of_one_meaning_and_colour_lie_at_their_mean() -> None:
    backbone, said = tiny_backbone(), say_all((Phrase("reach", "the {color} ball"), Phrase("reach", "{color}")))
    target = where_it_lies(backbone, said)
    with torch.no_grad():
        both = backbone.text_encoder(["the red ball", "red"])
    torch.testing.assert_close(target[0], both.mean(0))
    assert torch.equal(target[0], target[5]) and not torch.allclose(target[0], target[1])


def test_other_words_keep_colour_and_hand() -> None:
    rows = np.tile([[0, 1, 2, -1]], (4000, 1))
    fixed = rows == 1
    near = np.array([[7, 8], [7, 8], [9, 9]])
    training = WordingTraining(left_out=0.2, replaced=0.3)
    words = paraphrase(rows, fixed, near, training, np.random.default_rng(0))
    assert (words[:, 1] == 1).all() and (words[:, 3] == -1).all()
    assert set(np.unique(words[:, 0])) == {-1, 0, 7, 8} and set(np.unique(words[:, 2])) == {-1, 2, 9}
    assert (words[:, 2] == 9).mean() == pytest.approx(0.3, abs=0.03)
    assert (words[:, 2] == -1).mean() == pytest.approx(0.2, abs=0.03)
    literal = WordingTraining(left_out=0.0, replaced=0.0)
    assert np.array_equal(paraphrase(rows, fixed, near, literal, np.random.default_rng(0)), rows)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory):
    """A tiny backbone whose text side learned from a dictionary of eight meanings."""
    folder: Path = tmp_path_factory.mktemp("wordnet")
    vectors = word_vectors(read_wordnet(write_wordnet(folder)), WordVectorConfig(words=20, dim=6))
    training = WordingTraining(steps=60, batch=32, left_out=0.1, near=1)
    return vectors, training, teach_wordings(tiny_backbone(), vectors, PHRASES, training, progress=False)


def test_a_wording_of_words_never_taught_is_understood(taught) -> None:
    """Neither "reach" nor "balance" is in a training wording; the dictionary says what they are close to."""
    _, _, backbone = taught
    held_out = (Phrase("reach", "reach"), Phrase("wave/raise", "balance"))
    shares = judge_wordings(backbone.text_encoder, PHRASES, held_out)
    assert shares["linear"] == {"reach": 1.0, "wave": 1.0, "mean": 1.0} == shares["nearest_mean"]
    swapped = (Phrase("wave/raise", "reach"), Phrase("reach", "balance"))
    assert judge_wordings(backbone.text_encoder, PHRASES, swapped)["linear"]["mean"] == 0.0


def test_the_same_seed_teaches_the_same_and_the_eyes_stay(taught) -> None:
    vectors, training, backbone = taught
    again = teach_wordings(tiny_backbone(), vectors, PHRASES, training, progress=False)
    state, before = backbone.state_dict(), tiny_backbone().state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    eyes = [name for name in before if not name.startswith("text_encoder.")]
    assert len(eyes) > 30 and all(torch.equal(before[name], state[name]) for name in eyes)


@torch.no_grad()
def test_words_without_a_picture_are_what_the_forward_pass_pools(taught) -> None:
    _, _, backbone = taught
    texts = ["touch", "stand upright"]
    black = torch.zeros(2, 4, 128, 128, 3, dtype=torch.uint8)
    torch.testing.assert_close(text_in_pooled(backbone, texts), backbone(black, texts).pooled, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wordings", [WRITTEN, SPOKEN])
def test_every_task_is_learned_from_and_nothing_that_is_held_back(wordings: dict[str, Wording]) -> None:
    learned, held_back = (phrases_of(wordings, split) for split in ("train", "test"))
    assert {phrase.task for phrase in learned} == {phrase.task for phrase in held_back} > set(STANDING)
    texts = {each.text for each in say_all(learned)}
    assert len(texts) > 200 and not texts & {each.text for each in say_all(held_back)}


def test_a_phrase_finds_what_its_own_backbone_finds() -> None:
    backbone = tiny_backbone()
    frames = noise_frames(3, 4, 128)
    films = Films(frames, np.zeros((3, 4, 2, 3), np.float32), np.array([[0, 1], [2, 3], [4, 0]]))
    assert judge_finding(backbone, backbone, films, [Phrase("name", "the {color} ball")]) == 1.0
    assert judge_finding(backbone, backbone, films, [Phrase("name", "red")]) < 1.0  # always the same, whatever is there

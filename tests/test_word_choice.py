"""WordChoice: where its places come to lie, what is chosen, and that a training puts them where its wordings are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_train import tiny_training

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.word_choice import WordChoice
from neon_sim.training.train import NeonTrainer


def test_places_are_the_middles_of_words_that_lie_together() -> None:
    choice = WordChoice(2, 2).eval()
    choice.set_places(torch.tensor([[2.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [-3.0, 0.0]]))
    expected = torch.tensor([[0.894427, 0.447214], [-1.0, 0.0]])  # halfway between 0 and 53.13 degrees, and 180
    torch.testing.assert_close(choice.places, expected)
    chosen = choice(torch.tensor([[0.894427, 0.447214], [-5.0, 0.0]]))
    # e^20 over e^20 and e^(-20 * 0.894427); the length of the words means nothing.
    torch.testing.assert_close(chosen[:, 0], torch.tensor([1.0, 0.0]))
    middle = choice(torch.tensor([[-0.229753, 0.973249]]))  # at right angles to the middle of both places
    torch.testing.assert_close(middle, torch.tensor([[0.5, 0.5]]), atol=1e-4, rtol=0.0)


@given(st.integers(1, 12), st.integers(2, 9), st.integers(0, 1000))
def test_each_word_asks_for_the_place_that_is_nearest(words: int, choices: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = torch.from_numpy(rng.normal(size=(words, 4)).astype(np.float32)).repeat(2, 1)  # every one of them twice
    choice = WordChoice(4, choices).eval()
    choice.set_places(said)
    used = min(words, choices)
    torch.testing.assert_close(choice.places.norm(dim=1), (torch.arange(choices) < used).float())
    nearness = torch.nn.functional.normalize(said, dim=1) @ choice.places[:used].T
    if choices >= words:  # then each has a place of its own
        torch.testing.assert_close(nearness.amax(1), torch.ones(2 * words))
    chosen = choice(said)
    assert torch.equal(chosen.argmax(1), nearness.argmax(1)) and not chosen[:, used:].any()
    torch.testing.assert_close(chosen.sum(1), torch.ones(2 * words))


def test_a_training_spreads_them_over_its_instructions_and_they_go_with_the_weights(tmp_path: Path) -> None:
    config = tiny_training(tmp_path, max_steps=1)
    config.model = replace(config.model, heads_read=True, word_choices=8)
    trainer = NeonTrainer(config, progress=False)
    said = sorted({trainer.soup[number].instruction for number in range(512)})
    assert 1 < len(said) <= 8
    directions = torch.nn.functional.normalize(trainer.model.backbone.encode_text(said), dim=1)
    places = trainer.model.word_choice.places
    torch.testing.assert_close((directions @ places.T).amax(1), torch.ones(len(said)))
    torch.testing.assert_close((directions @ places[: len(said)].T).amax(0), torch.ones(len(said)))
    assert not places[len(said) :].any()
    trainer.train()
    assert torch.equal(NeonVLA.from_pretrained(tmp_path / "run" / "best").word_choice.places, places)

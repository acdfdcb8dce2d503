"""The text side that knows words by their meaning: rows and weights by hand, unknown words, saved and read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_neon import SIZES, noise_frames

from neon_sim.model.compact import CompactBackbone, CompactConfig, load_compact, read_compact, save_compact
from neon_sim.model.meanings import MeaningEncoder, padded, write_forms
from neon_sim.model.video_backbone import BackboneConfig

FORMS = (("the",), ("touch", "touched", "touching"), ("ball", "balls"), ("left",))
VECTORS = np.eye(4, dtype=np.float32)


def tiny_encoder() -> MeaningEncoder:
    torch.manual_seed(0)
    encoder = MeaningEncoder(4, 4, len(write_forms(FORMS)), 8)
    encoder.set_table(FORMS, VECTORS)
    return encoder.eval()


def test_all_forms_of_a_word_are_one_row() -> None:
    encoder = tiny_encoder()
    assert encoder.rows("Touching, the BALLS!") == [1, 0, 2]
    assert encoder.rows("leftwards") == [3] and encoder.rows("touchdown") == [1]  # the known word that it begins with
    assert encoder.rows("") == [] and encoder.rows("the") == [0]
    numbers = encoder.rows("31 cm")
    assert min(numbers) >= 4 and numbers == encoder.rows("31 cm") and numbers[0] != encoder.rows("32 cm")[0]


def test_common_words_count_less_by_hand() -> None:
    encoder = tiny_encoder()
    pooled = encoder.pool(padded([encoder.rows("the ball"), []]))
    the, ball = 0.03 / 1.03, 0.03 / (0.03 + 1.0 / 3.0)  # first and third of the table
    torch.testing.assert_close(pooled[0], torch.tensor([the, 0.0, ball, 0.0]) / (the + ball))
    assert pooled[1].tolist() == [0.0] * 4


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_neighbours_do_not_change_what_a_text_means(texts: list[str]) -> None:
    encoder = tiny_encoder()
    with torch.no_grad():
        together = encoder(texts)
        assert together.shape == (len(texts), 8) and bool(together.isfinite().all())
        for text, vector in zip(texts, together, strict=True):
            torch.testing.assert_close(encoder([text])[0], vector, rtol=0, atol=1e-5)


def test_it_comes_back_with_its_words(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"text": "meanings", "words": 4, "word_dim": 4, "form_bytes": len(write_forms(FORMS))}
    backbone = CompactBackbone(CompactConfig(**SIZES, **sizes)).eval()
    backbone.text_encoder.set_table(FORMS, VECTORS)
    save_compact(backbone, tmp_path)
    again = read_compact(tmp_path).eval()
    assert again.config == backbone.config and again.text_encoder.rows("touched balls") == [1, 2]
    clips, words = torch.from_numpy(noise_frames(2, 4, 128)), ["touch the left ball", "31"]
    with torch.no_grad():
        torch.testing.assert_close(again(clips, words).text, backbone(clips, words).text, rtol=0, atol=2e-2)
    assert again.fingerprint() != replace_forms(again).fingerprint()


def replace_forms(backbone: CompactBackbone) -> CompactBackbone:
    """The same weights with another word in the table."""
    other = CompactBackbone(backbone.config)
    other.load_state_dict(backbone.state_dict())
    other.text_encoder.set_table((*FORMS[:3], ("loft",)), VECTORS)
    return other.eval()


def test_an_unknown_text_side_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Unknown text side 'meaning'. Did you mean 'meanings'"):
        CompactConfig(text="meaning")
    with pytest.raises(ValueError, match="does not hold a whole compact backbone"):
        load_compact(BackboneConfig(weights="compact_wrods"))


def test_the_choice_leaves_the_label_of_cached_features_alone() -> None:
    assert "text=" not in repr(CompactConfig()) and "vocabulary=4096" in repr(CompactConfig())


@torch.no_grad()
def test_the_shipped_one_has_the_same_eyes_and_knows_forms() -> None:
    hashed, words = load_compact(BackboneConfig()), load_compact(BackboneConfig(weights="compact_words"))
    eyes = {name: value for name, value in words.state_dict().items() if not name.startswith("text_encoder.")}
    assert len(eyes) > 50 and all(torch.equal(value, hashed.state_dict()[name]) for name, value in eyes.items())
    assert replace(words.config, text="hashed", words=0, word_dim=0, form_bytes=0) == hashed.config
    rows = words.eval().text_encoder.rows
    assert rows("hands spoken told feet") == rows("hand speak tell foot")
    left, right = words.text_encoder([f"touch the red ball with your {hand} hand" for hand in ("left", "right")])
    assert float((left - right).norm()) > 1.0

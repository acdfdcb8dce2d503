"""Word vectors from a dictionary: what is read, forms of words, and words explained alike lying close."""

from pathlib import Path

import numpy as np
import pytest
from tiny_wordnet import write_wordnet

from neon_sim.training.wordnet import (
    WordVectorConfig,
    form_table,
    inflections,
    read_wordnet,
    word_vectors,
    wordnet_license,
)


@pytest.mark.parametrize(
    ("word", "part", "forms"),
    [
        ("box", "n", {"boxes"}),
        ("hand", "n", {"hands"}),
        ("body", "n", {"bodies"}),
        ("boy", "n", {"boys"}),
        ("wave", "v", {"waves", "waving", "waved"}),
        ("carry", "v", {"carries", "carrying", "carried"}),
        ("touch", "v", {"touches", "touching", "touched"}),
        ("grab", "v", {"grabs", "grabing", "grabbing", "grabed", "grabbed"}),  # either is found; one is never met
        ("red", "a", {"reder", "redder", "redest", "reddest"}),
        ("never", "r", set()),
    ],
)
def test_forms_of_a_word(word: str, part: str, forms: set[str]) -> None:
    assert inflections(word, part) == forms


def test_what_is_read(tmp_path: Path) -> None:
    net = read_wordnet(write_wordnet(tmp_path))
    assert len(net.meanings) == 8 and net.uses["touch"] == 10 and net.parts["touch"] == "v"
    reach = net.meanings["v00000001"]
    assert reach.links == ("v00000000",) and reach.gloss.strip() == "make contact with a thing far away" and reach.met
    assert reach.words == pytest.approx({"reach": 5.5 / 5.5, "touch": 1.25 / 10.5})  # 1 + 0.5 / 2 of its uses
    assert net.meanings["a00000005"].links == ()  # an opposite is no relative
    assert not net.meanings["r00000007"].met
    table = form_table(net)
    assert table["feet"] == "foot" and table["stood"] == "stand" and table["touching"] == "touch"
    assert table["touch"] == "touch" and "went" not in table  # go is not in this dictionary


def test_the_notice_goes_along(tmp_path: Path) -> None:
    assert wordnet_license(write_wordnet(tmp_path)) == "a licence\n"


def test_words_that_are_explained_alike_lie_close(tmp_path: Path) -> None:
    net = read_wordnet(write_wordnet(tmp_path))
    vectors = word_vectors(net, WordVectorConfig(words=20, dim=6))
    assert vectors.vectors.shape == (len(vectors.forms), 6) and vectors.vectors.dtype == np.float32
    assert vectors.row("stood") == vectors.row("stand") and vectors.forms[vectors.row("feet")][0] == "foot"

    def alike(a: str, b: str) -> float:
        return float(vectors.vectors[vectors.row(a)] @ vectors.vectors[vectors.row(b)])

    assert alike("touch", "reach") > 0.5 > alike("touch", "red")
    assert alike("stand", "balance") > 0.5 > alike("stand", "touch")
    again = word_vectors(net, WordVectorConfig(words=20, dim=6))
    assert np.array_equal(vectors.vectors, again.vectors) and vectors.forms == again.forms
    with pytest.raises(KeyError, match="zebra"):
        vectors.row("zebra")


def test_a_folder_without_a_dictionary_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data.verb is missing. apt-get install wordnet-base"):
        read_wordnet(tmp_path)

"""Captions by hand: which way a ball drifts, where it is in centimetres, a whole scene in coarse words."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.training.captions import DIRECTIONS, caption, describe, direction


@pytest.mark.parametrize(
    ("velocity_b", "word"),
    [
        ((0.0, 0.05, 0.0), "left"),
        ((0.0, -0.05, 0.0), "right"),
        ((0.0, 0.0, 0.05), "up"),
        ((0.0, 0.0, -0.05), "down"),
        ((0.0, 0.0, 0.0), "still"),
        ((0.0, 0.019, 0.0), "still"),  # slower than 2 cm/s
        ((0.0, 0.021, 0.0), "left"),
        ((0.0, -0.04, 0.03), "right"),  # the larger of the two
        ((0.0, 0.03, -0.04), "down"),
    ],
)
def test_direction_by_hand(velocity_b: tuple[float, float, float], word: str) -> None:
    assert DIRECTIONS[direction(np.array(velocity_b))] == word


@given(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_mirrored_motion_has_the_mirrored_word(y: float, z: float) -> None:
    mirrored = {0: 0, 1: 2, 2: 1, 3: 3, 4: 4}
    if abs(y) > 1e-9:  # on the axis there is no left or right
        assert direction(np.array([0.0, -y, z])) == mirrored[direction(np.array([0.0, y, z]))]


def test_a_ball_in_centimetres() -> None:
    pos_b = np.array([0.312, 0.118, 0.079])
    assert describe("red", pos_b) == "red ball 31 cm ahead 12 cm left 8 cm up"
    assert describe("red", pos_b, 2) == "red ball 31 cm ahead 12 cm left 8 cm up moving right"
    assert describe("blue", -pos_b * [-1, 1, 1], 0) == "blue ball 31 cm ahead 12 cm right 8 cm down still"


@given(st.floats(0.0, 0.5), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_centimetres_read_back_to_within_half_of_one(x: float, y: float, z: float) -> None:
    found = re.fullmatch(
        r"red ball (\d+) cm ahead (\d+) cm (left|right) (\d+) cm (up|down)", describe("red", np.array([x, y, z]))
    )
    assert found is not None
    side, lift = (1 if found[3] == "left" else -1), (1 if found[5] == "up" else -1)
    read = np.array([int(found[1]), side * int(found[2]), lift * int(found[4])]) / 100
    np.testing.assert_allclose(read, [x, y, z], atol=0.00501)


def test_a_scene_by_hand() -> None:
    pos_b = np.array([[0.20, 0.10, 0.05], [0.28, 0.0, 0.15], [0.35, -0.10, 0.25]])
    parts = {
        "a red ball near left low moving up",
        "a green ball in the middle centre chest high still",
        "a blue ball far right high moving left",
    }
    orders = set()
    for seed in range(20):
        text = caption(["red", "green", "blue"], pos_b, [3, 0, 1], np.random.default_rng(seed))
        assert set(text.split(", ")) == parts
        orders.add(text)
    assert len(orders) == 6  # every order of three balls
    still = caption(["red"], pos_b[:1], None, np.random.default_rng(0))
    assert still == "a red ball near left low"


def test_captions_are_seeded() -> None:
    pos_b = np.random.default_rng(0).uniform(0.1, 0.4, (3, 3))
    one, two = (caption(["red", "green", "blue"], pos_b, None, np.random.default_rng(4)) for _ in range(2))
    assert one == two

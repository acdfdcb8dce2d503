"""Which head answers: signals by hand, hysteresis by a signal that wavers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.inference.router import RouterConfig, choose_heavy, difficulty, disagreement

CONFIG = RouterConfig(disagreement=0.1, tracking_error=0.2, near_m=0.05, enter_heavy=1.0, leave_heavy=0.5)


def test_disagreement_compares_the_same_moments() -> None:
    steps = np.arange(16.0)
    old = np.stack([steps, steps])[..., None]  # both say: at step t do t
    new = old + 10.0
    new[1] += 0.5  # the second robot's new draft is half a unit off
    assert disagreement(old, new, 10).tolist() == [0.0, 0.5]
    assert disagreement(old, old, 0).tolist() == [0.0, 0.0]
    assert disagreement(old, new, 16).tolist() == [0.0, 0.0]  # nothing in common


def test_disagreement_wants_chunks_that_can_be_compared() -> None:
    with pytest.raises(ValueError, match="one shape .B, T, A. and steps_between >= 0"):
        disagreement(np.zeros((1, 16, 17)), np.zeros((1, 8, 17)), 2)
    with pytest.raises(ValueError, match="and -1"):
        disagreement(np.zeros((1, 16, 17)), np.zeros((1, 16, 17)), -1)


def test_difficulty_is_the_worst_signal_by_hand() -> None:
    assert difficulty(CONFIG, disagreement=0.05) == pytest.approx(0.5)
    assert difficulty(CONFIG, tracking_error=0.3) == pytest.approx(1.5)
    # 5 cm from the goal is 1, twice as far is half as hard, and it never counts for more than 10.
    assert difficulty(CONFIG, goal_distance=0.05) == pytest.approx(1.0)
    assert difficulty(CONFIG, goal_distance=0.1) == pytest.approx(0.5)
    assert difficulty(CONFIG, goal_distance=0.0) == pytest.approx(10.0)
    assert difficulty(CONFIG, disagreement=0.05, tracking_error=0.02, goal_distance=0.0625) == pytest.approx(0.8)


def test_difficulty_of_a_batch() -> None:
    score = difficulty(CONFIG, disagreement=np.array([0.0, 0.2, 0.01]), goal_distance=np.array([0.1, 0.5, 0.5]))
    np.testing.assert_allclose(score, [0.5, 2.0, 0.1])


def test_signals_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one signal"):
        difficulty(CONFIG)
    with pytest.raises(ValueError, match="not so: tracking_error"):
        difficulty(CONFIG, disagreement=0.1, tracking_error=np.nan)
    with pytest.raises(ValueError, match="not so: goal_distance"):
        difficulty(CONFIG, goal_distance=np.array([0.1, -0.1]))


def test_hysteresis_by_hand() -> None:
    answers, heavy = [], None
    for score in (0.6, 0.4, 0.6, 0.99, 1.0, 0.6, 0.5, 0.49, 0.9):
        heavy = choose_heavy(score, heavy, CONFIG)
        answers.append(bool(heavy))
    # It begins heavy and stays so at 0.6; light from 0.4 until 1.0; heavy down to 0.5; light from 0.49.
    assert answers == [True, False, False, False, True, True, True, False, False]


def test_robots_are_routed_one_by_one() -> None:
    heavy = choose_heavy(np.array([0.7, 0.7, 2.0, 0.1]), np.array([True, False, False, True]), CONFIG)
    assert heavy.tolist() == [True, False, True, False]


@given(st.lists(st.floats(0.51, 0.99), min_size=1, max_size=30), st.booleans())
def test_a_score_that_wavers_between_the_thresholds_changes_nothing(scores: list[float], start: bool) -> None:
    heavy: np.ndarray | bool = start
    for score in scores:
        heavy = choose_heavy(score, heavy, CONFIG)
        assert bool(heavy) is start


@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.booleans())
def test_what_is_harder_is_never_answered_by_a_lighter_head(one: float, other: float, before: bool) -> None:
    low, high = sorted((one, other))
    assert bool(choose_heavy(high, before, CONFIG)) >= bool(choose_heavy(low, before, CONFIG))


def test_settings_that_would_flicker_are_refused() -> None:
    with pytest.raises(ValueError, match="leave_heavy <= enter_heavy, got 2.0 and 1.0"):
        RouterConfig(leave_heavy=2.0)
    with pytest.raises(ValueError, match=r"positive finite numbers, got \{'near_m': 0.0\}"):
        RouterConfig(near_m=0.0)

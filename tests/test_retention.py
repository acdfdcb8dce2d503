"""Figures of a life through three regimes, small enough to do with a pencil."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.eval.retention import (
    area_lost,
    average_performance,
    backward_transfer,
    forgetting,
    forward_transfer,
    recovered_fraction,
    running_mean,
    savings,
    time_to_recover,
    worst_dip,
)

# Rows: after learning regime 0, 1, 2. Columns: performance on regime 0, 1, 2.
MATRIX = np.array([[0.9, 0.2, 0.1], [0.6, 0.8, 0.3], [0.5, 0.9, 0.7]])


def test_average_performance_is_the_mean_of_the_last_row() -> None:
    assert average_performance(MATRIX) == pytest.approx((0.5 + 0.9 + 0.7) / 3)


def test_forgetting_is_what_was_lost_since_a_regimes_own_end() -> None:
    assert forgetting(MATRIX).tolist() == pytest.approx([0.4, -0.1, 0.0])  # regime 1 got better later on
    assert backward_transfer(MATRIX) == pytest.approx((-0.4 + 0.1) / 2)


def test_a_regime_that_comes_again_counts_from_its_last_time() -> None:
    life = np.array([[0.9, 0.2, 0.0], [0.6, 0.8, 0.0], [0.7, 0.5, 0.0], [0.4, 0.6, 0.1]])
    lost = forgetting(life, order=[0, 1, 0, 1])
    assert lost[:2].tolist() == pytest.approx([0.7 - 0.4, 0.0]) and np.isnan(lost[2])
    assert backward_transfer(life, order=[0, 1, 0, 1]) == pytest.approx(-0.3)
    assert np.isnan(backward_transfer(np.array([[0.5]])))


def test_forward_transfer_by_hand() -> None:
    # (0.8 - 0.6) / 0.4, (0.1 - 0.5) / 0.5, and nothing to win over a perfect reference
    found = forward_transfer(np.array([0.8, 0.1, 1.0]), np.array([0.6, 0.5, 1.0]))
    assert found[:2].tolist() == pytest.approx([0.5, -0.8]) and np.isnan(found[2])
    with pytest.raises(ValueError, match="areas in \\[0, 1\\]"):
        forward_transfer(np.array([80.0]), np.array([0.5]))


def test_recovered_fraction_and_no_loss() -> None:
    assert recovered_fraction(0.9, 0.4, 0.8) == pytest.approx(0.8)
    assert recovered_fraction(0.9, 0.4, 0.3) == pytest.approx(-0.2)
    assert recovered_fraction(0.9, 0.81, 0.9) is None
    assert recovered_fraction(0.9, 0.8, 0.9) == pytest.approx(1.0)  # ten points to the rounding error


def test_running_mean_by_hand() -> None:
    assert running_mean([1, 0, 1, 1, 0], 2).tolist() == pytest.approx([1.0, 0.5, 0.5, 1.0, 0.5])
    with pytest.raises(ValueError, match="at least 1"):
        running_mean([1.0], 0)


def test_time_to_recover_waits_for_a_whole_window() -> None:
    curve = [1, 0, 0, 1, 0, 1, 1, 1]  # means of 3: 1/3, 1/3, 1/3, 2/3, 2/3, 1
    assert time_to_recover(curve, nominal=1.0, window=3) == 8
    assert time_to_recover(curve, nominal=0.7, window=3, share=0.95) == 6  # 2/3 >= 0.665
    assert time_to_recover(curve, nominal=0.7, window=3, steps_per_episode=96) == 576
    assert time_to_recover([1, 1], nominal=0.5, window=3) is None
    assert time_to_recover([0] * 30, nominal=0.5) is None
    assert time_to_recover([1, 1, 1], nominal=1.0, window=3) == 3


def test_a_lucky_window_is_no_recovery() -> None:
    lucky = [0, 0, 1, 1, 0, 0, 0, 0]
    assert time_to_recover(lucky, nominal=1.0, window=2) is None
    assert time_to_recover([*lucky, 1, 1], nominal=1.0, window=2) == 10  # to the end of the visit
    assert time_to_recover([0, 1, 1, 1, 0, 1], nominal=0.5, window=2) == 2  # what follows is at the level, too
    always = np.random.default_rng(0).random((200, 100)) < 0.85  # frozen where a trouble takes 15 points
    share = np.mean([time_to_recover(curve, nominal=1.0) is not None for curve in always])
    assert share < 0.5


def test_area_lost_is_signed() -> None:
    assert area_lost([0, 0, 1, 1], nominal=0.75, steps_per_episode=100) == pytest.approx(100.0)
    assert area_lost([1, 1], nominal=0.5) == pytest.approx(-1.0)


def test_worst_dip() -> None:
    assert worst_dip([1, 1, 0, 0, 1], nominal=0.9, window=2) == pytest.approx(0.9)
    assert worst_dip([1, 0], nominal=0.9, window=20) == pytest.approx(0.4)
    with pytest.raises(ValueError, match="at least one episode"):
        worst_dip([], nominal=1.0)


def test_savings() -> None:
    assert savings(40.0, 10.0) == pytest.approx(0.75) and savings(10.0, 15.0) == pytest.approx(-0.5)
    assert savings(10.0, -5.0) == pytest.approx(1.5)  # the second visit was better than nominal
    assert savings(0.0, 10.0) is None and savings(-1.0, 10.0) is None


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=3, max_size=3))
def test_what_is_forgotten_is_what_backward_transfer_lacks(rows: list[list[float]]) -> None:
    matrix = np.array(rows)
    assert forgetting(matrix)[-1] == 0.0  # the regime just learned has had no time to be forgotten
    assert backward_transfer(matrix) == pytest.approx(-forgetting(matrix)[:2].mean())
    assert np.all(np.abs(forgetting(matrix)) <= 1.0)


def test_what_is_no_matrix_is_refused() -> None:
    for bad in (np.zeros(3), np.zeros((0, 3)), np.array([[np.nan, 1.0]])):
        with pytest.raises(ValueError, match="stages, regimes"):
            average_performance(bad)
    with pytest.raises(ValueError, match="3 stages need as many regimes"):
        forgetting(MATRIX, order=[0, 1])
    with pytest.raises(ValueError, match="from 0 to 2"):
        forgetting(MATRIX, order=[0, 1, 3])

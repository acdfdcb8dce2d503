"""Intervals by hand numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.eval.statistics import format_rate, paired_difference, t_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # z^2 = 3.8415 and n = 10: (p + 0.19207) / 1.38415 -+ 1.959964 / 1.38415 * sqrt(p (1 - p) / 10 + 0.0096037)
        (0, 10, 0.0, 0.27754),
        (10, 10, 0.72246, 1.0),
        (5, 10, 0.23659, 0.76341),
        (81, 263, 0.25527, 0.36621),  # Newcombe 1998, table I, method 3: 0.2553 to 0.3662
        (15, 148, 0.06240, 0.16050),  # the same table: 0.0624 to 0.1605
    ],
)
def test_wilson_by_hand(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500), st.data())
def test_an_interval_holds_its_rate_and_mirrors(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0 and low < high
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1.0 - high, 1.0 - low), abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_counts_that_are_none_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} of {trials}"):
        wilson_interval(successes, trials)


def test_a_rate_in_words() -> None:
    assert format_rate(5, 10) == "50.0 % [23.7, 76.3] (5/10)"


def test_a_paired_difference_by_hand():
    before, after = [True] * 8 + [False] * 2, [True] * 5 + [False] * 3 + [True] + [False]
    # 3 lost and 1 won of 10, half an episode added to each: (1.5 - 3.5) / 12, and sqrt(5 - 4 / 12) / 12 for one sigma.
    rate, low, high = paired_difference(before, after)
    assert rate == pytest.approx(-0.2)
    assert (low + high) / 2 == pytest.approx(-1 / 6) and high - low == pytest.approx(
        2 * 1.959964 * math.sqrt(14 / 3) / 12
    )
    assert paired_difference(after, before)[0] == pytest.approx(0.2)
    assert paired_difference([True], [True]) == pytest.approx((0.0, -1.959964 / 3, 1.959964 / 3))
    for wrong in (([], []), ([True], [True, False])):
        with pytest.raises(ValueError, match="the same episodes twice"):
            paired_difference(*wrong)


def test_a_t_interval_by_hand():
    # Mean 2 and deviation 1 of three values; t of two degrees of freedom is 4.3027.
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 4.302653 / math.sqrt(3)))
    assert t_interval([5.0]) == (5.0, math.inf)

"""The search for the base gait's gains: it repeats itself, it tells good gains from bad ones, and it gets better."""

import numpy as np
import pytest

from neon_sim.locomotion import gait
from neon_sim.sim.randomize import NOMINAL
from neon_sim.walking.gain_search import SearchConfig, search_gains, try_gains
from neon_sim.walking.world import WalkConfig

WORLD = WalkConfig(threads=1)
ALONE = WalkConfig(count=3, models=0, randomization=NOMINAL, delay_s=(0.0, 0.0), long_delays=0.0, threads=1)


def run(config: SearchConfig, seed: int = 0) -> tuple[np.ndarray, list[tuple[int, float, float]]]:
    told: list[tuple[int, float, float]] = []
    gains = search_gains(config, WORLD, seed, lambda *figures: told.append(figures))
    return gains, told


def test_a_search_repeats_itself():
    config = SearchConfig(candidates=8, generations=2, first_steps=20, more_steps=5)
    (gains, told), (again, told_again), (other, _) = run(config), run(config), run(config, seed=1)
    np.testing.assert_array_equal(gains, again)
    assert told == told_again and [generation for generation, *_ in told] == [0, 1]
    assert gains.shape == gait.START.shape and not np.array_equal(gains, other)
    assert all(0.0 < upright_s <= limit for (*_, upright_s), limit in zip(told, (0.4, 0.5), strict=True))


def test_no_generations_leave_the_start():
    gains, told = run(SearchConfig(candidates=8, generations=0))
    np.testing.assert_array_equal(gains, gait.START)
    assert told == []


def test_one_generation_moves_to_the_mean_of_the_best():
    """Two of eight are kept: the mean is half-way between two rows of what the same seed draws."""
    config = SearchConfig(candidates=8, generations=1, first_steps=20, elite=0.125)
    gains, _ = run(config, seed=5)
    drawn = np.random.default_rng(5).normal(gait.START, gait.SPREAD, (8, len(gait.START)))
    drawn[0] = gait.START
    halves = {(i, j): (drawn[i] + drawn[j]) / 2 for i in range(8) for j in range(i)}
    assert sum(np.allclose(gains, half) for half in halves.values()) == 1


def test_a_trial_ends_with_the_first_fall():
    """Who answers a lean with the wrong sign of the hips goes down; who begins sensibly is up for longer."""
    bad = gait.START.copy()
    bad[[list(gait.GAINS).index(name) for name in ("hip_roll", "hip_pitch")]] = -4.0
    gains = np.array([gait.START, bad, bad])
    score, upright = try_gains(ALONE, gains, steps=60, seed=0)
    assert upright[0] > 1.5 * upright[1:].max() and score[0] > 1.5 * score[1:].max()
    assert np.all(upright[1:] < 35)
    longer, still = try_gains(ALONE, gains, steps=70, seed=0)
    np.testing.assert_array_equal(still[1:], upright[1:])  # a second life does not count
    np.testing.assert_allclose(longer[1:] * 70, score[1:] * 60)


@pytest.mark.slow
def test_a_short_search_stands_longer_than_it_began():
    _, told = run(SearchConfig(candidates=96, generations=4, more_steps=0))
    assert told[-1][1] > told[0][1] and told[-1][2] > told[0][2]

"""Pushes: when they come, how hard they are, and that a saved one goes on."""

import numpy as np
import pytest

from neon_sim.sim.pushes import Pushes


def times(pushes: Pushes, until_s: float) -> list[float]:
    """When a robot with a 20 ms clock is pushed."""
    return [step * 0.02 for step in range(round(until_s / 0.02)) if pushes.due(step * 0.02) is not None]


def test_a_push_comes_after_each_interval() -> None:
    np.testing.assert_allclose(times(Pushes(0.5, 0.3, np.random.default_rng(0)), 1.0), [0.3, 0.6, 0.9])


def test_pushes_have_one_size_and_all_directions() -> None:
    pushes = Pushes(0.5, 1.0, np.random.default_rng(0))
    velocities = np.array([pushes.due(float(second)) for second in range(1, 401)])
    np.testing.assert_allclose(np.hypot(*velocities.T), 0.5)
    assert (np.abs(velocities.mean(axis=0)) < 0.06).all()


def test_the_same_rng_pushes_alike_and_a_state_goes_on() -> None:
    one, two, other = (Pushes(0.5, 1.0, np.random.default_rng(seed)) for seed in (3, 3, 4))
    first = one.due(1.0)
    assert first is not None
    np.testing.assert_array_equal(first, two.due(1.0))
    other.set_state(one.get_state())
    assert one.due(1.5) is None and other.due(1.5) is None
    np.testing.assert_array_equal(one.due(2.0), other.due(2.0))


@pytest.mark.parametrize("wrong", [(-0.1, 1.0), (0.5, 0.0), (np.nan, 1.0)])
def test_pushes_that_are_none_are_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="Pushes want speed"):
        Pushes(*wrong, np.random.default_rng(0))

"""Relative end-effector actions: by hand, there and back, and the same for every robot (Proposition 1)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.data.relative_actions import (
    euler2rotm,
    quat2rotm,
    relative_actions_to_states,
    rotm2euler,
    rotm2quat,
    states_to_relative_actions,
)

SEEDS = st.integers(0, 2**32 - 1)


def random_states(seed: int, steps: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    states = rng.uniform(-1.0, 1.0, (steps, 7))
    states[:, 4] *= 1.4  # pitch stays clear of +-90 degrees, where roll and yaw are one
    states[:, 3:6:2] *= 3.0
    states[:, 6] = rng.uniform(0.0, 1.0, steps)
    return states


def test_a_step_that_can_be_worked_out_by_hand():
    # The gripper looks along +y (yaw 90 degrees) and moves 10 cm that way: 10 cm forward in its own frame.
    before = [0.3, 0.2, 0.5, 0.0, 0.0, np.pi / 2, 0.0]
    after = [0.3, 0.3, 0.5, 0.0, 0.0, np.pi / 2 + 0.05, 1.0]
    action = states_to_relative_actions(np.array([before, after]))
    np.testing.assert_allclose(action, [[2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]], atol=1e-12)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_there_and_back(seed):
    states = random_states(seed)
    again = relative_actions_to_states(states_to_relative_actions(states), states[0])
    np.testing.assert_allclose(again[:, :3], states[:, :3], atol=1e-9)
    np.testing.assert_allclose(euler2rotm(again[:, 3:6]), euler2rotm(states[:, 3:6]), atol=1e-9)
    np.testing.assert_array_equal(again[:, 6], states[:, 6])


@given(SEEDS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_two_robots_that_make_one_motion_give_one_action(seed, base_seed):
    """Any other base frame and origin, position and orientation, leaves the numbers as they are."""
    states, rng = random_states(seed), np.random.default_rng(base_seed)
    base, origin = quat2rotm(rng.normal(size=4)), rng.uniform(-5.0, 5.0, 3)
    seen = states.copy()
    seen[:, :3] = states[:, :3] @ base.T + origin
    seen[:, 3:6] = rotm2euler(base @ euler2rotm(states[:, 3:6]))
    np.testing.assert_allclose(states_to_relative_actions(seen), states_to_relative_actions(states), atol=1e-7)


def test_conversions_agree_with_each_other():
    rotm = euler2rotm(np.array([0.2, -0.4, 1.1]))
    np.testing.assert_allclose(quat2rotm(rotm2quat(rotm)), rotm, atol=1e-12)
    np.testing.assert_allclose(rotm2euler(rotm), [0.2, -0.4, 1.1], atol=1e-12)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="7 columns"):
        states_to_relative_actions(np.zeros((3, 6)))
    with pytest.raises(ValueError, match="two states or more, got 1"):
        states_to_relative_actions(np.zeros((1, 7)))
    with pytest.raises(ValueError, match="scaler must be positive"):
        relative_actions_to_states(np.zeros((3, 7)), np.zeros(7), scaler=0.0)

"""The crouch by the law of cosines; that its feet stay flat and in place is tests/test_balance.py's."""

import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.locomotion.posture import HEIGHT_RANGE, crouch

THIGH, SHIN = 0.33660, 0.30001  # m, hip pitch axis to knee to ankle pitch axis, seen from the side (links.py)
HOME_DROP, HOME_BACK = 0.62894, 0.02600  # m that the ankle is below and behind the hip in the home pose


def test_at_home_height_it_is_the_home_pose():
    np.testing.assert_allclose(crouch(joints.HOME_HEIGHT), joints.HOME[:15], atol=1e-15)
    assert HEIGHT_RANGE[1] == joints.HOME_HEIGHT


@pytest.mark.parametrize("height", [0.66, 0.70, 0.74, 0.77])
def test_the_knee_bends_as_the_law_of_cosines_says(height):
    drop = HOME_DROP - (joints.HOME_HEIGHT - height)
    cosine = (drop**2 + HOME_BACK**2 - THIGH**2 - SHIN**2) / (2 * THIGH * SHIN)
    assert crouch(height)[3] == pytest.approx(np.arccos(cosine), abs=5e-3)  # a table with 25 rows


def test_both_legs_alike_and_the_rest_straight():
    posture = crouch(0.70)
    np.testing.assert_allclose(posture[:6], posture[6:12], atol=1e-15)
    np.testing.assert_array_equal(posture[[1, 2, 5, 12, 13, 14]], 0.0)
    assert posture[0] < -0.1 and posture[3] > 0.3 and posture[4] < -0.2
    np.testing.assert_allclose(posture[[0, 3, 4]].sum(), 0.0, atol=1e-12)


def test_lower_is_more_bent_all_the_way():
    knee = crouch(np.linspace(*HEIGHT_RANGE, 200))[:, 3]
    assert np.all(np.diff(knee) < 0.0)
    assert np.all(knee < joints.UPPER[3])


def test_a_batch_of_heights_is_as_many_postures():
    heights = np.array([[0.66, 0.70, 0.785], [0.72, 0.68, 0.75]])
    postures = crouch(heights)
    assert postures.shape == (2, 3, 15)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(postures[index], crouch(float(heights[index])), atol=1e-15)
    assert crouch(0.7).shape == (15,)
    assert crouch(np.array([0.7])).shape == (1, 15)


def test_beyond_the_reachable_it_stays_at_the_end():
    np.testing.assert_array_equal(crouch(0.9), crouch(joints.HOME_HEIGHT))
    np.testing.assert_array_equal(crouch(0.2), crouch(0.1))
    assert crouch(0.2)[3] == pytest.approx(1.5)

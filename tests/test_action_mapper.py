"""ActionMapper: names decide, whoever spelled them; what has no place is reported."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.data.action_mapper import G1_NAMES, ActionMapper
from neon_sim.g1 import joints


def test_three_spellings_of_one_joint():
    names = ["kLeftShoulderPitch", "right_elbow", "waist_yaw_joint", "vx"]
    full = ActionMapper(names)(np.array([1.0, 2.0, 3.0, 0.4]))
    expected = np.zeros(32)
    expected[[joints.JOINT_INDEX["left_shoulder_pitch_joint"], joints.JOINT_INDEX["right_elbow_joint"]]] = 1.0, 2.0
    expected[[joints.JOINT_INDEX["waist_yaw_joint"], 29]] = 3.0, 0.4
    np.testing.assert_array_equal(full, expected)


def test_what_has_no_place_is_reported():
    mapper = ActionMapper(["left_elbow", "left_gripper", "base_height"])
    assert mapper.report.mapped == {"left_elbow": "left_elbow_joint"}
    assert mapper.report.dropped == ("left_gripper", "base_height") and len(mapper.report.padded) == 31
    assert str(mapper.report) == "1 columns mapped, 31 of the G1's padded; dropped: left_gripper, base_height"


def test_a_rename_decides_where_names_do_not():
    mapper = ActionMapper(["motor_3", "left_knee"], rename={"motor_3": "left_elbow_joint", "left_knee": None})
    default = np.append(joints.HOME, np.zeros(3))
    full = mapper(np.array([[0.7, 9.0]]), default)
    expected = default.copy()
    expected[joints.JOINT_INDEX["left_elbow_joint"]] = 0.7
    np.testing.assert_array_equal(full, expected[None])


@given(st.permutations(range(32)), st.integers(0, 2**32 - 1))
def test_any_order_of_the_g1s_own_names_comes_out_in_its_order(order, seed):
    values = np.random.default_rng(seed).normal(size=(3, 32))
    mapper = ActionMapper([G1_NAMES[i] for i in order])
    np.testing.assert_array_equal(mapper(values[:, order]), values)
    assert mapper.report.padded == mapper.report.dropped == ()


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="more than one has \\['left_elbow_joint'\\]"):
        ActionMapper(["left_elbow", "kLeftElbow"])
    with pytest.raises(ValueError, match="Did you mean 'left_elbow_joint'"):
        ActionMapper(["a"], rename={"a": "left_elbow_jont"})
    with pytest.raises(ValueError, match="Unknown source column 'b'"):
        ActionMapper(["a"], rename={"b": None})
    with pytest.raises(ValueError, match="wants 1 columns, got shape \\(2,\\)"):
        ActionMapper(["left_elbow"])(np.zeros(2))

"""Rotations: hand-computed cases, round trips over all of SO(3), and agreement with scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from neon_sim.g1 import geometry

HALF = np.sqrt(0.5)
IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])
QUARTER_LEFT = np.array([HALF, 0.0, 0.0, HALF])  # 90 degrees about z


def quats(count: int | None = None) -> st.SearchStrategy[np.ndarray]:
    """Unit quaternions, w >= 0; those near 180 degrees included, as components may be zero."""
    shape = (4,) if count is None else (count, 4)
    raw = arrays(np.float64, shape, elements=st.floats(-1.0, 1.0, allow_subnormal=False))
    return raw.filter(lambda q: np.all(np.linalg.norm(q, axis=-1) > 1e-3)).map(geometry.normalize_quat)


def assert_same_rotation(a_wxyz: np.ndarray, b_wxyz: np.ndarray, atol: float = 1e-9) -> None:
    dot = np.abs(np.einsum("...i,...i->...", a_wxyz, b_wxyz))
    np.testing.assert_allclose(dot, 1.0, atol=atol)


def test_quarter_turn_left_by_hand():
    np.testing.assert_allclose(geometry.quat_to_matrix(QUARTER_LEFT), [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(geometry.quat_rotate(QUARTER_LEFT, np.array([1.0, 0, 0])), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(geometry.quat_rotate_inverse(QUARTER_LEFT, np.array([0, 1.0, 0])), [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(geometry.quat_to_euler(QUARTER_LEFT), [0, 0, np.pi / 2], atol=1e-12)


def test_euler_is_roll_pitch_yaw_in_zyx_order():
    # Pitch 90 degrees up-turned nose: x goes to -z. Then yaw 90 degrees turns y to -x.
    matrix = geometry.euler_to_matrix(np.array([0.0, 0.3, np.pi / 2]))
    np.testing.assert_allclose(matrix @ [0, 1, 0], [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(matrix @ [1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], atol=1e-12)


def test_gravity_in_body_by_hand():
    np.testing.assert_array_equal(geometry.gravity_in_body(IDENTITY), [0, 0, -1])
    nose_down = geometry.euler_to_quat(np.array([0.0, 0.5, 1.2]))  # yaw must not matter
    np.testing.assert_allclose(geometry.gravity_in_body(nose_down), [np.sin(0.5), 0, -np.cos(0.5)], atol=1e-12)
    on_its_right = geometry.euler_to_quat(np.array([np.pi / 2, 0.0, 0.0]))  # rolled: the left side is up
    np.testing.assert_allclose(geometry.gravity_in_body(on_its_right), [0, -1, 0], atol=1e-12)


def test_rotation_angle_by_hand():
    assert geometry.rotation_angle(IDENTITY, QUARTER_LEFT) == pytest.approx(np.pi / 2)
    assert geometry.rotation_angle(QUARTER_LEFT, -QUARTER_LEFT) == pytest.approx(0.0, abs=1e-12)


def test_zero_quaternion_is_refused():
    with pytest.raises(ValueError, match="non-zero length"):
        geometry.quat_to_matrix(np.zeros(4))


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (0.6, 0, -0.8), (HALF, HALF, 0)])
def test_half_turns_survive_the_matrix(axis):
    quat = np.array([0.0, *axis])
    back = geometry.matrix_to_quat(geometry.quat_to_matrix(quat))
    assert_same_rotation(back, quat, atol=1e-12)


@given(quats())
def test_quat_matrix_round_trip(quat):
    matrix = geometry.quat_to_matrix(quat)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    back = geometry.matrix_to_quat(matrix)
    assert back[0] >= 0.0
    assert_same_rotation(back, quat)


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))
def test_euler_round_trip(roll, pitch, yaw):
    euler = np.array([roll, pitch, yaw])
    np.testing.assert_allclose(geometry.matrix_to_euler(geometry.euler_to_matrix(euler)), euler, atol=1e-9)
    np.testing.assert_allclose(geometry.quat_to_euler(geometry.euler_to_quat(euler)), euler, atol=1e-7)


@given(quats(5), quats(5))
def test_product_is_the_matrix_product_and_batches(left, right):
    product = geometry.quat_multiply(left, right)
    expected = geometry.quat_to_matrix(left) @ geometry.quat_to_matrix(right)
    np.testing.assert_allclose(geometry.quat_to_matrix(product), expected, atol=1e-9)
    np.testing.assert_allclose(product[2], geometry.quat_multiply(left[2], right[2]), atol=1e-15)


@given(quats(), arrays(np.float64, 3, elements=st.floats(-5, 5)))
def test_rotate_there_and_back(quat, vector):
    there = geometry.quat_rotate(quat, vector)
    assert np.linalg.norm(there) == pytest.approx(np.linalg.norm(vector), abs=1e-9)
    np.testing.assert_allclose(geometry.quat_rotate_inverse(quat, there), vector, atol=1e-9)
    np.testing.assert_allclose(geometry.quat_rotate(geometry.quat_conjugate(quat), there), vector, atol=1e-9)
    np.testing.assert_allclose(
        geometry.gravity_in_body(quat), geometry.quat_rotate_inverse(quat, np.array([0.0, 0, -1])), atol=1e-12
    )


def test_agrees_with_scipy_on_batches_of_any_shape():
    rng = np.random.default_rng(3)
    ours = geometry.normalize_quat(rng.normal(size=(4, 6, 4)))
    flat = Rotation.from_quat(ours.reshape(-1, 4)[:, [1, 2, 3, 0]])
    np.testing.assert_allclose(geometry.quat_to_matrix(ours).reshape(-1, 3, 3), flat.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(geometry.matrix_to_quat(geometry.quat_to_matrix(ours)), ours, atol=1e-12)
    np.testing.assert_allclose(geometry.quat_to_euler(ours).reshape(-1, 3), flat.as_euler("ZYX")[:, ::-1], atol=1e-9)

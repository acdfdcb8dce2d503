"""One arithmetic for floats and arrays: the way there and back, and that both kinds come to the same."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neon_sim.locomotion import alike

FLOATS = st.floats(-20.0, 20.0, allow_subnormal=False)
MATRICES = arrays(np.float64, (4, 3), elements=FLOATS)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_are_the_way_back_from_numbers(count):
    given_rows = np.random.default_rng(0).normal(size=(count, 7))
    numbers = alike.numbers(given_rows.T)
    assert len(numbers) == 7 and isinstance(numbers[0], float if count == 1 else np.ndarray)
    np.testing.assert_array_equal(alike.rows(numbers, count), given_rows)


def test_numbers_of_one_robot_are_nested_lists_and_of_many_arrays_of_their_own():
    block = np.arange(12.0).reshape(2, 3, 2)
    assert alike.numbers(block[..., :1]) == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]
    np.testing.assert_array_equal(alike.numbers(block)[1][2], [10.0, 11.0])
    assert alike.numbers(block.transpose(1, 0, 2)).flags.c_contiguous


def test_a_float_among_arrays_is_alike_for_all():
    np.testing.assert_array_equal(alike.rows([1.0, np.array([2.0, 3.0])], 2), [[1.0, 2.0], [1.0, 3.0]])


@given(arrays(np.float64, 4, elements=FLOATS))
def test_functions_take_floats_and_arrays_alike(values):
    calls = (
        alike.sin,
        alike.cos,
        alike.exp,
        alike.tanh,
        lambda x: alike.sqrt(abs(x)),
        lambda x: alike.maximum(x, 0.5),
        lambda x: alike.minimum(x, -0.5),
        lambda x: alike.clip(x, -1.0, 2.0),
        lambda x: alike.interp(x, [-3.0, 0.5, 4.0], [1.0, -1.0, 7.0]),
    )
    for call in calls:
        one_by_one = [call(value) for value in values.tolist()]
        assert all(isinstance(value, float) for value in one_by_one)
        np.testing.assert_allclose(call(values), one_by_one, rtol=1e-13, atol=1e-13)


def test_interp_by_hand():
    # Rising by 2 per unit from 1 to 2, falling by 6 per unit from 2 to 2.5; what lies beyond is the end's value.
    places, values = [1.0, 2.0, 2.5], [10.0, 12.0, 9.0]
    expected = {0.0: 10.0, 1.0: 10.0, 1.5: 11.0, 2.0: 12.0, 2.25: 10.5, 2.5: 9.0, 7.0: 9.0}
    assert {x: alike.interp(x, places, values) for x in expected} == expected
    assert math.isnan(alike.interp(math.nan, places, values))


@given(MATRICES, MATRICES)
def test_vectors_against_numpy(left, right):
    one, other = (alike.numbers(each.T) for each in (left, right))
    np.testing.assert_allclose(alike.dot(one, other), np.vecdot(left, right), atol=1e-9)
    np.testing.assert_allclose(alike.rows(alike.cross(one, other), 4), np.cross(left, right), atol=1e-9)
    np.testing.assert_allclose(alike.rows(alike.plus(one, other), 4), left + right, atol=1e-12)
    np.testing.assert_allclose(alike.rows(alike.scaled(one, other[0]), 4), left * right[:, :1], atol=1e-9)
    matrix = tuple(tuple(row) for row in left[:3].tolist())
    np.testing.assert_allclose(alike.turned(matrix, right[3].tolist()), left[:3] @ right[3], atol=1e-9)

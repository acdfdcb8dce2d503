"""Arithmetic that is written once, for one robot and for many: a number is a float, or an array (B,) of B robots.

One numpy operation takes as long as twenty on plain floats, so one robot is worked out in floats, and it is by far the
commonest case: every control step on the robot. Vectors are tuples of three numbers.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

Number = Any  # float, or (B,) array
Vector = tuple[Number, Number, Number]


def numbers(array: np.ndarray) -> Any:
    """The numbers of an array (..., B), robots last: nested lists of floats for one robot, else arrays in its order."""
    return array[..., 0].tolist() if array.shape[-1] == 1 else np.ascontiguousarray(array)


def rows(given: Sequence[Number], count: int) -> np.ndarray:
    """N numbers of `count` robots in an array (B, N), the way back from `numbers`; a float is alike for all."""
    if count == 1:
        return np.array([given])
    columns = np.empty((len(given), count))
    for column, number in zip(columns, given, strict=True):
        column[:] = number
    return columns.T


def sin(x: Number) -> Number:
    """Sine of rad."""
    return math.sin(x) if isinstance(x, float) else np.sin(x)


def cos(x: Number) -> Number:
    """Cosine of rad."""
    return math.cos(x) if isinstance(x, float) else np.cos(x)


def exp(x: Number) -> Number:
    """e to the power of x."""
    return math.exp(x) if isinstance(x, float) else np.exp(x)


def tanh(x: Number) -> Number:
    """Hyperbolic tangent."""
    return math.tanh(x) if isinstance(x, float) else np.tanh(x)


def sqrt(x: Number) -> Number:
    """Square root."""
    return math.sqrt(x) if isinstance(x, float) else np.sqrt(x)


def maximum(a: Number, b: Number) -> Number:
    """The larger of two."""
    return max(a, b) if isinstance(a, float) else np.maximum(a, b)


def minimum(a: Number, b: Number) -> Number:
    """The smaller of two."""
    return min(a, b) if isinstance(a, float) else np.minimum(a, b)


def clip(x: Number, low: float, high: float) -> Number:
    """x, not below `low` and not above `high`."""
    return min(max(x, low), high) if isinstance(x, float) else x.clip(low, high)


def interp(x: Number, places: Sequence[float], values: Sequence[float]) -> Number:
    """`np.interp`: linear between `values` at the rising `places`, the first or last value beyond them."""
    if not isinstance(x, float):
        return np.interp(x, places, values)
    right = bisect_right(places, x)
    if right == 0:
        return values[0]
    if right == len(places):
        return values[-1] if x >= places[-1] else x  # NaN stays what it is
    left = right - 1
    return (values[right] - values[left]) / (places[right] - places[left]) * (x - places[left]) + values[left]


def dot(a: Vector, b: Vector) -> Number:
    """Inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    """Cross product."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def plus(a: Vector, b: Vector) -> Vector:
    """Sum."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def scaled(vector: Vector, factor: Number) -> Vector:
    """The vector times a number."""
    return vector[0] * factor, vector[1] * factor, vector[2] * factor


def turned(matrix: tuple[Vector, Vector, Vector], vector: Vector) -> Vector:
    """A matrix, given by its rows, times a vector."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    x, y, z = vector
    return a * x + b * y + c * z, d * x + e * y + f * z, g * x + h * y + i * z

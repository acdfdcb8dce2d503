"""Rotations in three dimensions: matrices, quaternions (w, x, y, z), ZYX Euler angles. All take leading axes.

Quaternions that come out are of unit length with w >= 0, so that equal rotations print equal numbers.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

# 4 q q^T = _OUTER @ vec(R) + _OUTER_BIAS: ten products of two quaternion components, each linear in the matrix.
_OUTER = np.zeros((4, 4, 3, 3))
_OUTER_BIAS = np.eye(4)
for _i, _signs in enumerate(((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))):
    _OUTER[_i, _i] = np.diag(_signs)
for _i, _j, _k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    # R[k, j] - R[j, k] = 4 w q_i and R[i, j] + R[j, i] = 4 q_i q_j for cyclic (i, j, k)
    _OUTER[0, _i + 1, _k, _j] = _OUTER[_i + 1, 0, _k, _j] = 1.0
    _OUTER[0, _i + 1, _j, _k] = _OUTER[_i + 1, 0, _j, _k] = -1.0
    _OUTER[_i + 1, _j + 1, _i, _j] = _OUTER[_i + 1, _j + 1, _j, _i] = 1.0
    _OUTER[_j + 1, _i + 1, _i, _j] = _OUTER[_j + 1, _i + 1, _j, _i] = 1.0
_OUTER_FLAT = _OUTER.reshape(16, 9).T.copy()
_DIAGONAL = np.arange(4)
# Up to so many matrices plain floats are faster than numpy: the control loop turns two palms 50 times a second.
_FEW = 3


def normalize_quat(quat_wxyz: np.ndarray) -> np.ndarray:
    """Scale (..., 4) to unit length and choose the sign with w >= 0. Raises ValueError on a zero quaternion."""
    quat_wxyz = np.asarray(quat_wxyz, dtype=np.float64)
    length = np.sqrt(np.einsum("...i,...i->...", quat_wxyz, quat_wxyz))[..., None]
    if np.any(length < 1e-12):
        raise ValueError(
            "A rotation needs a quaternion of non-zero length, got zeros; pass (1, 0, 0, 0) for no rotation."
        )
    return quat_wxyz / np.where(quat_wxyz[..., :1] < 0.0, -length, length)


def matrix_to_quat(matrix: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) -> quat_wxyz (..., 4).

    Reads the row of 4 q q^T with the largest diagonal entry, so it is accurate at every angle, 180 degrees included.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.size <= 9 * _FEW:
        few = [entries_to_quat(*entries) for entries in matrix.reshape(-1, 9).tolist()]
        return np.array(few).reshape(*matrix.shape[:-2], 4)
    outer = (matrix.reshape(-1, 9) @ _OUTER_FLAT).reshape(-1, 4, 4) + _OUTER_BIAS
    quat = outer[np.arange(len(outer)), outer[:, _DIAGONAL, _DIAGONAL].argmax(axis=1)]
    length = np.sqrt(np.einsum("ni,ni->n", quat, quat))
    return (quat / np.where(quat[:, 0] < 0.0, -length, length)[:, None]).reshape(*matrix.shape[:-2], 4)


def entries_to_quat(
    xx: float, xy: float, xz: float, yx: float, yy: float, yz: float, zx: float, zy: float, zz: float
) -> tuple[float, float, float, float]:
    """`matrix_to_quat` of one matrix in plain floats: its entries row by row -> w, x, y, z."""
    diagonal = (1.0 + xx + yy + zz, 1.0 + xx - yy - zz, 1.0 - xx + yy - zz, 1.0 - xx - yy + zz)
    largest = max(diagonal)
    if largest == diagonal[0]:
        w, x, y, z = largest, zy - yz, xz - zx, yx - xy
    elif largest == diagonal[1]:
        w, x, y, z = zy - yz, largest, xy + yx, zx + xz
    elif largest == diagonal[2]:
        w, x, y, z = xz - zx, xy + yx, largest, yz + zy
    else:
        w, x, y, z = yx - xy, zx + xz, yz + zy, largest
    length = math.sqrt((w * w + y * y) + (x * x + z * z))
    if w < 0.0:
        length = -length
    return w / length, x / length, y / length, z / length


def quat_to_matrix(quat_wxyz: np.ndarray) -> np.ndarray:
    """quat_wxyz (..., 4), any non-zero length -> rotation matrices (..., 3, 3)."""
    if np.ndim(quat_wxyz) == 1:
        return np.array(_matrix_rows(*_unit(*np.asarray(quat_wxyz, dtype=np.float64).tolist())))
    rows = _matrix_rows(*np.moveaxis(normalize_quat(quat_wxyz), -1, 0))
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _unit(w: float, x: float, y: float, z: float) -> tuple[float, float, float, float]:
    """`normalize_quat` of one quaternion, but for the sign, which its matrix does not show."""
    length = math.sqrt((w * w + y * y) + (x * x + z * z))
    if length < 1e-12:
        normalize_quat(np.array((w, x, y, z)))  # says what is wrong
    return w / length, x / length, y / length, z / length


def _matrix_rows(w: Any, x: Any, y: Any, z: Any) -> tuple[tuple[Any, Any, Any], ...]:
    """Rows of the rotation matrix of unit quaternions given by component: floats or arrays alike."""
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


def matrix_to_euler(matrix: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) -> roll, pitch, yaw (..., 3) rad, ZYX (paper eq. 15-17).

    At pitch +-90 degrees roll and yaw are not unique; the pair returned need not rebuild the matrix there.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    roll = np.arctan2(matrix[..., 2, 1], matrix[..., 2, 2])
    pitch = np.arctan2(-matrix[..., 2, 0], np.hypot(matrix[..., 0, 0], matrix[..., 1, 0]))
    yaw = np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return np.stack([roll, pitch, yaw], axis=-1)


def euler_to_matrix(euler: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (..., 3) rad -> R = Rz(yaw) Ry(pitch) Rx(roll) (..., 3, 3), the inverse of `matrix_to_euler`."""
    euler = np.asarray(euler, dtype=np.float64)
    (sr, sp, sy), (cr, cp, cy) = np.moveaxis(np.sin(euler), -1, 0), np.moveaxis(np.cos(euler), -1, 0)
    rows = (
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quat_to_euler(quat_wxyz: np.ndarray) -> np.ndarray:
    """quat_wxyz (..., 4) -> roll, pitch, yaw (..., 3) rad, ZYX."""
    return matrix_to_euler(quat_to_matrix(quat_wxyz))


def euler_to_quat(euler: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (..., 3) rad, ZYX -> quat_wxyz (..., 4)."""
    return matrix_to_quat(euler_to_matrix(euler))


def quat_conjugate(quat_wxyz: np.ndarray) -> np.ndarray:
    """The inverse rotation of unit quaternions (..., 4)."""
    return np.asarray(quat_wxyz, dtype=np.float64) * np.array([1.0, -1.0, -1.0, -1.0])


def quat_multiply(left_wxyz: np.ndarray, right_wxyz: np.ndarray) -> np.ndarray:
    """Hamilton product (..., 4): turns by `right_wxyz` first, then by `left_wxyz`. The sign is left as it falls."""
    a, b, c, d = np.moveaxis(np.asarray(left_wxyz, dtype=np.float64), -1, 0)
    e, f, g, h = np.moveaxis(np.asarray(right_wxyz, dtype=np.float64), -1, 0)
    return np.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        axis=-1,
    )


def quat_rotate(quat_wxyz: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Turn vectors (..., 3) by quaternions (..., 4) of any non-zero length; leading axes broadcast."""
    return np.einsum("...ij,...j->...i", quat_to_matrix(quat_wxyz), np.asarray(vector, dtype=np.float64))


def quat_rotate_inverse(quat_wxyz: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Turn vectors (..., 3) by the inverse of quaternions (..., 4): world to body if those are body to world."""
    return np.einsum("...ji,...j->...i", quat_to_matrix(quat_wxyz), np.asarray(vector, dtype=np.float64))


def points_in_frame(
    points_w: Iterable[tuple[float, float, float]], origin_w: np.ndarray, quat_wxyz: np.ndarray
) -> list[np.ndarray]:
    """Points of the world, a few (x, y, z) m, in a frame with origin (3,) m and orientation (4,): (3,) m each.

    In plain floats, which are faster than numpy on a handful of points.
    """
    x0, y0, z0 = origin_w.tolist()
    (a, b, c), (d, e, f), (g, h, i) = _matrix_rows(*_unit(*quat_wxyz.tolist()))
    points = []
    for x_w, y_w, z_w in points_w:
        x, y, z = x_w - x0, y_w - y0, z_w - z0
        points.append(np.array((a * x + d * y + g * z, b * x + e * y + h * z, c * x + f * y + i * z)))
    return points


def gravity_in_body(quat_wxyz: np.ndarray) -> np.ndarray:
    """Direction of gravity (..., 3) in a body with unit orientation quat_wxyz (..., 4); (0, 0, -1) when upright."""
    if quat_wxyz.ndim == 1:  # in the control loop: plain floats take a fifth of the time
        w, x, y, z = quat_wxyz.tolist()
        return np.array((2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1))
    w, x, y, z = quat_wxyz[..., 0], quat_wxyz[..., 1], quat_wxyz[..., 2], quat_wxyz[..., 3]
    return np.stack([2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1], axis=-1)


def rotation_angle(quat_a_wxyz: np.ndarray, quat_b_wxyz: np.ndarray) -> np.ndarray:
    """Angle (...) in rad, 0 to pi, of the rotation between two orientations (..., 4)."""
    between = normalize_quat(quat_multiply(quat_conjugate(quat_a_wxyz), quat_b_wxyz))
    return 2.0 * np.arctan2(np.linalg.norm(between[..., 1:], axis=-1), between[..., 0])

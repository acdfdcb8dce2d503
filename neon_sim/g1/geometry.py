"""Rotations in three dimensions: matrices, quaternions (w, x, y, z), ZYX Euler angles. All take leading axes.

Quaternions that come out are of unit length with w >= 0, so that equal rotations print equal numbers.
"""

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
    outer = (matrix.reshape(-1, 9) @ _OUTER_FLAT).reshape(-1, 4, 4) + _OUTER_BIAS
    quat = outer[np.arange(len(outer)), outer[:, _DIAGONAL, _DIAGONAL].argmax(axis=1)]
    length = np.sqrt(np.einsum("ni,ni->n", quat, quat))
    return (quat / np.where(quat[:, 0] < 0.0, -length, length)[:, None]).reshape(*matrix.shape[:-2], 4)


def quat_to_matrix(quat_wxyz: np.ndarray) -> np.ndarray:
    """quat_wxyz (..., 4), any non-zero length -> rotation matrices (..., 3, 3)."""
    w, x, y, z = np.moveaxis(normalize_quat(quat_wxyz), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


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


def gravity_in_body(quat_wxyz: np.ndarray) -> np.ndarray:
    """Direction of gravity (..., 3) in a body with unit orientation quat_wxyz (..., 4); (0, 0, -1) when upright."""
    w, x, y, z = quat_wxyz[..., 0], quat_wxyz[..., 1], quat_wxyz[..., 2], quat_wxyz[..., 3]
    return np.stack([2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1], axis=-1)


def rotation_angle(quat_a_wxyz: np.ndarray, quat_b_wxyz: np.ndarray) -> np.ndarray:
    """Angle (...) in rad, 0 to pi, of the rotation between two orientations (..., 4)."""
    between = normalize_quat(quat_multiply(quat_conjugate(quat_a_wxyz), quat_b_wxyz))
    return 2.0 * np.arctan2(np.linalg.norm(between[..., 1:], axis=-1), between[..., 0])

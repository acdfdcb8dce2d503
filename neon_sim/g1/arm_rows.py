"""Arms of many robots in one go: `kinematics.gravity_torque` and `inverse_palm` on rows; a test holds them to those."""

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import (
    _ARM_STARTS,
    _AXIS,
    _AXIS_ENTRIES,
    _CARRIED_MASS,
    _DAMPING,
    _HAND_SIGNS,
    _MASS_MOMENT,
    _MAX_STEP,
    _MEAN,
    _ORIGIN_ENTRIES,
    _PALM,
    _WAIST_DEPTH,
    ARM_JOINTS,
    GRAVITY,
    _cross,
    limb_poses,
)

_ARMS = joints.GROUPS["arms"]


def gravity_torque_rows(joint_pos: np.ndarray, gravity_b: np.ndarray) -> np.ndarray:
    """`gravity_torque` (N, 14) N m of many postures (N, 29) rad, each with its own gravity (N, 3)."""
    poses = np.moveaxis(limb_poses(joint_pos), 0, 1)
    axis, origin = (poses.reshape(len(poses), -1)[:, entries[_ARMS]] for entries in (_AXIS_ENTRIES, _ORIGIN_ENTRIES))
    moments = (poses @ _MASS_MOMENT[..., None]).reshape(len(poses), -1, 4)
    lever = (_MEAN[:29][_ARMS] @ moments)[..., :3] - origin
    down_b = gravity_b / np.linalg.norm(gravity_b, axis=-1, keepdims=True)
    return ((_CARRIED_MASS[_ARMS] * _cross(axis, lever)) @ (-GRAVITY * down_b)[..., None])[..., 0]


def inverse_palm_rows(
    hand: int,
    pos_b: np.ndarray,
    posture: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    tolerance: float = 0.001,
    max_steps: int = 60,
) -> np.ndarray:
    """`inverse_palm` from the home pose for many points (N, 3) m: arm joints (N, 7) rad, NaN where it finds none."""
    chain, (low, high) = ARM_JOINTS[hand], limits
    found, left = np.full((len(pos_b), 7), np.nan), np.arange(len(pos_b))
    for start in (joints.HOME[chain], *(_ARM_STARTS * _HAND_SIGNS[hand])):
        joint_pos = np.tile(joints.HOME, (len(left), 1))
        joint_pos[:, chain] = np.clip(start, low, high)
        for count in range(max_steps):
            poses = limb_poses(joint_pos, first=2)[:, :, hand]
            error = pos_b[left] - (poses[-1] @ _PALM)[:, :3]
            far = np.linalg.norm(error, axis=1) > tolerance
            found[left[~far]] = joint_pos[np.ix_(~far, np.r_[chain])]
            left, joint_pos, poses, error = left[far], joint_pos[far], poses[:, far], error[far]
            if not len(left):
                return found
            arm = joint_pos[:, chain]
            pull = 0.1 * 0.9**count * (posture - arm)
            joint_pos[:, chain] = _palm_steps(arm, _palm_jacobians(poses), error, pull, limits)
    return found


def _palm_jacobians(poses: np.ndarray) -> np.ndarray:
    """How palms move with their arms, (R, 3, 7) m/rad, from one hand's link poses (10, R, 4, 4)."""
    arm = poses[_WAIST_DEPTH:]
    axis = arm[np.arange(7), :, :3, _AXIS[_WAIST_DEPTH:, 2]]
    lever = (poses[-1] @ _PALM)[:, :3] - arm[..., :3, 3]
    return _cross(axis, lever).transpose(1, 2, 0)


def _palm_steps(
    arm: np.ndarray, jacobian: np.ndarray, error: np.ndarray, pull: np.ndarray, limits: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """`kinematics._palm_step` of R arms (R, 7)."""
    free, target = np.ones_like(arm), arm
    for _ in range(3):
        held, rest = jacobian * free[:, None], pull * free
        square = held @ held.swapaxes(1, 2) + _DAMPING**2 * np.eye(3)
        missing = error - (held @ rest[..., None])[..., 0]
        step = (held.swapaxes(1, 2) @ np.linalg.solve(square, missing[..., None]))[..., 0] + rest
        step *= np.minimum(1.0, _MAX_STEP / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-9))
        target = np.clip(arm + step, *limits)
        out = arm + step != target
        if not out.any():
            break
        free = free * ~out
    return target

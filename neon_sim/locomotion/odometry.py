"""Leg odometry: how fast the pelvis moves and how high it is, from encoders and IMU, by the foot that stands.

A foot on the floor does not move, so the pelvis moves as the leg's joints say. Which foot stands is a matter of height:
the lower one, weighted softly. Everything is batched over B robots; one robot is B = 1.

The level frame has its origin in the pelvis, z up along gravity and x along the pelvis' heading.
"""

from typing import Final, NamedTuple

import numpy as np

from neon_sim.g1.kinematics import centers_of_mass

SOLE_HALF_LENGTH: Final = 0.085  # m, from the sole's centre to its front and rear contact points
SOLE_HALF_WIDTH: Final = 0.028
CONTACT_GAP: Final = 0.01  # m; a foot that hangs lower than this above the lowest one counts as standing
_HALF_SOLE: Final = np.array([SOLE_HALF_LENGTH, SOLE_HALF_WIDTH])
_EDGE_SOFTNESS: Final = 0.04  # sine of the foot's tilt over which its lowest point moves from the middle to an edge
_GAP_SOFTNESS: Final = 0.006  # m, height difference over which one foot takes over from the other

_LEG_DEPTH: Final = 3  # where the legs begin in `kinematics.limb_poses`
_ROWS: Final = np.arange(6)
_AXES: Final = np.array([1, 0, 2, 1, 1, 0])  # hip pitch, roll, yaw, knee, ankle pitch, roll turn about y, x, z, y, y, x
_NEXT, _AFTER = np.array([1, 2, 0]), np.array([2, 0, 1])


class Odometry(NamedTuple):
    """What the stance tells, in the level frame; foot 0 is the left one."""

    level: np.ndarray  # (B, 3, 3) pelvis frame -> level frame
    velocity: np.ndarray  # (B, 3) m/s of the pelvis over the floor, not filtered
    height: np.ndarray  # (B,) m, pelvis above the lowest sole point
    gap: np.ndarray  # (B, 2) m, lowest point of each foot above the lower of the two
    foot_pos: np.ndarray  # (B, 2, 3) m, sole centres
    foot_vel: np.ndarray  # (B, 2, 3) m/s of the soles' lowest points over the floor
    com: np.ndarray  # (B, 3) m, whole-body centre of mass with the nominal masses

    @property
    def contact(self) -> np.ndarray:
        """(B, 2) bool: which feet stand."""
        return self.gap < CONTACT_GAP


def leg_odometry(poses: np.ndarray, joint_vel: np.ndarray, gyro: np.ndarray, gravity_b: np.ndarray) -> Odometry:
    """Read the stance.

    Args:
        poses: (10, B, 4, 4, 4) `kinematics.limb_poses` of the joint angles.
        joint_vel: (B, 29) rad/s.
        gyro: (B, 3) rad/s, pelvis frame.
        gravity_b: (B, 3) unit vector of gravity in the pelvis frame.
    """
    up = -gravity_b
    level = level_frame(up)
    legs, soles = poses[_LEG_DEPTH:-1, :, :2], poses[-1, :, :2]
    centre, rotation = soles[..., :3, 3], soles[..., :3, :2]
    tilt = up[:, None, None, :] @ rotation  # (B, 2, 1, 2): how far the sole's x and y axes point upward
    edge = np.tanh(tilt * (1.0 / _EDGE_SOFTNESS)) * _HALF_SOLE
    lowest = centre - (rotation * edge).sum(axis=-1)  # (B, 2, 3)
    depth = (lowest @ up[:, :, None])[..., 0]
    least = depth.min(axis=1)
    gap = depth - least[:, None]

    spin = legs[_ROWS, ..., :3, _AXES]  # (6, B, 2, 3) rad/s that each joint turns what hangs on it
    spin *= joint_vel[:, :12].reshape(-1, 2, 6).transpose(2, 0, 1)[..., None]
    swept = _cross(spin, lowest - legs[..., :3, 3]).sum(axis=0)
    swept += _cross(gyro[:, None, :], lowest)
    weight = np.exp(gap * (-1.0 / _GAP_SOFTNESS))
    weight /= weight.sum(axis=1, keepdims=True)
    to_level = level.transpose(0, 2, 1)
    moved = swept @ to_level  # (B, 2, 3)
    velocity = -(weight[:, None, :] @ moved)[:, 0]
    return Odometry(
        level=level,
        velocity=velocity,
        height=-least,
        gap=gap,
        foot_pos=centre @ to_level,
        foot_vel=moved + velocity[:, None, :],
        com=(level @ centers_of_mass(poses)[..., None])[..., 0],
    )


def level_frame(up_b: np.ndarray) -> np.ndarray:
    """(B, 3, 3) rows forward, left, up in the pelvis frame, from the upward unit vectors (B, 3) there."""
    level = np.empty((len(up_b), 3, 3))
    forward = -up_b[:, :1] * up_b
    forward[:, 0] += 1.0
    forward /= np.maximum(np.sqrt(np.square(forward).sum(axis=1, keepdims=True)), 1e-6)
    level[:, 0], level[:, 2] = forward, up_b
    level[:, 1] = _cross(up_b, forward)
    return level


def _cross(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left.take(_NEXT, -1) * right.take(_AFTER, -1) - left.take(_AFTER, -1) * right.take(_NEXT, -1)



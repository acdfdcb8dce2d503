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

_PELVIS_DEPTH: Final = 2  # the last place in `kinematics.limb_poses` before the legs begin: still the pelvis itself
_AXES: Final = (1, 0, 2, 1, 1, 0)  # hip pitch, roll, yaw, knee, ankle pitch, roll turn about y, x, z, y, y, x


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
    to_level = level.transpose(0, 2, 1)
    centre, rotation = poses[-1, :, :2, :3, 3], poses[-1, :, :2, :3, :2]
    tilt = up[:, None, None, :] @ rotation  # (B, 2, 1, 2): how far the sole's x and y axes point upward
    edge = np.tanh(tilt * (1.0 / _EDGE_SOFTNESS)) * _HALF_SOLE
    lowest = centre - (rotation * edge).sum(axis=-1)  # (B, 2, 3)
    depth = np.vecdot(lowest, up[:, None, :])
    least = np.minimum(depth[:, 0], depth[:, 1])
    gap = depth - least[:, None]

    moved = _swept(poses, joint_vel, gyro, lowest) @ to_level
    weight = np.exp(gap * (-1.0 / _GAP_SOFTNESS))
    weight /= weight[:, :1] + weight[:, 1:]
    velocity = -(weight[:, None, :] @ moved)[:, 0]
    return Odometry(
        level=level,
        velocity=velocity,
        height=-least,
        gap=gap,
        foot_pos=centre @ to_level,
        foot_vel=moved + velocity[:, None, :],
        com=np.vecdot(level, centers_of_mass(poses)[:, None, :]),
    )


def _swept(poses: np.ndarray, joint_vel: np.ndarray, gyro: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Velocity (B, 2, 3) m/s, in pelvis axes, of a point on each foot (B, 2, 3) m while the pelvis only turns.

    The pelvis and the six joints of a leg add their spin x lever each. A sum of cross products is what is not symmetric
    in the sum of the outer products, and that is one matrix product.
    """
    count = len(gyro)
    entries = poses.swapaxes(0, 1).reshape(count, -1)
    spin = entries.take(_AXIS_ENTRIES, axis=1)  # (B, 2, 7, 3)
    spin[:, :, 0] = gyro[:, None, :]
    spin[:, :, 1:] *= joint_vel[:, :12].reshape(count, 2, 6, 1)
    lever = points[:, :, None, :] - entries.take(_ORIGIN_ENTRIES, axis=1)
    return (spin.swapaxes(2, 3) @ lever).reshape(count, 2, 9) @ _NOT_SYMMETRIC


def level_frame(up_b: np.ndarray) -> np.ndarray:
    """(B, 3, 3) rows forward, left, up in the pelvis frame, from the upward unit vectors (B, 3) there."""
    level = np.zeros((len(up_b), 3, 3))
    forward, left, up = level[:, 0], level[:, 1], level[:, 2]
    up[:] = up_b
    forward[:, 0] = 1.0
    forward -= up_b[:, :1] * up_b  # (1, 0, 0) without what of it points up
    left[:, 1], left[:, 2] = up_b[:, 2], -up_b[:, 1]  # up x forward, which is up x (1, 0, 0)
    level[:, :2] /= np.maximum(np.sqrt(np.vecdot(forward, forward)), 1e-6)[:, None, None]
    return level


def _entries() -> tuple[np.ndarray, np.ndarray]:
    """Where a row of 640, one robot's `limb_poses`, holds each leg's axes and origins: (2, 7, 3), pelvis first."""
    row = np.arange(10 * 4 * 16).reshape(10, 4, 4, 4)[_PELVIS_DEPTH:-1, :2, :3].swapaxes(0, 1)
    return np.stack([row[:, joint, :, axis] for joint, axis in enumerate((0, *_AXES))], axis=1), row[..., 3]


_AXIS_ENTRIES, _ORIGIN_ENTRIES = _entries()
# (9, 3): from the entries of a matrix m to m[1, 2] - m[2, 1], m[2, 0] - m[0, 2], m[0, 1] - m[1, 0].
_NOT_SYMMETRIC: Final = np.cross(np.eye(3)[:, None], np.eye(3)[None]).reshape(9, 3)

"""Leg odometry: how fast the pelvis moves and how high it is, from encoders and IMU, by the foot that stands.

A foot on the floor does not move, so the pelvis moves as the leg's joints say. Which foot stands is a matter of height:
the lower one, weighted softly. For one robot or many: see `alike`.

The level frame has its origin in the pelvis, z up along gravity and x along the pelvis' heading.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from neon_sim.g1.kinematics import centers_of_mass
from neon_sim.locomotion.alike import (
    Number,
    Vector,
    cross,
    dot,
    exp,
    maximum,
    minimum,
    numbers,
    plus,
    rows,
    scaled,
    sqrt,
    tanh,
    turned,
)

SOLE_HALF_LENGTH: Final = 0.085  # m, from the sole's centre to its front and rear contact points
SOLE_HALF_WIDTH: Final = 0.028
CONTACT_GAP: Final = 0.01  # m; a foot that hangs lower than this above the lowest one counts as standing
_EDGE_SOFTNESS: Final = 0.04  # sine of the foot's tilt over which its lowest point moves from the middle to an edge
_GAP_SOFTNESS: Final = 0.006  # m, height difference over which one foot takes over from the other

_HIP_DEPTH: Final = 3  # where in `kinematics.limb_poses` the legs' six joints begin; the sole follows them
_AXES: Final = (1, 0, 2, 1, 1, 0)  # hip pitch, roll, yaw, knee, ankle pitch, roll turn about y, x, z, y, y, x


class Odometry(NamedTuple):
    """What the stance tells, in the level frame; foot 0 is the left one."""

    axes: tuple[Vector, Vector, Vector]  # forward, left and up in the pelvis frame
    velocity: Vector  # m/s of the pelvis over the floor, not filtered
    height: Number  # m, pelvis above the lowest sole point
    gap: tuple[Number, Number]  # m, lowest point of each foot above the lower of the two
    foot_pos: tuple[Vector, Vector]  # m, sole centres
    foot_vel: tuple[Vector, Vector]  # m/s of the soles' lowest points over the floor
    com: Vector  # m, whole-body centre of mass with the nominal masses

    @property
    def contact(self) -> tuple[Number, Number]:
        """Which feet stand."""
        return self.gap[0] < CONTACT_GAP, self.gap[1] < CONTACT_GAP

    @property
    def level(self) -> np.ndarray:
        """(B, 3, 3) pelvis frame -> level frame."""
        entries = [entry for axis in self.axes for entry in axis]
        return rows(entries, np.size(self.height)).reshape(-1, 3, 3)


def leg_odometry(poses: np.ndarray, joint_vel: np.ndarray, gyro: np.ndarray, gravity_b: np.ndarray) -> Odometry:
    """Read the stance.

    Args:
        poses: (10, B, 4, 4, 4) `kinematics.limb_poses` of the joint angles.
        joint_vel: (B, 29) rad/s.
        gyro: (B, 3) rad/s, pelvis frame.
        gravity_b: (B, 3) unit vector of gravity in the pelvis frame.
    """
    x, y, z = numbers(gravity_b.T)
    up = (-x, -y, -z)
    axes = level_axes(up)
    left, right = numbers(poses[_HIP_DEPTH:, :, :2, :3].transpose(2, 0, 3, 4, 1))  # joint or sole, row, column
    speeds, turn = numbers(joint_vel[:, :12].T), numbers(gyro.T)
    left_centre, left_lowest = _sole(left[-1], up)
    right_centre, right_lowest = _sole(right[-1], up)
    left_depth, right_depth = dot(left_lowest, up), dot(right_lowest, up)
    least = minimum(left_depth, right_depth)
    left_gap, right_gap = left_depth - least, right_depth - least

    left_moved = turned(axes, _swept(left, speeds[:6], left_lowest, turn))
    right_moved = turned(axes, _swept(right, speeds[6:], right_lowest, turn))
    left_weight, right_weight = exp(left_gap * (-1.0 / _GAP_SOFTNESS)), exp(right_gap * (-1.0 / _GAP_SOFTNESS))
    share = left_weight / (left_weight + right_weight)
    velocity = scaled(plus(scaled(left_moved, share), scaled(right_moved, 1.0 - share)), -1.0)
    return Odometry(
        axes=axes,
        velocity=velocity,
        height=-least,
        gap=(left_gap, right_gap),
        foot_pos=(turned(axes, left_centre), turned(axes, right_centre)),
        foot_vel=(plus(left_moved, velocity), plus(right_moved, velocity)),
        com=turned(axes, numbers(centers_of_mass(poses).T)),
    )


def _sole(pose: Any, up: Vector) -> tuple[Vector, Vector]:
    """Centre of a sole and the point of it that is nearest to the floor, m, from the rows of its pose."""
    (xx, xy, _, x), (yx, yy, _, y), (zx, zy, _, z) = pose
    ahead = SOLE_HALF_LENGTH * tanh((xx * up[0] + yx * up[1] + zx * up[2]) * (1.0 / _EDGE_SOFTNESS))
    aside = SOLE_HALF_WIDTH * tanh((xy * up[0] + yy * up[1] + zy * up[2]) * (1.0 / _EDGE_SOFTNESS))
    lowest = (x - xx * ahead - xy * aside, y - yx * ahead - yy * aside, z - zx * ahead - zy * aside)
    return (x, y, z), lowest


def _swept(leg: Any, speeds: Any, point: Vector, turn: Vector) -> Vector:
    """Velocity m/s, in pelvis axes, of a point of the foot while the pelvis only turns.

    Each joint adds spin x (point - origin): the spins are summed, and so are the spins x origins.
    """
    (wx, wy, wz), vx, vy, vz = turn, 0.0, 0.0, 0.0
    for (row_x, row_y, row_z), axis, speed in zip(leg[:-1], _AXES, speeds, strict=True):
        ax, ay, az = speed * row_x[axis], speed * row_y[axis], speed * row_z[axis]
        x, y, z = row_x[3], row_y[3], row_z[3]
        wx, wy, wz = wx + ax, wy + ay, wz + az
        vx, vy, vz = vx + (ay * z - az * y), vy + (az * x - ax * z), vz + (ax * y - ay * x)
    px, py, pz = cross((wx, wy, wz), point)
    return px - vx, py - vy, pz - vz


def level_axes(up_b: Vector) -> tuple[Vector, Vector, Vector]:
    """Forward, left and up as unit vectors in the pelvis frame, from the upward one there."""
    ux, uy, uz = up_b
    # (1, 0, 0) without what of it points up; left is up x that, which is up x (1, 0, 0).
    forward = (1.0 - ux * ux, -ux * uy, -ux * uz)
    scale = 1.0 / maximum(sqrt(dot(forward, forward)), 1e-6)
    return scaled(forward, scale), (0.0, uz * scale, -uy * scale), up_b

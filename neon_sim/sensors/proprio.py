"""Proprioception and end effectors: what joint encoders, motors and the pelvis IMU say, as flat vectors."""

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import palms_of
from neon_sim.robot import RobotState

PROPRIO_DIM = 4 * joints.NUM_JOINTS + 9
EEF_DIM = 14

# Where each part lies in the proprio vector.
PROPRIO_SLICES: dict[str, slice] = {
    "joint_pos": slice(0, 29),
    "joint_vel": slice(29, 58),
    "joint_torque": slice(58, 87),
    "tracking_error": slice(87, 116),
    "gyro": slice(116, 119),
    "gravity": slice(119, 122),
    "velocity_command": slice(122, 125),
}
# Largest value of each part that is passed on: rad, rad/s, N m, rad, rad/s, unit, m/s and rad/s.
_PART_LIMITS = {
    "joint_pos": np.pi,
    "joint_vel": 40.0,
    "joint_torque": 140.0,
    "tracking_error": np.pi,
    "gyro": 40.0,
    "gravity": 1.0,
    "velocity_command": 2.0,
}
PROPRIO_LIMIT = np.concatenate(
    [np.full(part.stop - part.start, _PART_LIMITS[name], np.float32) for name, part in PROPRIO_SLICES.items()]
)
_PROPRIO_LOW = -PROPRIO_LIMIT
EEF_LIMIT = np.tile(np.array([2.0] * 3 + [1.0] * 4, np.float32), 2)


def proprio_vector(state: RobotState, velocity_command: np.ndarray) -> np.ndarray:
    """Assemble (125,) float32: q, dq, tau, last target - q (29 each), gyro, gravity, velocity command (3 each)."""
    vector = np.concatenate(
        (
            state.joint_pos,
            state.joint_vel,
            state.joint_torque,
            state.joint_target - state.joint_pos,
            state.gyro,
            state.gravity_b,
            velocity_command,
        ),
        dtype=np.float32,
        casting="same_kind",
    )
    np.maximum(vector, _PROPRIO_LOW, out=vector)
    return np.minimum(vector, PROPRIO_LIMIT, out=vector)


def eef_vector(state: RobotState) -> np.ndarray:
    """Both palms in the pelvis frame, by kinematics: left pos 3, quat_wxyz 4, right pos 3, quat 4 -> (14,) float32."""
    return np.array(palms_of(state.limb_poses), np.float32)

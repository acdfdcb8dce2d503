"""Proprioception and end effectors of many robots in one go: `sensors.proprio` on rows."""

import numpy as np

from neon_sim.g1.geometry import matrix_to_quat
from neon_sim.g1.links import PALM_OFFSET
from neon_sim.sensors.proprio import EEF_DIM, PROPRIO_DIM, PROPRIO_LIMIT
from neon_sim.vector_env.walker import SensedRows

_PALM = np.array([*PALM_OFFSET, 1.0])


def proprio_rows(sensed: SensedRows, velocity: np.ndarray) -> np.ndarray:
    """(N, 125) float32 as `sensors.proprio.proprio_vector`, from what is sensed and the velocity command (N, 3)."""
    rows = np.concatenate(
        (
            sensed.joint_pos,
            sensed.joint_vel,
            sensed.joint_torque,
            sensed.joint_target - sensed.joint_pos,
            sensed.gyro,
            sensed.gravity_b,
            velocity,
        ),
        axis=1,
        dtype=np.float32,
        casting="same_kind",
    )
    assert rows.shape[1] == PROPRIO_DIM
    np.maximum(rows, -PROPRIO_LIMIT, out=rows)
    return np.minimum(rows, PROPRIO_LIMIT, out=rows)


def eef_rows(sensed: SensedRows) -> np.ndarray:
    """(N, 14) float32 as `sensors.proprio.eef_vector`: left palm pos 3, quat_wxyz 4, right palm pos 3, quat 4."""
    wrist = sensed.limb_poses[-1, :, -2:]  # (N, 2, 4, 4)
    rows = np.empty((len(wrist), 2, EEF_DIM // 2), np.float32)
    rows[..., :3] = (wrist @ _PALM)[..., :3]
    rows[..., 3:] = matrix_to_quat(wrist[..., :3, :3])
    return rows.reshape(-1, EEF_DIM)

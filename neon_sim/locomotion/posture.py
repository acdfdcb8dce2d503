"""Postures of legs and waist that hold the pelvis level at a height, with flat feet where the home pose has them."""

from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import link_transforms

HEIGHT_RANGE: Final = (0.66, joints.HOME_HEIGHT)  # m, pelvis above the floor; the home pose is nearly straight


def crouch(height: float | np.ndarray) -> np.ndarray:
    """Legs and waist (..., 15) rad that hold the pelvis level at `height` (...) m, with flat feet as at home."""
    height = np.asarray(height)
    posture = np.zeros((*height.shape, 15))
    for column, angles in zip((0, 3, 4), _CROUCH_ANGLES.T, strict=True):
        posture[..., column] = posture[..., column + 6] = np.interp(height, _CROUCH_HEIGHT, angles)
    return posture


def _crouch_table() -> tuple[np.ndarray, np.ndarray]:
    """Pelvis heights (N,) m, rising to home's, and hip pitch, knee, ankle pitch (N, 3) rad that reach them."""
    knee = np.append(joints.HOME[3], np.linspace(0.35, 1.5, 24))
    bent = np.zeros((len(knee), joints.NUM_JOINTS))
    bent[:, 3] = knee
    bent[0] = joints.HOME
    poses = link_transforms(bent)
    leg = poses[:, 5, :3, 3] - poses[:, 1, :3, 3]  # hip pitch axis to ankle pitch axis
    length = np.hypot(leg[:, 0], leg[:, 2])
    direction = np.arctan2(leg[:, 0], -leg[:, 2])
    wanted = np.arcsin(leg[0, 0] / length)
    hip = direction - wanted
    hip[0] = joints.HOME[0]
    height = joints.HOME_HEIGHT + leg[0, 2] + length * np.cos(wanted)
    return height[::-1], np.stack([hip, knee, -hip - knee], axis=1)[::-1]


_CROUCH_HEIGHT, _CROUCH_ANGLES = _crouch_table()

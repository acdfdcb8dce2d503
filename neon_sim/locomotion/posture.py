"""Postures of legs and waist that hold the pelvis level at a height, with flat feet where the home pose has them."""

from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import link_transforms
from neon_sim.locomotion.alike import Number, interp, numbers, rows

HEIGHT_RANGE: Final = (0.66, joints.HOME_HEIGHT)  # m, pelvis above the floor; the home pose is nearly straight


def crouch(height: float | np.ndarray) -> np.ndarray:
    """Legs and waist (..., 15) rad that hold the pelvis level at `height` (...) m, with flat feet as at home."""
    height = np.asarray(height, dtype=np.float64)
    return rows(crouched(numbers(height.reshape(-1))), height.size).reshape(*height.shape, 15)


def crouched(height: Number) -> list[Number]:
    """`crouch` as 15 numbers, rad."""
    hip, knee = interp(height, _CROUCH_HEIGHT, _CROUCH_HIP), interp(height, _CROUCH_HEIGHT, _CROUCH_KNEE)
    leg = (hip, 0.0, 0.0, knee, -hip - knee, 0.0)  # the ankle takes back what hip and knee turn
    return [*leg, *leg, 0.0, 0.0, 0.0]


def _crouch_table() -> tuple[list[float], list[float], list[float]]:
    """Pelvis heights (N,) m, rising to home's, and the hip pitch and knee (N,) rad each that reach them."""
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
    return height[::-1].tolist(), hip[::-1].tolist(), knee[::-1].tolist()


_CROUCH_HEIGHT, _CROUCH_HIP, _CROUCH_KNEE = _crouch_table()

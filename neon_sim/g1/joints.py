"""The 29 joints of the stock Unitree G1 in hardware order: names, groups, limits, gains, home pose.

Hardware order is the index of `unitree_hg` LowCmd.motor_cmd. Ranges and efforts are those of the official MJCF
(unitree_ros d6f13aad, g1_29dof_rev_1_0), speeds those of its URDF, armature is mjlab's table.
"""

from typing import Final

import numpy as np

NUM_JOINTS: Final = 29

_LEG = ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll")
_WAIST = ("waist_yaw", "waist_roll", "waist_pitch")
_ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw")

JOINT_NAMES: Final[tuple[str, ...]] = (
    *(f"left_{name}_joint" for name in _LEG),
    *(f"right_{name}_joint" for name in _LEG),
    *(f"{name}_joint" for name in _WAIST),
    *(f"left_{name}_joint" for name in _ARM),
    *(f"right_{name}_joint" for name in _ARM),
)
JOINT_INDEX: Final[dict[str, int]] = {name: index for index, name in enumerate(JOINT_NAMES)}


def _frozen(values: list[float] | np.ndarray) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _body(leg: list[float], waist: list[float], arm: list[float]) -> np.ndarray:
    """Lay out one value per joint kind as (29,), left and right alike."""
    return _frozen([*leg, *leg, *waist, *arm, *arm])


GROUPS: Final[dict[str, np.ndarray]] = {
    "left_leg": np.arange(0, 6),
    "right_leg": np.arange(6, 12),
    "legs": np.arange(0, 12),
    "waist": np.arange(12, 15),
    "left_arm": np.arange(15, 22),
    "right_arm": np.arange(22, 29),
    "arms": np.arange(15, 29),
}

# Sign that turns a left joint's angle into the right one's mirror image: roll and yaw change, pitch does not.
MIRROR_SIGN: Final[dict[str, float]] = {
    name: 1.0 if "pitch" in name or name in ("knee", "elbow") else -1.0 for name in (*_LEG, *_ARM)
}

# rad. Right-side roll joints are the mirrored interval.
_LOWER_LEG = [-2.5307, -0.5236, -2.7576, -0.087267, -0.87267, -0.2618]
_UPPER_LEG = [2.8798, 2.9671, 2.7576, 2.8798, 0.5236, 0.2618]
_LOWER_ARM = [-3.0892, -1.5882, -2.618, -1.0472, -1.97222, -1.61443, -1.61443]
_UPPER_ARM = [2.6704, 2.2515, 2.618, 2.0944, 1.97222, 1.61443, 1.61443]
_WAIST_LIMIT = [2.618, 0.52, 0.52]


def _mirrored(lower: list[float], upper: list[float], kinds: tuple[str, ...]) -> tuple[list[float], list[float]]:
    sides = zip(lower, upper, kinds, strict=True)
    pairs = [(lo, up) if MIRROR_SIGN[kind] > 0 else (-up, -lo) for lo, up, kind in sides]
    return [lo for lo, _ in pairs], [up for _, up in pairs]


_LOWER_RLEG, _UPPER_RLEG = _mirrored(_LOWER_LEG, _UPPER_LEG, _LEG)
_LOWER_RARM, _UPPER_RARM = _mirrored(_LOWER_ARM, _UPPER_ARM, _ARM)
LOWER: Final = _frozen([*_LOWER_LEG, *_LOWER_RLEG, *(-x for x in _WAIST_LIMIT), *_LOWER_ARM, *_LOWER_RARM])
UPPER: Final = _frozen([*_UPPER_LEG, *_UPPER_RLEG, *_WAIST_LIMIT, *_UPPER_ARM, *_UPPER_RARM])

# N m. The official MJCF's actuatorfrcrange; its URDF says 35 for ankles and waist roll/pitch.
EFFORT: Final = _body([88, 139, 88, 139, 50, 50], [88, 50, 50], [25, 25, 25, 25, 25, 5, 5])
# rad/s, URDF.
SPEED: Final = _body([32, 20, 32, 20, 30, 30], [32, 30, 30], [37, 37, 37, 37, 37, 22, 22])
# kg m^2, rotor inertia seen through the two-stage gears (mjlab g1_constants).
_A7520_14, _A7520_22, _A5020, _A4010 = 0.01017752004132231, 0.025101924999999997, 0.003609725, 0.00425
ARMATURE: Final = _body(
    [_A7520_14, _A7520_22, _A7520_14, _A7520_22, 2 * _A5020, 2 * _A5020],
    [_A7520_14, 2 * _A5020, 2 * _A5020],
    [_A5020] * 5 + [_A4010] * 2,
)

# N m/rad and N m s/rad: unitree_rl_gym deploy_real/configs/g1.yaml, the gains that Unitree deploys on hardware.
KP: Final = _body([100, 100, 100, 150, 40, 40], [300, 300, 300], [100, 100, 50, 50, 20, 20, 20])
KD: Final = _body([2, 2, 2, 4, 2, 2], [3, 3, 3], [2, 2, 2, 2, 1, 1, 1])

# rad. MuJoCo Playground's "home" keyframe: slightly bent knees, forearms hanging.
_HOME_ARM = [0.2, 0.2, 0.0, 1.28, 0.0, 0.0, 0.0]
HOME: Final = _frozen(
    [
        *([-0.1, 0.0, 0.0, 0.3, -0.2, 0.0] * 2),
        0.0,
        0.0,
        0.0,
        *_HOME_ARM,
        *(a * MIRROR_SIGN[n] for a, n in zip(_HOME_ARM, _ARM, strict=True)),
    ]
)
HOME_HEIGHT: Final = 0.785  # m, pelvis above the floor in the home pose (same keyframe)


def mirror(joint_values: np.ndarray) -> np.ndarray:
    """Swap left and right and flip roll and yaw signs: (..., 29) rad in hardware order -> its mirror image."""
    return joint_values[..., _MIRROR_INDEX] * _MIRROR_SIGNS


_MIRROR_INDEX: Final = np.concatenate(
    [GROUPS["right_leg"], GROUPS["left_leg"], GROUPS["waist"], GROUPS["right_arm"], GROUPS["left_arm"]]
)
_MIRROR_SIGNS: Final = _frozen(
    [*(MIRROR_SIGN[n] for n in _LEG * 2), -1.0, -1.0, 1.0, *(MIRROR_SIGN[n] for n in _ARM * 2)]
)

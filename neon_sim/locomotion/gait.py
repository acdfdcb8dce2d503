"""The base gait: a clock, feet that swing to where they catch the body, and a stance leg that holds it upright.

It walks a little by itself and falls often; the trained policy adds to it. Feet are placed as SIMBICON (Yin et al.
2007) and Raibert (1986) do: the stride that the command asks for, plus gain times velocity error. All of it is batched
over B robots.
"""

from typing import Final

import numpy as np

PERIOD_S: Final = 0.75  # one cycle: a step of each foot
DUTY: Final = 0.6  # share of the cycle that a foot stands
LEG_LENGTH: Final = 0.65  # m, hip to ankle: turns metres into radians
REST_PHASE: Final = 0.05  # in a double support, within which the clock rests; the other one is half a cycle on

# What the gains mean, and where the search for them starts and how wide it looks.
GAINS: Final[dict[str, tuple[float, float]]] = {
    "lift": (0.45, 0.1),  # rad that the swing leg folds
    "stride": (1.2, 0.3),  # share of the commanded travel that a step covers
    "place_x": (0.2, 0.15),  # m of foot placement per m/s of velocity error
    "place_y": (0.5, 0.2),
    "hip_pitch": (1.0, 0.8),  # rad of stance hip per unit of pitch
    "hip_pitch_rate": (0.03, 0.05),  # rad per rad/s
    "hip_roll": (2.2, 1.0),
    "hip_roll_rate": (0.1, 0.1),
    "ankle_pitch": (3.5, 1.5),
    "ankle_pitch_rate": (0.05, 0.1),
    "ankle_roll": (3.0, 2.0),
    "ankle_roll_rate": (0.2, 0.2),
    "width": (0.015, 0.02),  # m that each foot goes outward
    "sway": (0.03, 0.03),  # m that the pelvis moves over the standing foot
    "lean": (0.03, 0.04),  # rad that the stance hips pitch the body forward
    "ankle_speed": (0.2, 0.3),  # rad of stance ankle per m/s of forward velocity error
    "hip_load": (0.35, 0.1),  # rad by which the stance hip rolls against the weight of the half that hangs on it
    "knee_load": (0.1, 0.1),  # rad by which the stance knee straightens under the whole weight
}
START: Final = np.array([start for start, _ in GAINS.values()])
SPREAD: Final = np.array([spread for _, spread in GAINS.values()])
_APART: Final = np.array([0.0, 0.5])
_SIDE: Final = np.array([1.0, -1.0])  # left foot, right foot: which way is outward

_STEP_S: Final = PERIOD_S * DUTY
_AHEAD: Final = (-1.0 / LEG_LENGTH, 0.0, 0.0, 0.0, 1.0 / LEG_LENGTH, 0.0)  # rad per m that a flat foot goes forward
_LEFT: Final = (0.0, 1.0 / LEG_LENGTH, 0.0, 0.0, 0.0, -1.0 / LEG_LENGTH)
# A cause that `base_targets` works out, the gain that it is multiplied by, and what that does to hip pitch, roll, yaw,
# knee, ankle pitch, roll of the leg.
_RULES: Final[tuple[tuple[str, str, tuple[float, ...]], ...]] = (
    ("pitch", "hip_pitch", (1, 0, 0, 0, 0, 0)),
    ("pitch", "ankle_pitch", (0, 0, 0, 0, 1, 0)),
    ("left_roll", "hip_roll", (0, -1, 0, 0, 0, 0)),
    ("left_roll", "ankle_roll", (0, 0, 0, 0, 0, -1)),
    ("roll_rate", "hip_roll_rate", (0, 1, 0, 0, 0, 0)),
    ("roll_rate", "ankle_roll_rate", (0, 0, 0, 0, 0, 1)),
    ("pitch_rate", "hip_pitch_rate", (1, 0, 0, 0, 0, 0)),
    ("pitch_rate", "ankle_pitch_rate", (0, 0, 0, 0, 1, 0)),
    ("standing", "lean", (-1, 0, 0, 0, 0, 0)),
    ("too_fast", "ankle_speed", (0, 0, 0, 0, 1, 0)),
    ("way_ahead", "stride", tuple(_STEP_S * np.array(_AHEAD))),
    ("way_left", "stride", tuple(_STEP_S * np.array(_LEFT))),
    ("turn", "stride", (0, 0, _STEP_S, 0, 0, 0)),
    ("error_ahead", "place_x", _AHEAD),
    ("error_left", "place_y", _LEFT),
    ("outward", "width", _LEFT),
    ("sway", "sway", tuple(-np.array(_LEFT))),
    ("lift", "lift", (-1, 0, 0, 2, -1, 0)),
    ("alone_outward", "hip_load", (0, 1, 0, 0, 0, 0)),
    ("alone", "knee_load", (0.5, 0, 0, -1, 0.5, 0)),
)
_CAUSES: Final = tuple(dict.fromkeys(cause for cause, _, _ in _RULES))
_TABLE: Final = np.zeros((len(GAINS), len(_CAUSES), 6))
for _cause, _gain, _joints in _RULES:
    _TABLE[list(GAINS).index(_gain), _CAUSES.index(_cause)] += _joints
_TABLE_ROWS: Final = _TABLE.reshape(len(GAINS), -1)


def foot_phases(phase: np.ndarray) -> np.ndarray:
    """(B, 2) in [0, 1): 0 is touch-down, `DUTY` lift-off; left and right half a cycle apart."""
    return (phase[:, None] + _APART) % 1.0


def swing_progress(foot_phase: np.ndarray) -> np.ndarray:
    """(B, 2): 0 while a foot stands, 0 to 1 through its swing."""
    return np.maximum(foot_phase - DUTY, 0.0) / (1.0 - DUTY)


def base_targets(
    gains: np.ndarray,
    phase: np.ndarray,
    amplitude: np.ndarray,
    command: np.ndarray,
    posture: np.ndarray,
    velocity: np.ndarray,
    gyro: np.ndarray,
    gravity_b: np.ndarray,
) -> np.ndarray:
    """Leg and waist targets (B, 15) rad.

    Args:
        gains: (18,) or (B, 18) in the order of `GAINS`.
        phase: (B,) of the cycle, in [0, 1).
        amplitude: (B,) from 0 = stand to 1 = step.
        command: (B, 4) vx, vy m/s, yaw rate rad/s, pelvis height m.
        posture: (B, 15) rad of legs and waist, the crouch of that height.
        velocity: (B, 2) m/s forward and left, filtered.
        gyro: (B, 3) rad/s.
        gravity_b: (B, 3).
    """
    foot = foot_phases(phase)
    swing = swing_progress(foot)
    stands = foot < DUTY
    # 0 to 1 through the swing and back to 0 while standing: a placement lasts until the foot has passed under the body.
    carried = np.where(stands, 1.0 - foot * (1.0 / DUTY), swing * swing * (3.0 - 2.0 * swing))
    height = np.sin(np.pi * swing)
    alone = height[:, ::-1]  # 1 where the other foot is in the air
    wide = amplitude[:, None]
    error = velocity - command[:, :2]

    causes = np.empty((len(phase), 2, len(_CAUSES)))  # in the order of _CAUSES
    body = np.concatenate([gravity_b[:, :2], gyro[:, :2], np.ones_like(wide), error[:, :1]], axis=1)
    np.multiply(stands[..., None], body[:, None], out=causes[..., :6])
    np.multiply((carried - 0.5)[..., None], (wide * command[:, :3])[:, None], out=causes[..., 6:9])
    np.multiply(carried[..., None], (wide * error)[:, None], out=causes[..., 9:11])
    causes[..., 11] = _SIDE
    causes[..., 12] = wide * np.sin((2.0 * np.pi) * (phase - REST_PHASE))[:, None]
    causes[..., 13] = wide * height * height
    causes[..., 14] = alone * _SIDE
    causes[..., 15] = alone
    weights = (gains @ _TABLE_ROWS).reshape(*gains.shape[:-1], len(_CAUSES), 6)
    rows = causes.reshape(*gains.shape[:-1], -1, len(_CAUSES))  # with gains for all alike, every foot is one of them
    targets = posture.copy()
    targets[:, :12] += (rows @ weights).reshape(-1, 12)
    return targets

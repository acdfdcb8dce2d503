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
REST_PHASE: Final = 0.05  # the middle of a double support, where the clock rests; the other one is half a cycle on

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
_INDEX: Final = {name: index for index, name in enumerate(GAINS)}
START: Final = np.array([start for start, _ in GAINS.values()])
SPREAD: Final = np.array([spread for _, spread in GAINS.values()])
_SIDE: Final = np.array([1.0, -1.0])  # left foot, right foot: which way is outward


def foot_phases(phase: np.ndarray) -> np.ndarray:
    """(B, 2) in [0, 1): 0 is touch-down, `DUTY` lift-off; left and right half a cycle apart."""
    return (phase[:, None] + (0.0, 0.5)) % 1.0


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
    blend = swing * swing * (3.0 - 2.0 * swing)
    back = 0.5 - np.minimum(foot / DUTY, 1.0)  # from +1/2 at touch-down to -1/2 at lift-off
    travel = np.where(stands, back, blend - 0.5)
    carried = np.where(stands, 0.5 + back, blend)  # a placement lasts until the foot has passed under the body
    height = np.sin(np.pi * swing)

    error = velocity - command[:, :2]
    stride = (_at(gains, "stride") * amplitude * (PERIOD_S * DUTY))[:, None] * command[:, :3]
    place = amplitude[:, None] * gains[..., _PLACE] * error
    width = _at(gains, "width")[..., None] * _SIDE
    sway = _at(gains, "sway") * amplitude * np.sin(2.0 * np.pi * (phase - REST_PHASE))
    rock = gravity_b[:, _PITCH_ROLL] * _LEAN_SIGN * gains[..., _LEAN] + gyro[:, _ROLL_PITCH] * gains[..., _LEAN_RATE]
    rock[:, 0] -= _at(gains, "lean")
    rock[:, 2] += _at(gains, "ankle_speed") * error[:, 0]

    moves = np.empty((len(phase), 2, len(_TO_JOINTS)))
    moves[..., :4] = stands[..., None] * rock[:, None, :]
    moves[..., 4:7] = stride[:, None, :] * travel[..., None]
    moves[..., 4:6] += place[:, None, :] * carried[..., None]
    moves[..., 5] += width - sway[:, None]
    moves[..., 7] = (_at(gains, "lift") * amplitude)[:, None] * height * height
    alone = height[:, ::-1]  # 1 where the other foot is in the air
    moves[..., 8] = _at(gains, "hip_load")[..., None] * _SIDE * alone
    moves[..., 9] = _at(gains, "knee_load")[..., None] * alone
    targets = posture.copy()
    targets[:, :12] += (moves @ _TO_JOINTS).reshape(-1, 12)
    return targets


def _at(gains: np.ndarray, name: str) -> np.ndarray:
    return gains[..., _INDEX[name]]


# How each move of `base_targets` turns the joints hip pitch, roll, yaw, knee, ankle pitch, roll of its leg.
_TO_JOINTS: Final = np.array(
    [
        [1, 0, 0, 0, 0, 0],  # rocking the stance hip, pitch and roll
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0],  # and the stance ankle
        [0, 0, 0, 0, 0, 1],
        [-1 / LEG_LENGTH, 0, 0, 0, 1 / LEG_LENGTH, 0],  # m ahead
        [0, 1 / LEG_LENGTH, 0, 0, 0, -1 / LEG_LENGTH],  # m sideways
        [0, 0, 1, 0, 0, 0],  # rad turned
        [-1, 0, 0, 2, -1, 0],  # folding the swing leg
        [0, 1, 0, 0, 0, 0],  # the hip's load
        [0.5, 0, 0, -1, 0.5, 0],  # the knee's
    ]
)
_PLACE: Final = np.array([_INDEX["place_x"], _INDEX["place_y"]])
_ROCKERS: Final = ("hip_pitch", "hip_roll", "ankle_pitch", "ankle_roll")
_LEAN: Final = np.array([_INDEX[name] for name in _ROCKERS])
_LEAN_RATE: Final = np.array([_INDEX[f"{name}_rate"] for name in _ROCKERS])
_PITCH_ROLL: Final = np.array([0, 1, 0, 1])  # columns of gravity_b that say pitch and roll, and with which sign
_LEAN_SIGN: Final = np.array([1.0, -1.0, 1.0, -1.0])
_ROLL_PITCH: Final = np.array([1, 0, 1, 0])  # columns of gyro that are their rates

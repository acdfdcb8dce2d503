"""The base gait: a clock, feet that swing to where they catch the body, and a stance leg that holds it upright.

It walks a little by itself and falls often; the trained policy adds to it. Feet are placed as SIMBICON (Yin et al. 2007)
and Raibert (1986) do: the stride that the command asks for, plus gain times velocity error. Batched over B robots.
"""

from typing import Final

import numpy as np

from neon_sim.locomotion.odometry import Odometry, lean
from neon_sim.locomotion.posture import crouch

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
    odometry: Odometry,
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
        odometry: of the same instant.
        velocity: (B, 2) m/s forward and left, filtered.
        gyro: (B, 3) rad/s.
        gravity_b: (B, 3).
    """
    gain = gains.T  # (18,) or (18, B)
    foot = foot_phases(phase)
    swing = swing_progress(foot)
    stands = foot < DUTY
    blend = swing * swing * (3.0 - 2.0 * swing)
    back = 0.5 - np.minimum(foot / DUTY, 1.0)  # from +1/2 at touch-down to -1/2 at lift-off
    travel = np.where(stands, back, blend - 0.5)
    carried = np.where(stands, 0.5 + back, blend)  # a placement lasts until the foot has passed under the body

    step_s = PERIOD_S * DUTY * _at(gain, "stride") * amplitude
    error = velocity - command[:, :2]
    place_x, place_y = (_at(gain, f"place_{axis}") * amplitude * error[:, i] for i, axis in enumerate("xy"))
    ahead = (step_s * command[:, 0])[:, None] * travel + place_x[:, None] * carried
    sideways = (step_s * command[:, 1])[:, None] * travel + place_y[:, None] * carried
    sideways -= (_at(gain, "sway") * amplitude * np.sin(2.0 * np.pi * (phase - REST_PHASE)))[:, None]
    sideways += np.multiply.outer(_at(gain, "width"), _SIDE)
    lift = (_at(gain, "lift") * amplitude)[:, None] * np.square(np.sin(np.pi * swing))

    alone = np.sin(np.pi * swing)[:, ::-1]  # 1 where the other foot is in the air
    hip_load = _at(gain, "hip_load")[..., None] * _SIDE * alone
    knee_load = _at(gain, "knee_load")[..., None] * alone

    pitch, roll = lean(gravity_b)
    hip_pitch = _at(gain, "hip_pitch") * pitch + _at(gain, "hip_pitch_rate") * gyro[:, 1] - _at(gain, "lean")
    hip_roll = _at(gain, "hip_roll") * roll + _at(gain, "hip_roll_rate") * gyro[:, 0]
    ankle_pitch = _at(gain, "ankle_pitch") * pitch + _at(gain, "ankle_pitch_rate") * gyro[:, 1]
    ankle_pitch += _at(gain, "ankle_speed") * error[:, 0]
    ankle_roll = _at(gain, "ankle_roll") * roll + _at(gain, "ankle_roll_rate") * gyro[:, 0]

    targets = crouch(command[:, 3])
    legs = targets[:, :12].reshape(-1, 2, 6)
    legs[..., 0] += stands * hip_pitch[:, None] - ahead / LEG_LENGTH - lift + 0.5 * knee_load
    legs[..., 1] += stands * hip_roll[:, None] + sideways / LEG_LENGTH + hip_load
    legs[..., 2] += (step_s * command[:, 2])[:, None] * travel
    legs[..., 3] += 2.0 * lift - knee_load
    legs[..., 4] += stands * ankle_pitch[:, None] + ahead / LEG_LENGTH - lift + 0.5 * knee_load
    legs[..., 5] += stands * ankle_roll[:, None] - sideways / LEG_LENGTH
    return targets


def _at(gain: np.ndarray, name: str) -> np.ndarray:
    return gain[_INDEX[name]]

"""The base gait: a clock, feet that swing to where they catch the body, and a stance leg that holds it upright.

It walks a little by itself and falls often; the trained policy adds to it. Feet are placed as SIMBICON (Yin et al.
2007) and Raibert (1986) do: the stride that the command asks for, plus gain times velocity error. For one robot or for
many: see `alike`.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from neon_sim.locomotion.alike import Number, maximum, sin

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

_STEP_S: Final = PERIOD_S * DUTY


def foot_phases(phase: np.ndarray) -> np.ndarray:
    """(B, 2) in [0, 1): 0 is touch-down, `DUTY` lift-off; left and right half a cycle apart."""
    return (phase[:, None] + _APART) % 1.0


def swing_progress(foot_phase: Number) -> Number:
    """0 while a foot stands, 0 to 1 through its swing."""
    return maximum(foot_phase - DUTY, 0.0) / (1.0 - DUTY)


def leg_offsets(
    gains: Sequence[Number],
    phase: Number,
    amplitude: Number,
    command: Sequence[Number],
    velocity: Sequence[Number],
    gyro: Sequence[Number],
    gravity_b: Sequence[Number],
) -> list[Number]:
    """What to add to the posture of left and right leg: 12 numbers, rad.

    Args:
        gains: in the order of `GAINS`.
        phase: of the cycle, in [0, 1).
        amplitude: from 0 = stand to 1 = step.
        command: vx, vy m/s, yaw rate rad/s.
        velocity: m/s forward and left, filtered.
        gyro: rad/s about x, y, z.
        gravity_b: x, y, z.
    """
    lift, stride, place_x, place_y = gains[:4]
    width, sway, _, _, hip_load, knee_load = gains[12:]
    error_x, error_y = velocity[0] - command[0], velocity[1] - command[1]
    hip_pitch, hip_roll, ankle_pitch, ankle_roll = _upright(gains, error_x, gyro, gravity_b)
    # m and rad that a foot goes forward, left and round through its swing, for the stride and to catch the body.
    step_x, step_y, step_yaw = (amplitude * stride * _STEP_S * speed for speed in command[:3])
    catch_x, catch_y = amplitude * place_x * error_x, amplitude * place_y * error_y
    aside = amplitude * sway * sin(2.0 * np.pi * (phase - REST_PHASE))

    left, right = phase % 1.0, (phase + 0.5) % 1.0
    left_up, right_up = sin(np.pi * swing_progress(left)), sin(np.pi * swing_progress(right))
    offsets = []
    for foot, side, up, alone in ((left, 1.0, left_up, right_up), (right, -1.0, right_up, left_up)):
        stands, carried = foot < DUTY, _carried(foot)
        ahead = (step_x * (carried - 0.5) + catch_x * carried) * (1.0 / LEG_LENGTH)
        out = (step_y * (carried - 0.5) + catch_y * carried + width * side - aside) * (1.0 / LEG_LENGTH)
        fold = lift * amplitude * up * up
        load = knee_load * alone  # alone: 1 where the other foot is in the air
        offsets += [
            stands * hip_pitch - ahead - fold + 0.5 * load,
            stands * hip_roll + out + hip_load * alone * side,
            step_yaw * (carried - 0.5),
            2.0 * fold - load,
            stands * ankle_pitch + ahead - fold + 0.5 * load,
            stands * ankle_roll - out,
        ]
    return offsets


def _upright(
    gains: Sequence[Number], error_x: Number, gyro: Sequence[Number], gravity_b: Sequence[Number]
) -> tuple[Number, Number, Number, Number]:
    """What the leg that stands does to hold the body upright, rad: hip pitch and roll, ankle pitch and roll."""
    hip_pitch, hip_pitch_rate, hip_roll, hip_roll_rate = gains[4:8]
    ankle_pitch, ankle_pitch_rate, ankle_roll, ankle_roll_rate = gains[8:12]
    lean, ankle_speed = gains[14], gains[15]
    pitch, left_roll, roll_rate, pitch_rate = gravity_b[0], gravity_b[1], gyro[0], gyro[1]
    return (
        hip_pitch * pitch + hip_pitch_rate * pitch_rate - lean,
        hip_roll_rate * roll_rate - hip_roll * left_roll,
        ankle_pitch * pitch + ankle_pitch_rate * pitch_rate + ankle_speed * error_x,
        ankle_roll_rate * roll_rate - ankle_roll * left_roll,
    )


def _carried(foot_phase: Number) -> Number:
    """0 to 1 through the swing and back to 0 while standing: a placement lasts until the foot has passed the body."""
    swing = swing_progress(foot_phase)
    return (foot_phase < DUTY) * (1.0 - foot_phase * (1.0 / DUTY)) + swing * swing * (3.0 - 2.0 * swing)

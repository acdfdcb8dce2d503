"""What is written down of one run of the walking tour, and how its speeds are divided by what goes on at the time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from tour_task import ARMS, CONTROL_DT, CONTROL_HZ, PUNCH_S, SEGMENT_STEPS

from neon_sim.locomotion.stepper import OWN

# rad/s at which the vendor's own check stops the robot: unitree_sdk2, g1/common/terminations.hpp.
VENDOR_JOINT_SPEED, VENDOR_GYRO = 10.0, 6.0
PUSHED_S: Final = 1.2  # s after a punch until the robot counts as left alone
TOLD_S: Final = 0.1  # s after a new waypoint, when the velocity command has just jumped
TIMES: Final = ("pushed", "told", "calm")


@dataclass(frozen=True)
class PunchResult:
    """What became of a punch; `fell` is None where the run ended too soon after it to say."""

    start_s: float
    body: str
    force: float  # N
    fell: bool | None


@dataclass(frozen=True)
class Speeds:
    """Over some part of a run, read at the end of each control step: largest values and time beyond the vendor's."""

    seconds: float  # how long that part is
    own: float  # rad/s, fastest joint of legs and waist
    arms: float  # rad/s, fastest of the arms
    gyro: float  # rad/s, length
    own_over_s: float  # s with a leg or waist joint beyond VENDOR_JOINT_SPEED
    arms_over_s: float
    gyro_over_s: float  # s with the gyro beyond VENDOR_GYRO


@dataclass(frozen=True)
class RunResult:
    """The figures of one run; plain numbers, to be written down as JSON.

    position_cm, yaw_deg: errors at the end of each segment, and at the moment of the fall for the segment of it.
    energy_kj: torque times joint speed, both signs counted as spent, all joints, sampled at 50 Hz; the published
    harness takes the torque that the PD law asks for, ours is the one that the motor gives.
    vibration: sum over the run and all joints of how much the joint acceleration (difference of joint speeds at 50 Hz)
    changes from one control step to the next, in 10^6 rad/s^2; the published harness adds up the same.
    speeds: for each of `TIMES`: "pushed" = punches, the `PUSHED_S` after each, and all that follows the one that felled
    the robot; "told" = of the rest, the first `TOLD_S` after a new waypoint; "calm" = what is left.
    """

    run_id: int
    survival_s: float
    completed: bool
    position_cm: tuple[float, ...]  # at the end of each finished segment
    yaw_deg: tuple[float, ...]
    energy_kj: float
    vibration: float
    speeds: dict[str, Speeds]
    punches: tuple[PunchResult, ...]


def parts_of(steps: int, thrown_s: Sequence[float], fell: bool) -> dict[str, np.ndarray]:
    """Which control steps belong to each of `TIMES`, (steps,) bool each.

    thrown_s: when the punches so far began; fell: whether the run ended on the floor, which is put down to the last.
    """
    time_s, pushed = np.arange(steps) / CONTROL_HZ, np.zeros(steps, dtype=bool)
    for start_s in thrown_s:
        pushed |= (time_s >= start_s) & (time_s < start_s + PUNCH_S + PUSHED_S)
    if fell and thrown_s:
        pushed |= time_s >= thrown_s[-1]
    told = ~pushed & (np.arange(steps) % SEGMENT_STEPS < round(TOLD_S * CONTROL_HZ))
    return {"pushed": pushed, "told": told, "calm": ~(pushed | told)}


def speeds_of(joint_vel: np.ndarray, gyro: np.ndarray) -> Speeds:
    """Of joint speeds (T, 29) and angular velocities (T, 3) rad/s; zeros where T is 0."""
    size = np.abs(joint_vel)
    own, arms = size[:, OWN].max(axis=1), size[:, ARMS].max(axis=1)
    turn = np.linalg.norm(gyro, axis=1)
    return Speeds(
        seconds=len(size) * CONTROL_DT,
        own=float(own.max(initial=0.0)),
        arms=float(arms.max(initial=0.0)),
        gyro=float(turn.max(initial=0.0)),
        own_over_s=float(np.sum(own > VENDOR_JOINT_SPEED)) * CONTROL_DT,
        arms_over_s=float(np.sum(arms > VENDOR_JOINT_SPEED)) * CONTROL_DT,
        gyro_over_s=float(np.sum(turn > VENDOR_GYRO)) * CONTROL_DT,
    )

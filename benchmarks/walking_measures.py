"""Figures of a track: how well the command was followed, how far standing drifts, how softly it walks and stops.

All of them use the pelvis's true motion. Velocities are in the heading frame: x where the pelvis faces, level, z up.
"""

from typing import Final, NamedTuple

import numpy as np
from walking_episode import CONTROL_DT, Job, Track, run_episode
from walking_probe import GAP_SEEN

from neon_sim.g1 import joints
from neon_sim.g1.geometry import quat_to_euler, quat_to_matrix
from neon_sim.g1.kinematics import GRAVITY, TOTAL_MASS, limb_poses

STRIDE_S: Final = 0.75  # over which velocity is averaged
LEAD_S: Final = 3.0  # left out at the beginning of an episode
DRIFT_S: Final = 10.0  # between the two seconds of standing whose means are compared
DRIFT_EPISODE_S: Final = DRIFT_S + 1.0
VENDOR_JOINT_SPEED, VENDOR_GYRO = 9.0, 5.0  # rad/s; 1 below where the vendor's own check stops the robot
_STOP_MEAN_S: Final = 0.3
_STOPPED: Final = 0.1  # m/s and rad/s
_TILT_S: Final = 2.0  # after a change of command
_OWN: Final = slice(0, 15)  # legs and waist
_WEIGHT: Final = TOTAL_MASS * GRAVITY  # N


class Tracking(NamedTuple):
    """How one constant command was followed; NaN where the robot fell too soon to say."""

    survived: bool
    seconds: float
    error: np.ndarray  # (3,) m/s, m/s, rad/s: mean of |stride mean - command|
    speed_error: float  # m/s, mean length of (vx, vy) stride mean - command
    bias: np.ndarray  # (3,) mean of stride mean - command, with its sign


class Drift(NamedTuple):
    """How far a robot that was told to stand got in 10 s; NaN after a fall."""

    survived: bool
    feet: float  # m, of the point midway between the soles
    pelvis: float  # m
    yaw: float  # rad


class Quality(NamedTuple):
    """How softly an episode went."""

    survived: bool
    slip: float  # m/s, load-weighted mean speed of the sole points over the ground
    load_p99: float  # body weights, 99th percentile of the peak vertical force of the more loaded foot
    load_max: float  # body weights
    joint_speed: float  # rad/s, fastest of legs and waist
    joint: str  # and which
    arm_speed: float  # rad/s
    gyro: float  # rad/s
    joint_share: float  # of the time with a leg or waist joint beyond 9 rad/s
    gyro_share: float  # of the time with the gyro beyond 5 rad/s
    leg_gap: float  # m, smallest between the legs, at most GAP_SEEN
    overlap_share: float  # of the time in which the legs overlap
    trunk_share: float  # of the time in which an arm touches pelvis, waist or torso
    leg_share: float  # of the time in which an arm touches a leg
    steps_per_s: float


class Transition(NamedTuple):
    """From standing to walking and back."""

    survived: bool
    start_tilt: float  # rad, largest within 2 s of the start
    stop_tilt: float  # rad, likewise of the stop
    stop_s: float  # s until the 0.3 s mean of speed and yaw rate stays below 0.1; all that is left if it never does
    stop_distance: float  # m from where it was told to stop to where it stood at the end


def heading_velocity(track: Track) -> np.ndarray:
    """Forward and left speed m/s and yaw rate rad/s of the pelvis, (T, 3)."""
    yaw = quat_to_euler(track.qpos[:, 3:7])[:, 2]
    vx, vy = track.qvel[:, 0], track.qvel[:, 1]
    up_b = quat_to_matrix(track.qpos[:, 3:7])[:, 2]  # the world's z in the pelvis frame
    turn = np.einsum("ti,ti->t", up_b, track.qvel[:, 3:6])
    return np.column_stack([np.cos(yaw) * vx + np.sin(yaw) * vy, np.cos(yaw) * vy - np.sin(yaw) * vx, turn])


def moving_mean(rows: np.ndarray, seconds: float) -> np.ndarray:
    """Means over every window of that length that fits: (T, N) -> (T - n + 1, N), empty if none does."""
    count = round(seconds / CONTROL_DT)
    if len(rows) < count:
        return np.empty((0, *rows.shape[1:]))
    total = np.cumsum(np.concatenate([np.zeros((1, *rows.shape[1:])), rows]), axis=0)
    return (total[count:] - total[:-count]) / count


def tracking(track: Track) -> Tracking:
    """Errors over all strides that begin after the first 3 s."""
    first = round(LEAD_S / CONTROL_DT)
    off = moving_mean((heading_velocity(track) - track.command)[first:], STRIDE_S)
    seconds = len(track.qpos) * CONTROL_DT
    if not len(off):
        nothing = np.full(3, np.nan)
        return Tracking(not track.fell, seconds, nothing, np.nan, nothing)
    speed_error = np.sqrt(np.square(off[:, :2]).sum(axis=1)).mean()
    return Tracking(not track.fell, seconds, np.abs(off).mean(axis=0), float(speed_error), off.mean(axis=0))


def drift(track: Track) -> Drift:
    """From the mean of the first second to the mean of the second that begins 10 s later."""
    later, count = round(DRIFT_S / CONTROL_DT), round((DRIFT_EPISODE_S - DRIFT_S) / CONTROL_DT)
    if track.fell or len(track.qpos) < later + count:
        return Drift(False, np.nan, np.nan, np.nan)
    before, after = track.qpos[:count], track.qpos[later : later + count]
    yaw = [np.unwrap(quat_to_euler(rows[:, 3:7])[:, 2]).mean() for rows in (before, after)]
    turned = (yaw[1] - yaw[0] + np.pi) % (2.0 * np.pi) - np.pi
    feet = np.linalg.norm(_between_feet(after) - _between_feet(before))
    pelvis = np.linalg.norm(after[:, :2].mean(axis=0) - before[:, :2].mean(axis=0))
    return Drift(True, float(feet), float(pelvis), float(turned))


def _between_feet(qpos: np.ndarray) -> np.ndarray:
    """Mean place (2,) m in the world of the point midway between the soles."""
    soles_b = limb_poses(qpos[:, 7:])[-1, :, :2, :3, 3].mean(axis=1)
    soles_w = qpos[:, :3] + np.einsum("tij,tj->ti", quat_to_matrix(qpos[:, 3:7]), soles_b)
    return soles_w[:, :2].mean(axis=0)


def quality(track: Track) -> Quality:
    """Peaks and shares over the whole episode, its start included. The track must come from a job with `probe`."""
    seen = track.readings
    if seen is None:
        raise ValueError("This track has no readings of contacts. Run its job with probe=True.")
    own = seen.joint_speed[:, _OWN]
    load = seen.load.max(axis=1) / _WEIGHT
    return Quality(
        survived=not track.fell,
        slip=float(seen.slip @ seen.pressed / seen.pressed.sum()),
        load_p99=float(np.quantile(load, 0.99)),
        load_max=float(load.max()),
        joint_speed=float(own.max()),
        joint=joints.JOINT_NAMES[int(own.max(axis=0).argmax())].removesuffix("_joint"),
        arm_speed=float(seen.joint_speed[:, 15:].max()),
        gyro=float(seen.gyro.max()),
        joint_share=float(np.mean(own.max(axis=1) > VENDOR_JOINT_SPEED)),
        gyro_share=float(np.mean(seen.gyro > VENDOR_GYRO)),
        leg_gap=float(min(seen.leg_gap.min(), GAP_SEEN)),
        overlap_share=float(np.mean(seen.leg_gap < 0.0)),
        trunk_share=float(np.mean(seen.arm_on_trunk)),
        leg_share=float(np.mean(seen.arm_on_leg)),
        steps_per_s=_touchdowns(seen.load) / (len(load) * CONTROL_DT),
    )


def _touchdowns(load: np.ndarray) -> int:
    """How often a foot that carried under 2 % of the weight came to carry over 20 %; `load` (T, 2) N."""
    count = 0
    for foot in (load / _WEIGHT).T:
        state = np.where(foot > 0.2, 1, np.where(foot < 0.02, -1, 0))
        state = state[state != 0]
        count += int(np.sum((state[1:] == 1) & (state[:-1] == -1)))
    return count


def transition(track: Track, start_s: float, stop_s: float) -> Transition:
    """Of a track that stood, was told to walk at `start_s` and to stand again at `stop_s`."""
    start, stop, window = round(start_s / CONTROL_DT), round(stop_s / CONTROL_DT), round(_TILT_S / CONTROL_DT)
    if track.fell:
        return Transition(False, np.nan, np.nan, np.nan, np.nan)
    tilt = np.arccos(np.clip(quat_to_matrix(track.qpos[:, 3:7])[:, 2, 2], -1.0, 1.0))
    speed = moving_mean(heading_velocity(track)[stop:], _STOP_MEAN_S)
    moving = np.flatnonzero((np.hypot(speed[:, 0], speed[:, 1]) > _STOPPED) | (np.abs(speed[:, 2]) > _STOPPED))
    last = int(moving[-1]) + 1 if len(moving) else 0
    distance = np.linalg.norm(track.qpos[-window:, :2].mean(axis=0) - track.qpos[stop, :2])
    return Transition(
        survived=True,
        start_tilt=float(tilt[start : start + window].max()),
        stop_tilt=float(tilt[stop : stop + window].max()),
        stop_s=last * CONTROL_DT + _STOP_MEAN_S,
        stop_distance=float(distance),
    )


def tracked(job: Job) -> Tracking:
    """Run an episode and take its tracking figures; what a worker does."""
    return tracking(run_episode(job))


def drifted(job: Job) -> Drift:
    """Run an episode and take its drift."""
    return drift(run_episode(job))


def looked_at(job: Job) -> Quality:
    """Run an episode and take its quality figures."""
    return quality(run_episode(job))


def started_and_stopped(job: Job) -> Transition:
    """Run an episode whose plan stands, walks and stands, and take its figures."""
    (_, _), (start_s, _), (stop_s, _) = job.plan
    return transition(run_episode(job), start_s, stop_s)

"""What a good step is worth: one named term per wish, all batched, all from the simulator's truth."""

from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np

from neon_sim.g1.kinematics import GRAVITY, TOTAL_MASS
from neon_sim.locomotion import gait
from neon_sim.sim.batch import Truth

SWING_HEIGHT: Final = 0.07  # m that a foot is lifted in the middle of its swing
_SWING_SPREAD: Final = 0.004  # m^2
_CONTACT_HEIGHT: Final = 0.012  # m of the sole's middle above the floor
_MIN_FOOT_GAP: Final = 0.17  # m sideways between the feet
_WIDEST: Final = 0.32  # m sideways between the feet of a robot that stands at ease
_AT_EASE: Final = 0.05  # m/s and rad/s; who is told less is told to stand
_WEIGHT: Final = TOTAL_MASS * GRAVITY


@dataclass(frozen=True)
class RewardWeights:
    """Per control step, all times `scale`. Negative weights are penalties."""

    scale: float = 0.1
    alive: float = 0.5
    track: float = 1.5
    track_linear: float = -3.0
    track_now: float = 0.25
    turn: float = 1.0
    turn_linear: float = -1.5
    turn_now: float = 0.4
    height: float = 0.4
    foot_height: float = 1.5
    contact: float = 0.6
    tilt: float = -3.0
    torso_tilt: float = -3.0
    roll_rate: float = -0.1
    bounce: float = -0.5
    action_rate: float = -0.03
    hip_spread: float = -0.6
    waist: float = -0.3
    slip: float = -0.15
    foot_gap: float = -10.0
    flat_foot: float = -3.0
    stand_pose: float = -1.0
    stand_drift: float = -2.0
    still: float = 1.0
    joint_speed: float = -0.1
    gyro: float = -0.1
    landing: float = -0.3
    fall: float = -60.0  # times scale = -6


# While a robot takes a punch it may break some rules: the share of a term that is forgiven then.
FORGIVEN: Final[dict[str, float]] = {
    "foot_height": 0.7,
    "contact": 0.7,
    "stand_pose": 0.7,
    "stand_drift": 0.7,
    "still": 0.7,
    "action_rate": 0.7,
    "slip": 0.7,
    "flat_foot": 0.7,
    "hip_spread": 0.7,
    "waist": 0.7,
    "joint_speed": 0.7,
    "gyro": 0.7,
    "landing": 0.7,
    "roll_rate": 0.7,
    "tilt": 0.35,
    "torso_tilt": 0.35,
    "track": 0.4,
    "track_linear": 0.4,
    "track_now": 0.4,
    "turn": 0.4,
    "turn_linear": 0.4,
    "turn_now": 0.4,
}
# What makes motion gentle comes in last: a beginner who must not move fast does not learn to walk.
GENTLE: Final = frozenset({"joint_speed", "gyro", "landing", "action_rate", "slip", "roll_rate"})
# So does precision: where every step costs more than it gives, falling would end the pain.
STRICT: Final = frozenset({"track_linear", "turn_linear"})
# The best that a forgiven term could have given, so that a shortfall is refunded and not the term itself.
_BEST: Final[dict[str, float]] = {
    "foot_height": 1.0, "contact": 1.0, "still": 1.0, "track": 1.0, "track_now": 1.0, "turn": 1.0, "turn_now": 1.0
}  # fmt: skip


class Step(NamedTuple):
    """What the rewards look at, one row per robot."""

    truth: Truth
    velocity: np.ndarray  # (B, 3) m/s, m/s, rad/s in the heading frame: forward, left, turn
    slow: np.ndarray  # (B, 3) the same, averaged over 0.4 s
    command: np.ndarray  # (B, 4)
    gravity_b: np.ndarray  # (B, 3)
    torso_lean: np.ndarray  # (B,) 1 - cosine of the torso's tilt
    phase: np.ndarray  # (B,)
    amplitude: np.ndarray  # (B,)
    action_change: np.ndarray  # (B, 16)
    posture: np.ndarray  # (B, 15) rad, the crouch of the commanded height
    owns_waist: np.ndarray  # (B,)


def reward_terms(step: Step) -> dict[str, np.ndarray]:
    """Each term (B,) before its weight."""
    return _going(step) | _stepping(step) | _holding(step) | _standing_foot(step) | _calm(step)


def _going(step: Step) -> dict[str, np.ndarray]:
    """To be where the command says: Gaussians that reward being near, and errors that pull from afar."""
    slow_error = step.slow - step.command[:, :3]
    now_error = step.velocity - step.command[:, :3]
    slow_track, now_track = (np.square(error[:, :2]).sum(axis=1) for error in (slow_error, now_error))
    return {
        "alive": np.ones(len(slow_error)),
        "track": np.exp(-slow_track / 0.08),
        "track_linear": np.sqrt(slow_track),
        "track_now": np.exp(-now_track / 0.25),
        "turn": np.exp(-np.square(slow_error[:, 2]) / 0.12),
        "turn_linear": np.abs(slow_error[:, 2]),
        "turn_now": np.exp(-np.square(now_error[:, 2]) / 0.5),
    }


def _stepping(step: Step) -> dict[str, np.ndarray]:
    """To hold the commanded height, and to lift and put down each foot when the clock says."""
    foot = gait.foot_phases(step.phase)
    wanted = SWING_HEIGHT * np.square(np.sin(np.pi * gait.swing_progress(foot))) * step.amplitude[:, None]
    foot_height = step.truth.foot_pos_w[..., 2]
    scheduled = (foot < gait.DUTY) | (step.amplitude[:, None] < 0.1)
    contact = foot_height < _CONTACT_HEIGHT
    height_error = step.truth.pos_w[:, 2] - foot_height.min(axis=1) - step.command[:, 3]
    return {
        "height": np.exp(-np.square(height_error) / 0.0025),
        "foot_height": np.exp(-np.square(foot_height - wanted) / _SWING_SPREAD).mean(axis=1),
        "contact": (contact == scheduled).mean(axis=1),
    }


def _holding(step: Step) -> dict[str, np.ndarray]:
    """To stay upright without effort: penalties."""
    truth = step.truth
    legs = truth.joint_pos[:, :12].reshape(-1, 2, 6)
    return {
        "tilt": np.square(step.gravity_b[:, :2]).sum(axis=1),
        "torso_tilt": step.torso_lean,
        "roll_rate": np.sqrt(np.square(truth.gyro[:, :2]).sum(axis=1)),
        "bounce": np.square(truth.velocity_w[:, 2]),
        "action_rate": np.square(step.action_change).sum(axis=1),
        "hip_spread": np.square(legs[:, :, 1:3]).sum(axis=(1, 2)),
        "waist": np.square(truth.joint_pos[:, 12:15]).sum(axis=1) * step.owns_waist,
    }


def _standing_foot(step: Step) -> dict[str, np.ndarray]:
    """To put feet down flat, apart from each other, and to leave them where they are: penalties."""
    truth = step.truth
    apart = truth.foot_pos_w[:, 0, :2] - truth.foot_pos_w[:, 1, :2]
    gap = np.abs(_sideways(apart, truth))
    loaded = np.minimum(truth.foot_force / _WEIGHT * 4.0, 1.0)  # a quarter of the weight is a whole foothold
    return {
        "slip": (np.sqrt(np.square(truth.foot_vel_w[..., :2]).sum(axis=2)) * loaded).sum(axis=1),
        "foot_gap": np.maximum(_MIN_FOOT_GAP - gap, 0.0),
        "flat_foot": (1.0 - truth.foot_up_w[..., 2]).sum(axis=1),
    }


def _calm(step: Step) -> dict[str, np.ndarray]:
    """To stand still when standing, and never to move or land harder than a real robot bears: penalties."""
    truth = step.truth
    offset = truth.joint_pos[:, :15] - step.posture
    standing = 1.0 - step.amplitude
    force = truth.foot_force / _WEIGHT
    return {
        "stand_pose": np.square(offset).sum(axis=1) * standing,
        "stand_drift": np.sqrt(np.square(step.velocity[:, :2]).sum(axis=1)) * standing,
        "joint_speed": np.square(np.maximum(np.abs(truth.joint_vel[:, :15]) - 6.5, 0.0)).sum(axis=1).clip(max=200.0),
        "gyro": np.square(np.maximum(np.abs(truth.gyro) - 3.0, 0.0)).sum(axis=1).clip(max=100.0),
        "landing": np.maximum(force - 1.3, 0.0).sum(axis=1).clip(max=6.0),
        "still": _stillness(step),
    }


def _stillness(step: Step) -> np.ndarray:
    """(B,) 0 to 1, for robots that are told to stand: upright, unmoved, feet not spread and the clock at rest.

    Without it a walker learns to stand as it was punched last, astride and swaying, and nothing can take over from it.
    """
    truth = step.truth
    told = np.abs(step.command[:, :3]).max(axis=1) < _AT_EASE
    lean = np.square(step.gravity_b[:, :2]).sum(axis=1)
    speed = np.square(step.velocity[:, :2]).sum(axis=1)
    gap = np.abs(_sideways(truth.foot_pos_w[:, 0, :2] - truth.foot_pos_w[:, 1, :2], truth))
    spread = np.square(np.maximum(gap - _WIDEST, 0.0))
    parts = np.exp(-lean / 0.005) + np.exp(-speed / 0.01) + np.exp(-spread / 0.01)
    return told * (1.0 - step.amplitude) * parts / 3.0


def total_reward(
    terms: dict[str, np.ndarray],
    weights: RewardWeights,
    forgiving: np.ndarray,
    fell: np.ndarray,
    gentle: float = 1.0,
    strict: float = 1.0,
) -> np.ndarray:
    """Weighted sum (B,).

    Args:
        terms: of `reward_terms`.
        weights: of each.
        forgiving: (B,) 1 where a punch has just landed, else 0.
        fell: (B,) bool.
        gentle: how much of the `GENTLE` terms counts, 0 to 1.
        strict: how much of the `STRICT` ones.
    """
    total = weights.fall * fell
    for name, term in terms.items():
        share = FORGIVEN.get(name, 0.0)
        if share:
            best = _BEST.get(name, 0.0)
            term = term + share * forgiving * (best - term)
        counts = gentle if name in GENTLE else strict if name in STRICT else 1.0
        total = total + counts * getattr(weights, name) * term
    return weights.scale * total


def _sideways(apart_w: np.ndarray, truth: Truth) -> np.ndarray:
    """The part (B,) of a horizontal vector (B, 2) that is to the pelvis' left."""
    w, x, y, z = truth.quat_wxyz.T
    forward = np.stack([1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z)], axis=1)
    forward /= np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-6)
    return forward[:, 0] * apart_w[:, 1] - forward[:, 1] * apart_w[:, 0]


_NAMES = {field.name for field in fields(RewardWeights)}
assert set(FORGIVEN) <= _NAMES and set(_BEST) <= set(FORGIVEN)

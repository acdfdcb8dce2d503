"""From joint angles of whatever recording to an episode of the G1: actions, proprioception and palms that fit together.

What nobody recorded reads as on a robot that stands upright: no torque, no turning, gravity straight down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from neon_sim.data.action_mapper import ActionMapper
from neon_sim.data.source import SKIP_HINT
from neon_sim.data.windows import fit_picture
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.geometry import gravity_in_body, quat_conjugate, quat_multiply
from neon_sim.g1.kinematics import palm_poses

# What "nothing said" stands for: the home pose and standing, which is action 0 (eq. 18 pads with zeros).
REST: Final = np.append(joints.HOME, np.zeros(3))
PICTURE_SIZE: Final = 224  # px: what backbones look at; larger pictures would only fill the memory
DEFAULT_MODE: Final = "upper_body"  # says everything that an arms_only policy wants as well


@dataclass(frozen=True, eq=False)
class G1Motion:
    """T steps of joint angles on the G1. Observations and infos are passed on, row by row."""

    joint_target: np.ndarray  # (T, 29) rad, hardware order: what was commanded
    joint_pos: np.ndarray  # (T, 29) rad: what was there when it was commanded
    rate_hz: float
    velocity: np.ndarray | None = None  # (T, 3) m/s, m/s, rad/s commanded; None is standing
    root_quat_wxyz: np.ndarray | None = None  # (T, 4) orientation of the pelvis in the world; None is upright
    instruction: str = ""
    success: bool = False
    observations: Mapping[str, np.ndarray] = field(default_factory=dict)
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)


def motion_episode(motion: G1Motion, control_mode: str = DEFAULT_MODE) -> NeonEpisode:
    """An episode whose actions are in `control_mode`'s layout, with "proprio" (125) and "eef" (14) by kinematics.

    Raises ValueError for an empty motion, other shapes, or numbers that are not finite.
    """
    steps = len(motion.joint_target)
    velocity = np.zeros((steps, 3)) if motion.velocity is None else np.asarray(motion.velocity, np.float64)
    arrays = {"action": motion.joint_target, "state": motion.joint_pos, "velocity": velocity}
    for name, width in {"action": 29, "state": 29, "velocity": 3}.items():
        require_finite(name, arrays[name], (steps, width))
    space = G1ActionSpace(control_mode)
    pos, quat_wxyz = palm_poses(motion.joint_pos)
    eef = np.concatenate([pos, quat_wxyz], axis=-1).reshape(steps, 14)
    seen = {"proprio": _proprio(motion, velocity), "eef": eef.astype(np.float32), **motion.observations}
    return NeonEpisode(
        observations=seen,
        actions=space.encode(motion.joint_target, velocity).astype(np.float32),
        instruction=motion.instruction,
        success=motion.success,
        infos=dict(motion.infos),
        rate_hz=motion.rate_hz,
        control_mode=str(space.control_mode),
    )


def require_finite(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError for an empty array, another shape, or a number that is not finite, naming the step."""
    if len(values) == 0:
        raise ValueError(f"{name} is empty. Remove this episode, or {SKIP_HINT}.")
    if values.shape != shape:
        raise ValueError(f"{name} should have the shape {shape}, it has {values.shape}.")
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        raise ValueError(f"{name} is not finite at step {int(bad.argmax())}. Repair it, or {SKIP_HINT}.")


def _proprio(motion: G1Motion, velocity: np.ndarray) -> np.ndarray:
    """(T, 125) float32 in the order of the environment's "proprio"."""
    joint_pos, steps = motion.joint_pos, len(motion.joint_pos)
    speed = np.gradient(joint_pos, axis=0) * motion.rate_hz if steps > 1 else np.zeros_like(joint_pos)
    last_target = np.concatenate([joint_pos[:1], motion.joint_target[:-1]])
    last_velocity = np.concatenate([np.zeros((1, 3)), velocity[:-1]])
    gyro, gravity = np.zeros((steps, 3)), np.tile([0.0, 0.0, -1.0], (steps, 1))
    if motion.root_quat_wxyz is not None:
        gyro, gravity = _turning(motion.root_quat_wxyz) * motion.rate_hz, gravity_in_body(motion.root_quat_wxyz)
    parts = (joint_pos, speed, np.zeros_like(joint_pos), last_target - joint_pos, gyro, gravity, last_velocity)
    return np.concatenate(parts, axis=1).astype(np.float32)


def _turning(quat_wxyz: np.ndarray) -> np.ndarray:
    """Rotation vector (T, 3) rad from each step to the next, in the body's frame; the last is repeated."""
    if len(quat_wxyz) < 2:
        return np.zeros((len(quat_wxyz), 3))
    between = quat_multiply(quat_conjugate(quat_wxyz[:-1]), quat_wxyz[1:])
    between = np.where(between[:, :1] < 0.0, -between, between)
    length = np.linalg.norm(between[:, 1:], axis=1, keepdims=True)
    angle = 2.0 * np.arctan2(length, between[:, :1])
    turned = between[:, 1:] * np.where(length > 1e-9, angle / np.maximum(length, 1e-9), 2.0)
    return np.concatenate([turned, turned[-1:]])


def make_mapper(
    names: Sequence[str], rename: Mapping[str, str | None] | None = None, where: str = "the source"
) -> ActionMapper:
    """An ActionMapper that maps at least one joint.

    Raises ValueError where no column is one of the G1's joints, saying what the columns are.
    """
    mapper = ActionMapper(names, rename)
    if not mapper.report.mapped:
        raise ValueError(
            f"None of the columns of {where} is a joint of the G1: {list(names)}. Say what they are with "
            "options={'names': [...]} or {'rename': {column: G1 joint}}; end-effector steps need use_relative_actions."
        )
    return mapper


def mapped_motion(
    action: np.ndarray, mapper: ActionMapper, state: np.ndarray | None, state_mapper: ActionMapper | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Named columns -> joint_target (T, 29), joint_pos (T, 29) rad and velocity (T, 3).

    Where no state was recorded, or a joint of it is missing, each target counts as reached when the next is given.
    """
    full = mapper(action, REST)
    target, velocity = full[:, :29], full[:, 29:]
    joint_pos = np.concatenate([target[:1], target[:-1]])
    if state is not None and state_mapper is not None:
        joint_pos = state_mapper(state, np.concatenate([joint_pos, velocity], axis=1))[:, :29]
    return target, joint_pos, velocity


def small_pictures(pictures: np.ndarray | Sequence[np.ndarray], size: int = PICTURE_SIZE) -> np.ndarray:
    """Pictures (T, H, W, 3) uint8, cut to their middle square and made smaller where they are larger than `size` px."""
    if len(pictures) and min(pictures[0].shape[:2]) <= size:
        return np.asarray(pictures)
    return np.stack([fit_picture(picture, size) for picture in pictures])

"""What the critic knows beside the policy's observation: the truth about the body, the ground and what hits it."""

from typing import Final, NamedTuple

import numpy as np

from neon_sim.locomotion.stepper import OBSERVATION_SIZE
from neon_sim.sim.batch import BatchPhysics, Truth
from neon_sim.walking.blows import Blows

_FORCE_UNIT: Final = 300.0  # N
_SOON: Final = 2.0  # s: what is further away in time looks the same

# In order: name, sign of each entry in a mirror. Entries named after both feet are swapped there, too.
_PARTS: Final[tuple[tuple[str, tuple[float, ...]], ...]] = (
    ("velocity", (1.0, -1.0, 1.0)),
    ("gyro", (-1.0, 1.0, -1.0)),
    ("height", (1.0,)),
    ("foot_force", (1.0, 1.0)),
    ("foot_height", (1.0, 1.0)),
    ("friction", (1.0,)),
    ("punch", (1.0, -1.0, 1.0)),
    ("punch_place", (1.0, -1.0, 1.0)),
    ("punch_torque", (-1.0, 1.0, -1.0)),
    ("punch_times", (1.0, 1.0, 1.0)),
    ("push", (1.0, -1.0)),
    ("push_time", (1.0,)),
    ("down", (1.0, -1.0)),
    ("delay", (1.0,)),
    ("slow_error", (1.0, -1.0, -1.0)),
)
EXTRA_SIGN: Final = np.concatenate([signs for _, signs in _PARTS])
CRITIC_SIZE: Final = OBSERVATION_SIZE + len(EXTRA_SIGN)


def _foot_swap() -> np.ndarray:
    swap: list[int] = []
    start = 0
    for name, signs in _PARTS:
        columns = range(start, start + len(signs))
        swap += reversed(columns) if name.startswith("foot") else columns
        start = columns.stop
    return np.array(swap)


EXTRA_SWAP: Final = _foot_swap()


class Blow(NamedTuple):
    """The punch that acts on each robot or is to come, and the next push."""

    force_w: np.ndarray  # (B, 3) N; 0 for those who are never punched
    place: np.ndarray  # (B, 3) m, where it lands, seen from the pelvis in the frame of the heading
    push_w: np.ndarray  # (B, 2) m/s


def privileged(
    truth: Truth,
    velocity: np.ndarray,
    slow_error: np.ndarray,
    blow: Blow,
    blows: Blows,
    physics: BatchPhysics,
) -> np.ndarray:
    """The truth (B, len(EXTRA_SIGN)), in the frame of each robot's heading.

    Args:
        truth: of the present.
        velocity: (B, 3) m/s, m/s, rad/s forward, left, turn.
        slow_error: (B, 3) what its slow average lacks to the command.
        blow: what is to be taken.
        blows: when.
        physics: whose ground and delays these are.
    """
    cos, sin = truth.heading

    def ahead(vector_w: np.ndarray) -> np.ndarray:
        """The same horizontal vector (B, 2) in the frame of the heading."""
        x, y = vector_w[:, 0], vector_w[:, 1]
        return np.stack([cos * x + sin * y, cos * y - sin * x], axis=1)

    punch = np.column_stack([ahead(blow.force_w), blow.force_w[:, 2]]) / _FORCE_UNIT
    comes = np.any(blow.force_w != 0.0, axis=1)
    return np.column_stack(
        [
            velocity[:, :2],
            truth.velocity_w[:, 2],
            truth.gyro,
            truth.pos_w[:, 2],
            truth.foot_force / _FORCE_UNIT,
            truth.foot_pos_w[..., 2] * 10.0,
            physics.friction,
            punch,
            blow.place * comes[:, None],
            np.cross(blow.place, punch) * 2.0,
            np.minimum(blows.until_punch, _SOON) * comes,
            np.minimum(blows.since_punch, _SOON),
            blows.steps_left,
            ahead(blow.push_w),
            np.minimum(blows.until_push, _SOON),
            ahead(physics.down_w),
            physics.delay * 0.2,
            slow_error,
        ]
    )


def mirror_privileged(extra: np.ndarray) -> np.ndarray:
    """What would be true (..., len(EXTRA_SIGN)) of the robot's mirror image."""
    return extra[..., EXTRA_SWAP] * EXTRA_SIGN

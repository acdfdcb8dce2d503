"""What the critic knows beside the policy's observation: the truth about the body, the ground and what hits it."""

from typing import Final

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
    ("punch_times", (1.0, 1.0, 1.0)),
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


def privileged(
    truth: Truth,
    velocity: np.ndarray,
    slow_error: np.ndarray,
    blows: Blows,
    punched: np.ndarray,
    physics: BatchPhysics,
) -> np.ndarray:
    """The truth (B, 24), in the frame of each robot's heading.

    Args:
        truth: of the present.
        velocity: (B, 3) m/s, m/s, rad/s forward, left, turn.
        slow_error: (B, 3) what its slow average lacks to the command.
        blows: that have been and are to come.
        punched: (B,) bool, who is ever punched.
        physics: whose ground and delays these are.
    """
    cos, sin = truth.heading
    punch = blows.force_w * (blows.steps_left > 0)[:, None] / _FORCE_UNIT
    down = physics.down_w
    return np.column_stack(
        [
            velocity[:, :2],
            truth.velocity_w[:, 2],
            truth.gyro,
            truth.pos_w[:, 2],
            truth.foot_force / _FORCE_UNIT,
            truth.foot_pos_w[..., 2] * 10.0,
            physics.friction,
            cos * punch[:, 0] + sin * punch[:, 1],
            cos * punch[:, 1] - sin * punch[:, 0],
            punch[:, 2],
            np.minimum(blows.until_punch, _SOON) * punched,
            np.minimum(blows.since_punch, _SOON),
            blows.steps_left,
            cos * down[:, 0] + sin * down[:, 1],
            cos * down[:, 1] - sin * down[:, 0],
            physics.delay * 0.2,
            slow_error,
        ]
    )


def mirror_privileged(extra: np.ndarray) -> np.ndarray:
    """What would be true (..., 24) of the robot's mirror image."""
    return extra[..., EXTRA_SWAP] * EXTRA_SIGN

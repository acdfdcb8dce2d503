"""Numbers as the robot's wire carries them, float32, in arrays that stay float64."""

from dataclasses import replace
from typing import Any

import numpy as np

from neon_sim.g1.geometry import gravity_in_body
from neon_sim.robot import RobotState


def single(values: np.ndarray) -> np.ndarray:
    """The nearest float32 numbers, as float64, in a new array of the same shape."""
    return values.astype(np.float32).astype(np.float64)


def rounded(state: RobotState) -> RobotState:
    """A state as a robot's wire carries it, with gravity worked out of the rounded orientation."""
    names = ("joint_pos", "joint_vel", "joint_torque", "gyro", "quat_wxyz")
    numbers: dict[str, Any] = {name: single(getattr(state, name)) for name in names}
    return replace(state, **numbers, gravity_b=gravity_in_body(numbers["quat_wxyz"]))

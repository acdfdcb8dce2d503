"""The seam between one policy and many bodies: what a robot is asked, and what it answers.

`NeonG1Env` talks to a `Robot` and to nothing else. `SimRobot` answers out of MuJoCo, `UnitreeRobot` over DDS; the
`World` half (where objects truly are, faults, saved states) exists in simulation only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from neon_sim.g1 import kinematics


@dataclass(frozen=True)
class RobotState:
    """What the robot senses about itself at one instant. Arrays are the reader's own: nobody else writes them."""

    time_s: float
    joint_pos: np.ndarray  # (29,) rad, hardware order
    joint_vel: np.ndarray  # (29,) rad/s
    joint_torque: np.ndarray  # (29,) N m, estimated by the motors
    joint_target: np.ndarray  # (29,) rad, the last target that was really sent
    quat_wxyz: np.ndarray  # (4,) pelvis orientation in the world; yaw is relative to switch-on
    gyro: np.ndarray  # (3,) rad/s, pelvis frame
    gravity_b: np.ndarray  # (3,) unit vector of gravity in the pelvis frame; (0, 0, -1) when upright

    @cached_property
    def limb_poses(self) -> np.ndarray:
        """Each link in the pelvis frame (`kinematics.limb_poses`), worked out once for observation and walker alike."""
        return kinematics.limb_poses(self.joint_pos)


@dataclass(frozen=True)
class RobotCommand:
    """What the robot is asked to do for one control period."""

    joint_target: np.ndarray  # (29,) rad, hardware order; read where owned_mask is True
    owned_mask: np.ndarray  # (29,) bool; True = the caller commands this joint, False = the walker does
    kp: np.ndarray  # (29,) N m/rad
    kd: np.ndarray  # (29,) N m s/rad
    velocity: np.ndarray  # (3,) m/s, m/s, rad/s: forward, left, turn left
    height: float  # m, pelvis above the floor


@runtime_checkable
class Robot(Protocol):
    """A body with 29 joints, a clock and senses."""

    dt: float  # s, one control period
    max_velocity: np.ndarray  # (3,) m/s, m/s, rad/s that its walker can follow

    def reset(self, rng: np.random.Generator) -> RobotState:
        """Bring the robot to its home pose and return what it senses there."""

    def write(self, command: RobotCommand) -> RobotCommand:
        """Accept a command, let the walker fill the joints it owns, and return what was really sent."""

    def advance(self) -> None:
        """Let one control period pass."""

    def read(self) -> RobotState:
        """Return the newest state."""

    def sense(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the newest frame of each named sensor."""

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""


@runtime_checkable
class World(Protocol):
    """The truth that only a simulation knows."""

    def object_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) m and quaternion (4,) wxyz of a named body or site in the world frame."""

    def position(self, name: str) -> tuple[float, float, float]:
        """The position half of `object_pose` in plain floats: what a reward asks for in every step."""

    def place_object(self, name: str, pos_w: np.ndarray, quat_wxyz: np.ndarray | None = None) -> None:
        """Put a scene object (a mocap body, or a free one and then at rest) at a pose in the world frame."""

    def apply_fault(self, fault: Any) -> None:
        """Make something break, from the next control period on. `None` heals everything."""

    def get_state(self) -> Mapping[str, Any]:
        """Everything that the future depends on."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `get_state` returned; what follows is equal to the bit."""

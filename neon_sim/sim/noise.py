"""What the robot's own sensors add to the truth: white noise on joint encoders and IMU."""

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from neon_sim.g1 import joints
from neon_sim.names import require_deviations
from neon_sim.robot import RobotState

_POS = slice(0, joints.NUM_JOINTS)
_VEL = slice(joints.NUM_JOINTS, 2 * joints.NUM_JOINTS)
_GYRO = slice(_VEL.stop, _VEL.stop + 3)
_GRAVITY = slice(_GYRO.stop, _GYRO.stop + 3)
DRAW_SIZE = _GRAVITY.stop


@dataclass(frozen=True)
class SensorNoise:
    """Standard deviations of independent normal errors, drawn anew for every control period.

    The defaults are a choice, not a measurement of one robot. For comparison, what legged_gym trains with (uniform
    +-0.01 rad, +-1.5 rad/s, +-0.2 rad/s, +-0.05) has deviations of 0.006, 0.87, 0.12 and 0.03.

    Raises ValueError for a deviation that is negative or not finite.
    """

    joint_pos: float = 0.005  # rad
    joint_vel: float = 0.3  # rad/s
    gyro: float = 0.05  # rad/s
    gravity: float = 0.01  # per entry of the unit vector: rad of tilt

    def __post_init__(self) -> None:
        require_deviations(self, *(part.name for part in fields(self)))

    def scaled(self, factor: float) -> "SensorNoise":
        """All deviations times `factor`."""
        return SensorNoise(**{f.name: factor * getattr(self, f.name) for f in fields(self)})

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Standard normal numbers (DRAW_SIZE,) of one instant. Kept and given to `add`, it reads the same twice."""
        return rng.standard_normal(DRAW_SIZE)

    def add(self, state: RobotState, draw: np.ndarray) -> RobotState:
        """A new state with the errors of `draw` (DRAW_SIZE,) in it.

        Gravity stays a unit vector, and the orientation gets the roll and pitch of the noisy gravity; its heading is
        kept. Torques, targets and time are left alone. `limb_poses` follow from the noisy encoders.
        """
        gravity_b = state.gravity_b + self.gravity * draw[_GRAVITY]
        gravity_b /= np.sqrt(gravity_b @ gravity_b)
        return replace(
            state,
            joint_pos=state.joint_pos + self.joint_pos * draw[_POS],
            joint_vel=state.joint_vel + self.joint_vel * draw[_VEL],
            gyro=state.gyro + self.gyro_error(draw),
            gravity_b=gravity_b,
            quat_wxyz=_lean(state.quat_wxyz, gravity_b),
        )

    def gyro_error(self, draw: np.ndarray) -> np.ndarray:
        """What `add` adds to the gyro: (3,) rad/s."""
        return self.gyro * draw[_GYRO]

    def measure(self, state: RobotState, rng: np.random.Generator) -> RobotState:
        """`add` of a fresh `draw`."""
        return self.add(state, self.draw(rng))


def _lean(quat_wxyz: np.ndarray, gravity_b: np.ndarray) -> np.ndarray:
    """The orientation (4,) that has the heading of one and the roll and pitch of a unit gravity vector (3,).

    In plain floats: a tenth of the time of going through matrices, 50 times a second.
    """
    w, x, y, z = quat_wxyz.tolist()
    gx, gy, gz = gravity_b.tolist()
    yaw = 0.5 * math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
    pitch = 0.5 * math.asin(min(max(gx, -1.0), 1.0))
    roll = 0.5 * math.atan2(-gy, -gz)
    sr, sp, sy, cr, cp, cy = *map(math.sin, (roll, pitch, yaw)), *map(math.cos, (roll, pitch, yaw))
    return np.array(
        (
            cy * cp * cr + sy * sp * sr,
            cy * cp * sr - sy * sp * cr,
            cy * sp * cr + sy * cp * sr,
            sy * cp * cr - cy * sp * sr,
        )
    )

"""rt/arm_sdk: a client takes arms and waist out of the walker's hands, by a weight that goes from 0 to 1 and back."""

from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.real.bridge.motors import Motors, blended, ordered

WEIGHT_SLOT: Final = 29  # motor_cmd[29].q carries the weight: unitree_sdk2_python 37116c52 g1_arm7_sdk_dds_example
RELEASE_S: Final = 1.0  # how long a full weight takes to go when the client falls silent, as that example's release
_UPPER = np.zeros(joints.NUM_JOINTS, dtype=bool)
_UPPER[np.concatenate([joints.GROUPS["waist"], joints.GROUPS["arms"]])] = True


class ArmOverlay:
    """What a client last asked of the upper body, and how much it counts.

    A joint without gains stays with the walker: so a client of the arms alone leaves the waist where it is. Modes are
    not read, because the vendor's example leaves them at 0.
    """

    def __init__(self) -> None:
        self.weight = 0.0
        self._motors: Motors | None = None
        self._joints = np.zeros(joints.NUM_JOINTS, dtype=bool)

    @property
    def owned(self) -> np.ndarray:
        """(29,) bool: the joints that the client has a hand on."""
        return self._joints & (self.weight > 0.0)

    def take(self, command: np.ndarray) -> None:
        """Accept a LowCmd record."""
        self.weight = float(np.clip(command["motor_cmd"]["q"][WEIGHT_SLOT], 0.0, 1.0))
        self._motors = ordered(command)
        self._joints = _UPPER & ((self._motors.kp > 0.0) | (self._motors.kd > 0.0))

    def fade(self, dt: float) -> None:
        """Let the weight go: the client has been silent for another `dt` seconds."""
        self.weight = max(0.0, self.weight - dt / RELEASE_S)

    def drop(self) -> None:
        """Let it go at once."""
        self.weight, self._motors = 0.0, None

    def over(self, own: Motors) -> Motors:
        """Mix the client's order into the robot's own."""
        if self._motors is None or self.weight <= 0.0:
            return own
        return blended(own, self._motors, self.weight * self._joints)

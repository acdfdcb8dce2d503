"""What the walker was last told, and what becomes of it when nothing new comes."""

from typing import Final, NamedTuple

import numpy as np

VELOCITY_LASTS_S: Final = 1.0  # how long one command moves the robot: the vendor's LocoClient.Move stops after 1 s


class Order(NamedTuple):
    """The walker's arguments, in copies that nobody else writes to."""

    walk: np.ndarray  # (4,) vx, vy m/s, yaw rate rad/s, height m
    owned_mask: np.ndarray  # (29,) bool
    targets: np.ndarray  # (29,) rad

    def at_age(self, age_s: float) -> "Order":
        """What holds `age_s` seconds later: the same, but the robot stands once a velocity has lasted long enough."""
        if age_s < VELOCITY_LASTS_S - 1e-9:
            return self
        return self._replace(walk=self.walk * (0.0, 0.0, 0.0, 1.0))

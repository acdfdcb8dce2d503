"""Latency: targets on their way to the motors, and readings on their way to the computer, to one physics step."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

_KEPT: Final = 12  # control periods of targets and readings at the least: a latency that is added later finds them


class Reading(NamedTuple):
    """What encoders, motors and IMU measured at one instant; the reader's own arrays."""

    quat_wxyz: np.ndarray  # (4,)
    joint_pos: np.ndarray  # (29,) rad
    joint_vel: np.ndarray  # (29,) rad/s
    joint_torque: np.ndarray  # (29,) N m
    gyro: np.ndarray  # (3,) rad/s


class Leg(NamedTuple):
    """A piece of a control period in which nothing changes."""

    steps: int  # physics steps
    target: np.ndarray  # (29,) rad that the motors follow meanwhile
    look: bool  # whether a reading is taken at its end


class Latency:
    """Two delay lines of one robot.

    Args:
        substeps: physics steps in a control period.
        action, sensing: physics steps of delay.
        target: (29,) rad that the motors follow until the first one arrives.
    """

    def __init__(self, substeps: int, action: int, sensing: int, target: np.ndarray) -> None:
        self.substeps, self.action, self.sensing = substeps, action, sensing
        self._sent = [target.copy()]  # newest first
        self._seen: list[Reading] = []  # newest first

    def send(self, target: np.ndarray) -> None:
        """A target (29,) rad leaves the computer now."""
        self._sent = [target.copy(), *self._sent[: self._kept(self.action) - 1]]

    def see(self, reading: Reading) -> None:
        """A reading is taken now."""
        self._seen = [reading, *self._seen[: self._kept(self.sensing) - 1]]

    def plan(self) -> list[Leg]:
        """The next control period in one to three pieces."""
        whole, rest = divmod(self.action, self.substeps)
        look = self.substeps - self.sensing % self.substeps
        ends = sorted({rest, look, self.substeps} - {0})
        legs, start = [], 0
        for end in ends:
            age = whole + (start < rest)
            legs.append(Leg(end - start, self._sent[min(age, len(self._sent) - 1)], end == look))
            start = end
        return legs

    def newest(self) -> Reading | None:
        """What has arrived at the end of a control period; None before the first."""
        if not self._seen:
            return None
        return self._seen[min(self.sensing // self.substeps, len(self._seen) - 1)]

    def _kept(self, delay: int) -> int:
        """How many of a line's entries a delay of so many physics steps may ask for."""
        return max(_KEPT, delay // self.substeps + 2)

    def get_state(self) -> dict[str, Any]:
        """Both lines; what is in them is never written to."""
        return {"delays": (self.action, self.sensing), "sent": tuple(self._sent), "seen": tuple(self._seen)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned."""
        self.action, self.sensing = state["delays"]
        self._sent, self._seen = list(state["sent"]), list(state["seen"])

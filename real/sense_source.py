"""What every sense of a real robot has in common: a source that knows where it is to be had, and a receiver of it.

A source is a frozen config, as a sensor's is in simulation, and opens a receiver for the simulation's config of the
same sense: that one says what a frame looks like, so that a policy sees the same arrays in both worlds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from neon_sim.real.transport import Link


@dataclass(frozen=True)
class Place:
    """The network as a source needs it."""

    link: Callable[[], Link]  # opened when the first source asks for it
    interface: str  # its name, or an IPv4 address on it


class Receiver(Protocol):
    """One sense of one robot, as it comes over the network."""

    def look(self, now_s: float, joint_pos: np.ndarray) -> np.ndarray | None:
        """Return the newest frame in the sense's space, None when nothing new has come. It never waits.

        now_s: the robot's own clock. joint_pos: (29,) rad, for a sense that must tell the robot from the room.

        Raises:
            WireError: what came cannot be read.
        """

    def close(self) -> None:
        """Let go of it. Safe to call twice."""


class Source(Protocol):
    """Frozen settings of one sense of a robot."""

    def open(self, wanted: Any, place: Place) -> Receiver:
        """Begin to receive. wanted: the simulation's config of this sense.

        Raises:
            ValueError: wanted is something that this source cannot give.
        """

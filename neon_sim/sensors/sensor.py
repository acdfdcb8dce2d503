"""What every sense has in common: a config that knows its space, and a sensor that takes frames of a simulation.

Spaces hang on the config, so that an environment has them with no robot there. Configs pickle; sensors may hold a
GL context or a ray buffer and do not.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import nearest

RATE_HZ: Final = (0.001, 10_000.0)  # that a sense may have
LATENCY_S: Final = (0.0, 10.0)


@runtime_checkable
class Sensor(Protocol):
    """A sense of one simulated robot."""

    @property
    def rate_hz(self) -> float:
        """How often a new frame is due, in simulated time. Who calls `capture` keeps the frame in between."""

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode. All later randomness is drawn from a stream seeded by one draw of `rng`."""

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Take the frame at `time_s`: a fresh array in the config's space. `data` must hold current body poses."""

    def get_state(self) -> dict[str, Any]:
        """Everything that later frames depend on, as the caller's own copy."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`; what follows is equal to the bit."""

    def close(self) -> None:
        """Free what is held outside Python. Safe to call twice."""


@runtime_checkable
class SensorConfig(Protocol):
    """Frozen settings of one sensor."""

    @property
    def rate_hz(self) -> float:
        """How often a new frame is due, in simulated time."""

    @property
    def latency_s(self) -> float:
        """How old a frame is at the least when the robot's computer has it."""

    def space(self) -> gymnasium.spaces.Box:
        """The space that every frame lies in."""

    def build(self, model: mujoco.MjModel) -> Sensor:
        """Make the sensor for one compiled model. Raises ValueError if the model lacks the mount."""


def find_id(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> int:
    """Id of a named body, geom, site or camera. Raises ValueError with the closest name if there is none."""
    found = mujoco.mj_name2id(model, int(kind), name)
    if found >= 0:
        return found
    label = kind.name.removeprefix("mjOBJ_").lower()
    count = {"body": model.nbody, "geom": model.ngeom, "site": model.nsite, "camera": model.ncam}[label]
    names = (mujoco.mj_id2name(model, int(kind), i) for i in range(count))
    raise nearest(label, name, [n for n in names if n])

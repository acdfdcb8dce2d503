"""Where the base is, as a GPS-like receiver says it: noisy, and wandering."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import require_deviations, require_numbers
from neon_sim.sensors.sensor import LATENCY_S, RATE_HZ, find_id
from neon_sim.sensors.vector_sensor import VectorSensor, vector_space

POSITION_LIMIT: Final = 1000.0  # m from the world's origin


@dataclass(frozen=True)
class GpsConfig:
    """Settings of the receiver.

    The defaults are a choice of the order of a differential (RTK) receiver: centimetres of noise, and an error that
    wanders by decimetres within minutes. A stand-alone receiver errs by metres: `drift_m=1.5`.

    Raises ValueError for a deviation or a time that cannot be.
    """

    body: str = "pelvis"
    noise_m: float = 0.02  # 1 sigma on each axis of every frame
    drift_m: float = 0.1  # 1 sigma of the wandering error, a first-order Gauss-Markov process
    drift_time_s: float = 60.0  # in which it forgets all but 1/e of where it was
    rate_hz: float = 10.0
    latency_s: float = 0.0  # from the instant a frame is taken to the computer; not measured on the robot

    def __post_init__(self) -> None:
        require_deviations(self, "noise_m", "drift_m")
        require_numbers(self, drift_time_s=(0.001, 1e6), rate_hz=RATE_HZ, latency_s=LATENCY_S)

    def space(self) -> gymnasium.spaces.Box:
        """(3,) float32 m in the world frame."""
        return vector_space(np.full(3, POSITION_LIMIT))

    def build(self, model: mujoco.MjModel) -> "Gps":
        """Make the receiver. Raises ValueError if the model lacks the body."""
        return Gps(self, model)


class Gps(VectorSensor):
    """The position of a body, plus an error that remembers where it was."""

    def __init__(self, config: GpsConfig, model: mujoco.MjModel) -> None:
        super().__init__(
            config.rate_hz, np.full(3, POSITION_LIMIT), np.full(3, config.noise_m), np.full(3, config.drift_m)
        )
        self.config = config
        self._body = find_id(model, mujoco.mjtObj.mjOBJ_BODY, config.body)
        self._last_s: float | None = None  # when the error was last moved on

    def reset(self, rng: np.random.Generator) -> None:
        """Draw where the wandering error begins."""
        super().reset(rng)
        self._last_s = None

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """(3,) float32 m in the world frame."""
        if self.config.drift_m > 0.0 and self._last_s is not None:
            kept = np.exp(-(time_s - self._last_s) / self.config.drift_time_s)
            fresh = self.config.drift_m * np.sqrt(1.0 - kept**2)
            self._bias = kept * self._bias + fresh * self._rng.standard_normal(3)
        self._last_s = time_s
        return super().capture(data, time_s)

    def measure(self, data: mujoco.MjData) -> np.ndarray:
        """The true position (3,) m."""
        return data.xpos[self._body].copy()

    def get_state(self) -> dict[str, Any]:
        """Error, when it was moved on, and the noise stream."""
        return {**super().get_state(), "last_s": self._last_s}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        super().set_state(state)
        self._last_s = state["last_s"]

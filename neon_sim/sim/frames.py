"""The newest frame of each sensor of one robot, taken when it is due and repeated until the next one is."""

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from neon_sim.names import nearest
from neon_sim.sensors.sensor import Sensor, SensorConfig


class Frames:
    """Sensors, and what they saw last.

    Args:
        model: that they are mounted in.
        configs: of each sensor, by name.

    Attributes:
        lost: names of sensors that give zeros.
    """

    def __init__(self, model: mujoco.MjModel, configs: Mapping[str, SensorConfig]) -> None:
        self.configs = dict(configs)
        self._sensors: dict[str, Sensor] = {name: config.build(model) for name, config in configs.items()}
        self._frames: dict[str, np.ndarray] = {}
        self._next_capture_s: dict[str, float] = {}
        self.lost: frozenset[str] = frozenset()

    def reset(self, rng: np.random.Generator) -> None:
        """A new episode: every frame is due."""
        for sensor in self._sensors.values():
            sensor.reset(rng)
        self._frames.clear()
        self._next_capture_s.clear()

    def sensor(self, name: str) -> Sensor:
        """One of them. Raises ValueError with the nearest name if there is none."""
        if name not in self._sensors:
            raise nearest("sensor", name, self._sensors)
        return self._sensors[name]

    def sense(self, names: Sequence[str], data: mujoco.MjData) -> dict[str, np.ndarray]:
        """A copy of each named sensor's newest frame."""
        frames = {}
        for name in names:
            sensor = self.sensor(name)
            if data.time >= self._next_capture_s.get(name, -np.inf) - 1e-9:
                self._capture(name, sensor, data)
            frames[name] = np.zeros_like(self._frames[name]) if name in self.lost else self._frames[name].copy()
        return frames

    def get_state(self) -> dict[str, Any]:
        """Everything that later frames depend on."""
        return {
            "sensors": {name: sensor.get_state() for name, sensor in self._sensors.items()},
            "frames": {name: frame.copy() for name, frame in self._frames.items()},
            "next_capture_s": dict(self._next_capture_s),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned."""
        for name, sensor in self._sensors.items():
            sensor.set_state(state["sensors"][name])
        self._frames = {name: frame.copy() for name, frame in state["frames"].items()}
        self._next_capture_s = dict(state["next_capture_s"])

    def close(self) -> None:
        """Free the renderers."""
        for sensor in self._sensors.values():
            sensor.close()

    def _capture(self, name: str, sensor: Sensor, data: mujoco.MjData) -> None:
        now_s = data.time
        self._frames[name] = sensor.capture(data, now_s)
        # The schedule is kept, not restarted, so that 30 Hz on a 50 Hz clock is 30 Hz on average.
        due_s = self._next_capture_s.get(name, now_s)
        self._next_capture_s[name] = max(due_s, now_s - 1.0 / sensor.rate_hz) + 1.0 / sensor.rate_hz

"""The newest frame of each sensor of one robot that has arrived, taken when it is due and repeated in between."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.names import nearest
from neon_sim.sensors.audio import Microphone
from neon_sim.sensors.imu import GYRO_LIMIT
from neon_sim.sensors.sensor import Sensor, SensorConfig

IMU: Final = "imu"  # the key of what encoders and IMU of the robot's own state share noise and latency with


class Frames:
    """Sensors, and what they saw last.

    A frame is served from the first `sense` on at which it is `latency_s` old, and before any is, the first one; so
    latency counts in control periods. A microphone's window ends that much earlier by itself, and is not delayed again.

    Args:
        model: that they are mounted in.
        configs: of each sensor, by name.

    Attributes:
        lost: names of sensors that give zeros.
        added_latency_s: s that the frames of a sensor take longer than its config says, by name.
    """

    def __init__(self, model: mujoco.MjModel, configs: Mapping[str, SensorConfig]) -> None:
        self.configs = dict(configs)
        self._sensors: dict[str, Sensor] = {name: config.build(model) for name, config in configs.items()}
        self._latency_s = {
            name: 0.0 if isinstance(sensor, Microphone) else configs[name].latency_s
            for name, sensor in self._sensors.items()
        }
        self._lines: dict[str, list[tuple[float, np.ndarray]]] = {}  # when taken and what, the one to be served first
        self._next_capture_s: dict[str, float] = {}
        self.lost: frozenset[str] = frozenset()
        self.added_latency_s: dict[str, float] = {}

    def reset(self, rng: np.random.Generator) -> None:
        """A new episode: every frame is due."""
        for sensor in self._sensors.values():
            sensor.reset(rng)
        self._lines.clear()
        self._next_capture_s.clear()

    def sensor(self, name: str) -> Sensor:
        """One of them. Raises ValueError with the nearest name if there is none."""
        if name not in self._sensors:
            raise nearest("sensor", name, self._sensors)
        return self._sensors[name]

    def sense(
        self, names: Sequence[str], data: mujoco.MjData, gyro_error: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """A copy of each named sensor's newest frame that has arrived.

        gyro_error: (3,) rad/s that the IMU's gyro is off just now; None = nothing.
        """
        frames = {}
        for name in names:
            sensor = self.sensor(name)
            if data.time >= self._next_capture_s.get(name, -np.inf) - 1e-9:
                self._capture(name, sensor, data, gyro_error)
            frame = self._arrived(name, data.time)
            frames[name] = np.zeros_like(frame) if name in self.lost else frame.copy()
        return frames

    def get_state(self) -> dict[str, Any]:
        """Everything that later frames depend on."""
        return {
            "sensors": {name: sensor.get_state() for name, sensor in self._sensors.items()},
            "lines": {name: [(time_s, frame.copy()) for time_s, frame in line] for name, line in self._lines.items()},
            "next_capture_s": dict(self._next_capture_s),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned. Latency is the robot's to set: it follows from draw and faults."""
        for name, sensor in self._sensors.items():
            sensor.set_state(state["sensors"][name])
        self._lines = {name: [(at_s, frame.copy()) for at_s, frame in line] for name, line in state["lines"].items()}
        self._next_capture_s = dict(state["next_capture_s"])

    def close(self) -> None:
        """Free the renderers."""
        for sensor in self._sensors.values():
            sensor.close()

    def _capture(self, name: str, sensor: Sensor, data: mujoco.MjData, gyro_error: np.ndarray | None) -> None:
        now_s = data.time
        frame = sensor.capture(data, now_s)
        if name == IMU and gyro_error is not None:
            frame[:3] = np.clip(frame[:3] + gyro_error, -GYRO_LIMIT, GYRO_LIMIT)
        self._lines.setdefault(name, []).append((now_s, frame))
        # The schedule is kept, not restarted, so that 30 Hz on a 50 Hz clock is 30 Hz on average.
        due_s = self._next_capture_s.get(name, now_s)
        self._next_capture_s[name] = max(due_s, now_s - 1.0 / sensor.rate_hz) + 1.0 / sensor.rate_hz

    def _arrived(self, name: str, now_s: float) -> np.ndarray:
        """The newest frame that is old enough, or the oldest there is; older ones are let go of."""
        line = self._lines[name]
        taken_by_s = now_s - self._latency_s[name] - self.added_latency_s.get(name, 0.0) + 1e-9
        while len(line) > 1 and line[1][0] <= taken_by_s:
            line.pop(0)
        return line[0][1]

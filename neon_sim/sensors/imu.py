"""The IMU: angular velocity and acceleration, as the gyro and accelerometer of the model sense them."""

from dataclasses import dataclass
from typing import Final

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import nearest, require_deviations, require_numbers
from neon_sim.sensors.sensor import LATENCY_S, RATE_HZ
from neon_sim.sensors.vector_sensor import VectorSensor, vector_space

MOUNTS: Final = ("pelvis", "torso")
GYRO_LIMIT, ACCELERATION_LIMIT = 34.9, 157.0  # rad/s, m/s^2: cutoffs of the official MJCF
_LIMIT = np.repeat([GYRO_LIMIT, ACCELERATION_LIMIT], 3)


@dataclass(frozen=True)
class ImuConfig:
    """Settings of the IMU.

    The official MJCF gives the noise as 5e-4 rad/s and 1e-2 m/s^2; no source gives a bias. Frames at 50 Hz, one a
    control step (the robot sends its IMU at 500 Hz). The reading is of the last physics step's beginning; before the
    first one of an episode (`settle_s=0`) there is none, and it is all zeros.

    Raises ValueError for an unknown mount, a rate out of range, and a deviation that is negative or not finite.
    """

    mount: str = "pelvis"  # or "torso"
    gyro_noise: float = 0.0  # rad/s, 1 sigma in every frame, as the next
    acceleration_noise: float = 0.0  # m/s^2
    gyro_bias: float = 0.0  # rad/s, 1 sigma of a constant per episode, as the next
    acceleration_bias: float = 0.0  # m/s^2
    rate_hz: float = 50.0
    latency_s: float = 0.0  # from the instant a frame is taken to the computer; not measured on the robot

    def __post_init__(self) -> None:
        if self.mount not in MOUNTS:
            raise nearest("IMU mount", self.mount, MOUNTS)
        require_numbers(self, rate_hz=RATE_HZ, latency_s=LATENCY_S)
        require_deviations(self, "gyro_noise", "acceleration_noise", "gyro_bias", "acceleration_bias")

    def space(self) -> gymnasium.spaces.Box:
        """(6,) float32 in the mount's frame: gyro rad/s, then acceleration m/s^2, +9.81 upwards at rest."""
        return vector_space(_LIMIT)

    def build(self, model: mujoco.MjModel) -> "Imu":
        """Make the IMU. Raises ValueError if the model lacks its two sensors."""
        return Imu(self, model)


class Imu(VectorSensor):
    """Reads two sensors of the model."""

    def __init__(self, config: ImuConfig, model: mujoco.MjModel) -> None:
        noise = np.repeat([config.gyro_noise, config.acceleration_noise], 3)
        bias = np.repeat([config.gyro_bias, config.acceleration_bias], 3)
        super().__init__(config.rate_hz, _LIMIT, noise, bias)
        self._gyro = _address(model, f"imu-{config.mount}-angular-velocity")
        self._acceleration = _address(model, f"imu-{config.mount}-linear-acceleration")

    def measure(self, data: mujoco.MjData) -> np.ndarray:
        """Gyro and accelerometer (6,), without errors."""
        return np.concatenate((data.sensordata[self._gyro], data.sensordata[self._acceleration]))


def _address(model: mujoco.MjModel, name: str) -> slice:
    sensor = mujoco.mj_name2id(model, int(mujoco.mjtObj.mjOBJ_SENSOR), name)
    if sensor < 0:
        raise nearest("sensor of the model", name, [model.sensor(i).name for i in range(model.nsensor)])
    first = int(model.sensor_adr[sensor])
    return slice(first, first + 3)

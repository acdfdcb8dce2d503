"""LiDAR: a Livox Mid-360's field of view, thinned to a fixed number of points per frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np

from neon_sim.sensors.ray_renderer import Shell, cast_rays
from neon_sim.sensors.sensor import find_id

# Steps of the two-dimensional golden ratio (Roberts' R2 sequence): g**3 = g + 1, steps 1/g and 1/g**2. Any run of
# consecutive terms covers the square evenly, so a later frame falls into the gaps of the earlier ones.
_GOLDEN = 1.32471795724474602596
_STEP = np.array([1.0 / _GOLDEN, 1.0 / _GOLDEN**2])


@dataclass(frozen=True)
class LidarConfig:
    """Settings of the LiDAR.

    Livox's data sheet of the Mid-360: 360 x [-7, 52] deg, 40 m on 10 % reflective targets, blind below 0.1 m,
    10 frames/s, range noise up to 0.02 m (1 sigma, at 10 m), 20000 points a frame (1024 are enough for a policy).
    """

    site: str = "mid360"  # where the sensor sits; elevation is measured from this site's xy plane towards its +z
    frame_body: str = "torso_link"  # points are given in this body's frame
    num_points: int = 1024
    rate_hz: float = 10.0
    min_range_m: float = 0.1
    max_range_m: float = 40.0
    min_elevation_deg: float = -7.0
    max_elevation_deg: float = 52.0
    range_noise_m: float = 0.0  # 1 sigma

    def __post_init__(self) -> None:
        if self.num_points < 1 or self.rate_hz <= 0:
            raise ValueError(f"A LiDAR needs points and a rate, got {self.num_points} at {self.rate_hz} Hz.")
        if not 0 <= self.min_range_m < self.max_range_m:
            raise ValueError(f"Ranges must be 0 <= min < max, got {self.min_range_m} and {self.max_range_m} m.")

    def space(self) -> gymnasium.spaces.Box:
        """(num_points * 3,) float32 m: x, y, z of each point in the frame body; a miss is exactly 0, 0, 0."""
        return gymnasium.spaces.Box(-self.max_range_m, self.max_range_m, (self.num_points * 3,), np.float32)

    def build(self, model: mujoco.MjModel) -> "Lidar":
        """Make the LiDAR. Raises ValueError if the model lacks the site or the frame body."""
        return Lidar(self, model)


def scan_directions(config: LidarConfig, frame: int) -> np.ndarray:
    """Unit rays (num_points, 3) of one frame in the sensor's frame, even in solid angle; no two frames are the same."""
    index = np.arange(frame * config.num_points, (frame + 1) * config.num_points, dtype=np.float64)
    azimuth_turns, height_fraction = np.mod(index[:, None] * _STEP + 0.5, 1.0).T
    azimuth = 2.0 * np.pi * azimuth_turns
    low, high = np.sin(np.radians([config.min_elevation_deg, config.max_elevation_deg]))
    up = low + (high - low) * height_fraction
    flat = np.sqrt(1.0 - up**2)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), up], axis=1)


class Lidar:
    """Casts a frame of rays from the site. The robot's own surfaces block the view but give no points."""

    def __init__(self, config: LidarConfig, model: mujoco.MjModel) -> None:
        self.config, self._model = config, model
        self._site = find_id(model, mujoco.mjtObj.mjOBJ_SITE, config.site)
        self._body = find_id(model, mujoco.mjtObj.mjOBJ_BODY, config.frame_body)
        mount = int(model.site_bodyid[self._site])
        self._shell = Shell(model, mount)
        root = int(model.body_rootid[mount])
        # Geoms of the tree that the sensor is bolted to; a sensor on the world itself belongs to no robot.
        self._is_own = (model.body_rootid[model.geom_bodyid] == root) & (root != 0)
        self._frame = 0
        self._rng = np.random.default_rng(0)

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self.config.rate_hz

    def reset(self, rng: np.random.Generator) -> None:
        """Begin at a random phase of the scan pattern, as a sensor that was switched on long ago."""
        self._frame = int(rng.integers(1 << 20))
        self._rng = np.random.default_rng(rng.integers(1 << 63))

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Take a frame: (num_points * 3,) float32 m in the frame body, misses 0. Moves the scan pattern on."""
        config = self.config
        origin_w = data.site_xpos[self._site].copy()
        rays_w = scan_directions(config, self._frame) @ data.site_xmat[self._site].reshape(3, 3).T
        self._frame += 1
        with self._shell.hidden(data, origin_w):
            geom, distance, _ = cast_rays(self._model, data, origin_w, rays_w, config.max_range_m)
        seen = (geom >= 0) & (distance >= config.min_range_m) & (distance <= config.max_range_m)
        seen[seen] = ~self._is_own[geom[seen]]
        if config.range_noise_m > 0.0:
            distance += self._rng.normal(0.0, config.range_noise_m, len(distance))
        points_w = origin_w + rays_w * distance[:, None] - data.xpos[self._body]
        points = points_w @ data.xmat[self._body].reshape(3, 3)
        # The sensor sits off the body's origin, so that a point in range may still lie outside the space.
        seen &= np.abs(points).max(axis=1) <= config.max_range_m
        points[~seen] = 0.0
        return points.astype(np.float32).reshape(-1)

    def get_state(self) -> dict[str, Any]:
        """The phase of the scan pattern and the noise stream."""
        return {"frame": self._frame, "rng": self._rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        self._frame = state["frame"]
        self._rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """Nothing to free."""

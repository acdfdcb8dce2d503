"""LiDAR: a Livox Mid-360's field of view; a fixed few points of each frame for learning, all of them for recordings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import require_counts, require_numbers
from neon_sim.sensors.ray_renderer import Shell, cast_rays, geom_rgb, mean_texture_rgb
from neon_sim.sensors.sensor import LATENCY_S, RATE_HZ, find_id

# Steps of the two-dimensional golden ratio (Roberts' R2 sequence): g**3 = g + 1, steps 1/g and 1/g**2. Any run of
# consecutive terms covers the square evenly, so a later frame falls into the gaps of the earlier ones.
_GOLDEN = 1.32471795724474602596
_STEP: Final = (1.0 / _GOLDEN, 1.0 / _GOLDEN**2)
WHITE: Final = 150.0  # Livox's reflectivity of a white diffuse surface; above it are retroreflectors, which we have not


@dataclass(frozen=True)
class LidarConfig:
    """Settings of the LiDAR.

    Livox's data sheet of the Mid-360: 360 x [-7, 52] deg, 40 m on 10 % reflective targets, blind below 0.1 m,
    10 frames/s, range noise up to 0.02 m (1 sigma, at 10 m), 200,000 points/s, so 20,000 a frame. Learning takes the
    first `num_points` of each frame, which cover the field of view as evenly as all do; only their rays are cast.
    """

    site: str = "mid360"  # where the sensor sits; elevation is measured from this site's xy plane towards its +z
    frame_body: str = "torso_link"  # points are given in this body's frame
    num_points: int = 1024
    frame_points: int = 20_000
    rate_hz: float = 10.0
    min_range_m: float = 0.1
    max_range_m: float = 40.0
    min_elevation_deg: float = -7.0
    max_elevation_deg: float = 52.0
    range_noise_m: float = 0.0  # 1 sigma
    dropout: float = 0.0  # share of the returns that get lost, anew in every frame
    latency_s: float = 0.0  # from the instant a frame is taken to the computer; not measured on the robot

    def __post_init__(self) -> None:
        require_counts(self, num_points=(1, 10**6), frame_points=(1, 10**6))
        require_numbers(
            self, rate_hz=RATE_HZ, latency_s=LATENCY_S, min_range_m=(0.0, 1000.0), max_range_m=(0.0, 1000.0)
        )
        require_numbers(self, min_elevation_deg=(-90.0, 90.0), max_elevation_deg=(-90.0, 90.0))
        require_numbers(self, range_noise_m=(0.0, 100.0), dropout=(0.0, 1.0))
        if self.frame_points < self.num_points:
            raise ValueError(f"A frame of {self.frame_points} points has no {self.num_points}: raise frame_points.")
        if self.min_range_m >= self.max_range_m:
            raise ValueError(f"Ranges must be 0 <= min < max, got {self.min_range_m} and {self.max_range_m} m.")
        low, high = self.min_elevation_deg, self.max_elevation_deg
        if low >= high:
            raise ValueError(f"Elevations must be min_elevation_deg < max_elevation_deg, got {low} and {high} degrees.")

    def space(self) -> gymnasium.spaces.Box:
        """(num_points * 3,) float32 m: x, y, z of each point in the frame body; a miss is exactly 0, 0, 0."""
        return gymnasium.spaces.Box(-self.max_range_m, self.max_range_m, (self.num_points * 3,), np.float32)

    def build(self, model: mujoco.MjModel) -> "Lidar":
        """Make the LiDAR. Raises ValueError if the model lacks the site or the frame body."""
        return Lidar(self, model)


class ScanPattern:
    """The directions of a frame, even in solid angle; no two frames are the same."""

    def __init__(self, config: LidarConfig) -> None:
        self._frame_points = config.frame_points
        low, high = np.sin(np.radians([config.min_elevation_deg, config.max_elevation_deg]))
        turns, height = np.mod(np.arange(config.frame_points)[:, None] * np.array(_STEP) + 0.5, 1.0).T
        self._high, self._span = high, high - low
        self._up = low + self._span * height  # z of the unit rays of frame 0
        self._around = np.stack([np.cos(2.0 * np.pi * turns), np.sin(2.0 * np.pi * turns)])

    def rays(self, frame: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `count` unit rays of a frame as (count, 3), and the (3, 3) matrix that turns them to the sensor.

        A later frame is the first one, further on in the sequence: lifted, wrapping round, and turned about the axis.
        """
        turn, lift = (frame * self._frame_points * step % 1.0 for step in _STEP)
        rays = np.empty((3, count))  # each axis in one piece of memory: loops of three turns are slow
        up = np.add(self._up[:count], lift * self._span, out=rays[2])
        up -= self._span * (up >= self._high)
        flat = up * up
        np.subtract(1.0, flat, out=flat)
        np.sqrt(flat, out=flat)
        np.multiply(flat, self._around[:, :count], out=rays[:2])
        cosine, sine = math.cos(2.0 * math.pi * turn), math.sin(2.0 * math.pi * turn)
        return rays.T, np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def scan_directions(config: LidarConfig, frame: int) -> np.ndarray:
    """Unit rays (num_points, 3) that learning sees of one frame, in the sensor's frame."""
    rays, turn = ScanPattern(config).rays(frame, config.num_points)
    return rays @ turn.T


class Lidar:
    """Casts a frame of rays from the site. The robot's own surfaces block the view but give no points."""

    def __init__(self, config: LidarConfig, model: mujoco.MjModel) -> None:
        self.config, self._model = config, model
        self._site = find_id(model, mujoco.mjtObj.mjOBJ_SITE, config.site)
        self._body = find_id(model, mujoco.mjtObj.mjOBJ_BODY, config.frame_body)
        mount = int(model.site_bodyid[self._site])
        self._shell = Shell(model, mount)
        root = int(model.body_rootid[mount])
        # Geoms that give points: not those of the tree that the sensor is bolted to; one bolted to the world itself
        # belongs to no robot. The last entry is the miss's, geom -1.
        own = (model.body_rootid[model.geom_bodyid] == root) & (root != 0)
        self._counts = np.append(~own, False)
        self._texture_rgb: np.ndarray | None = None
        self._pattern = ScanPattern(config)
        self._frame = -1  # what was captured last
        self._seed = 0

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self.config.rate_hz

    def reset(self, rng: np.random.Generator) -> None:
        """Begin at a random phase of the scan pattern, as a sensor that was switched on long ago."""
        self._frame = int(rng.integers(1 << 20))
        self._seed = int(rng.integers(1 << 63))

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Take a frame: (num_points * 3,) float32 m in the frame body, misses 0. Moves the scan pattern on."""
        self._frame += 1
        return self._scan(data, self.config.num_points, 3)[0].reshape(-1)

    def full_frame(self, data: mujoco.MjData) -> np.ndarray:
        """All `frame_points` of the frame that was captured last, cast anew: (frame_points, 4) float32.

        x, y, z in m in the frame body, then Livox's reflectivity (0 to 150): the surface's mean colour, since the model
        knows no infrared. A miss is all zeros. Its first `num_points` rows are that capture's, if nothing has moved.
        """
        frame, geom, seen = self._scan(data, self.config.frame_points, 4)
        if self._texture_rgb is None:
            self._texture_rgb = mean_texture_rgb(self._model)
        reflectivity = WHITE * geom_rgb(self._model, self._texture_rgb).mean(axis=1, dtype=np.float32)
        np.multiply(np.append(reflectivity, np.float32(0.0)).take(geom), seen, out=frame[:, 3])
        return frame

    def get_state(self) -> dict[str, Any]:
        """The phase of the scan pattern and the seed of the noise."""
        return {"frame": self._frame, "seed": self._seed}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        self._frame, self._seed = int(state["frame"]), int(state["seed"])

    def close(self) -> None:
        """Nothing to free."""

    def _scan(self, data: mujoco.MjData, count: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The first points of a frame, float32 m in the frame body, misses 0; geom ids (count,); which were seen.

        Points are the first 3 of (count, columns); who wants more columns fills them.
        """
        config = self.config
        origin_w = data.site_xpos[self._site].copy()
        rays, turn = self._pattern.rays(self._frame, count)
        turn_w = data.site_xmat[self._site].reshape(3, 3) @ turn
        with self._shell.hidden(data, origin_w):
            geom, distance, _ = cast_rays(self._model, data, origin_w, rays @ turn_w.T, config.max_range_m)
        seen = self._counts.take(geom)
        seen &= distance >= config.min_range_m
        seen &= distance <= config.max_range_m
        self._spoil(distance, seen)
        distance *= seen
        to_body = data.xmat[self._body].reshape(3, 3).T
        offset = to_body @ (origin_w - data.xpos[self._body])
        # Ray and offset in one product, with zeros where nothing was seen.
        scaled, ways = np.empty((4, count)), np.empty((4, 3))
        np.multiply(rays.T, distance, out=scaled[:3])
        scaled[3], ways[3] = seen, offset
        np.matmul(turn_w.T, to_body.T, out=ways[:3])
        points = scaled.T @ ways
        # The sensor sits off the body's origin, so that a point in range may still lie outside the space.
        if distance.max() > config.max_range_m - math.hypot(*offset.tolist()):
            outside = np.flatnonzero((np.abs(points) > config.max_range_m).any(axis=1))
            points[outside], seen[outside] = 0.0, False
        frame = np.empty((count, columns), np.float32)
        frame[:, :3] = points
        return frame, geom, seen

    def _spoil(self, distance: np.ndarray, seen: np.ndarray) -> None:
        """Noise and dropout, in place. Each frame has its own streams, so that few of its points err as all do."""
        config = self.config
        if config.range_noise_m > 0.0:
            noise = np.random.default_rng((self._seed, self._frame + 1, 0))
            distance += noise.normal(0.0, config.range_noise_m, len(distance))
        if config.dropout > 0.0:
            loss = np.random.default_rng((self._seed, self._frame + 1, 1))
            seen &= loss.random(len(distance)) >= config.dropout

"""Depth pictures as a policy takes them: one byte a pixel over a stated range."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import require_numbers
from neon_sim.sensors.camera import Camera, CameraConfig

LEVELS = 255  # of a byte; level 0 means "nothing in range"


@dataclass(frozen=True)
class DepthConfig:
    """Settings of the depth camera.

    The range is where Intel calls the D435's depth ideal, 0.3 to 3 m; a level is 10.6 mm there. Stereo depth errs with
    the square of the distance: Intel allows 2 % at 2 m, which is `noise_at_2m` = 0.04.

    Raises ValueError for a range, noise or dropout that cannot be.
    """

    view: CameraConfig = field(default_factory=CameraConfig)  # mount, size, rate; its `kind` is not read
    min_m: float = 0.3  # along the optical axis; nearer reads 0
    max_m: float = 3.0  # farther reads 0
    noise_at_2m: float = 0.0  # m, 1 sigma, growing with the square of the distance
    dropout: float = 0.0  # share of the pixels that return nothing, anew in every frame
    metres_in_info: bool = False  # `info["depth_m"]` is the exact picture of the instant; drawn once more for it

    def __post_init__(self) -> None:
        require_numbers(self, min_m=(0.0, 1000.0), max_m=(0.0, 1000.0), noise_at_2m=(0.0, 100.0), dropout=(0.0, 1.0))
        if self.min_m >= self.max_m:
            raise ValueError(f"A depth range is 0 <= min_m < max_m, got {self.min_m} and {self.max_m} m.")

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self.view.rate_hz

    @property
    def latency_s(self) -> float:
        """s from the instant a frame is taken to the computer."""
        return self.view.latency_s

    def space(self) -> gymnasium.spaces.Box:
        """(H, W, 1) uint8; `depth_in_metres` says what a level stands for."""
        return gymnasium.spaces.Box(0, LEVELS, (self.view.height, self.view.width, 1), np.uint8)

    def build(self, model: mujoco.MjModel) -> "DepthCamera":
        """Make the camera. Raises ValueError if the model has no camera of that name."""
        return DepthCamera(self, model)


def quantise(depth_m: np.ndarray, config: DepthConfig) -> np.ndarray:
    """Metres -> levels, uint8: 1 at `min_m`, 255 at `max_m`, linear between; 0 out of range."""
    step_m = (config.max_m - config.min_m) / (LEVELS - 1)
    levels = (depth_m - np.float32(config.min_m)) * np.float32(1.0 / step_m) + np.float32(1.5)
    levels[(depth_m < config.min_m) | (depth_m > config.max_m)] = 0.0
    return levels.astype(np.uint8)


def depth_in_metres(levels: np.ndarray, config: DepthConfig) -> np.ndarray:
    """Levels -> float32 m, to half a level; 0 stays 0, for "nothing in range"."""
    step_m = (config.max_m - config.min_m) / (LEVELS - 1)
    return np.where(levels > 0, config.min_m + (levels.astype(np.float32) - 1.0) * step_m, 0.0).astype(np.float32)


class DepthCamera:
    """Takes depth pictures: levels for a policy, metres for whoever asks (`DepthConfig.metres_in_info`)."""

    def __init__(self, config: DepthConfig, model: mujoco.MjModel) -> None:
        self.config = config
        self._camera = Camera(replace(config.view, kind="depth", max_depth_m=config.max_m), model)
        self._rng = np.random.default_rng(0)

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self.config.rate_hz

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the camera's pose, if it varies, and a new noise stream, if there is noise."""
        self._camera.reset(rng)
        if self._is_noisy:
            self._rng = np.random.default_rng(rng.integers(1 << 63))

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Take the picture: (H, W, 1) uint8."""
        return quantise(self._spoil(self._camera.capture(data, time_s)), self.config)[..., None]

    def metres(self, data: mujoco.MjData) -> np.ndarray:
        """The picture in metres, (H, W) float32, exact and not quantised; 0 beyond `max_m`. It disturbs no frame."""
        return self._camera.capture(data, data.time)

    def get_state(self) -> dict[str, Any]:
        """The camera's draw and the noise stream."""
        return {"camera": self._camera.get_state(), "rng": self._rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        self._camera.set_state(state["camera"])
        self._rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """Let go of the renderer. A later capture would start a new one."""
        self._camera.close()

    @property
    def _is_noisy(self) -> bool:
        return self.config.noise_at_2m > 0.0 or self.config.dropout > 0.0

    def _spoil(self, depth: np.ndarray) -> np.ndarray:
        if self.config.noise_at_2m > 0.0:
            spread = self.config.noise_at_2m * np.square(depth / 2.0)  # 0 where there is nothing
            depth = depth + spread * self._rng.standard_normal(depth.shape, dtype=np.float32)
        if self.config.dropout > 0.0:
            depth = np.where(self._rng.random(depth.shape, dtype=np.float32) < self.config.dropout, 0.0, depth)
        return depth.astype(np.float32, copy=False)

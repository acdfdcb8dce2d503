"""Cameras: colour, depth or geom ids from a camera of the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import nearest
from neon_sim.sensors.gl_renderer import BACKENDS, make_renderer
from neon_sim.sensors.ray_renderer import Renderer
from neon_sim.sensors.sensor import find_id

_KINDS = ("rgb", "depth", "segmentation")
_MAX_GEOM_ID = 65535


@dataclass(frozen=True)
class CameraConfig:
    """Settings of one camera.

    Defaults: 128 x 128 pixels at 30 Hz, the frame rate of the robot's D435.
    """

    camera: str = "task"  # a camera of the model
    width: int = 128  # pixels
    height: int = 128  # pixels
    rate_hz: float = 30.0
    backend: str = "auto"  # one of gl_renderer.BACKENDS
    kind: Literal["rgb", "depth", "segmentation"] = "rgb"
    max_depth_m: float = 10.0  # depth beyond it reads 0, as out of range (Intel states 10 m for the D435)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise nearest("kind of camera", self.kind, _KINDS)
        if self.backend not in BACKENDS:
            raise nearest("render backend", self.backend, BACKENDS)
        if min(self.width, self.height) < 1 or self.rate_hz <= 0:
            raise ValueError(
                f"A camera needs a positive size and rate, got {self.width}x{self.height} at {self.rate_hz} Hz."
            )

    def space(self) -> gymnasium.spaces.Box:
        """rgb (H, W, 3) uint8; depth (H, W) float32 m, 0 = out of range; segmentation (H, W) int32, -1 = nothing."""
        size = (self.height, self.width)
        if self.kind == "rgb":
            return gymnasium.spaces.Box(0, 255, (*size, 3), np.uint8)
        if self.kind == "depth":
            return gymnasium.spaces.Box(0.0, self.max_depth_m, size, np.float32)
        return gymnasium.spaces.Box(-1, _MAX_GEOM_ID, size, np.int32)

    def build(self, model: mujoco.MjModel) -> "Camera":
        """Make the camera. Raises ValueError if the model has no camera of that name."""
        return Camera(self, model)


class Camera:
    """Takes pictures. The renderer is started with the first one, in the process that asks for it."""

    def __init__(self, config: CameraConfig, model: mujoco.MjModel) -> None:
        find_id(model, mujoco.mjtObj.mjOBJ_CAMERA, config.camera)
        self.config, self._model = config, model
        self._renderer: Renderer | None = None

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self.config.rate_hz

    @property
    def backend(self) -> str:
        """The backend in use: "egl", "osmesa", "glfw", "cgl" or "ray". Starts the renderer if need be."""
        return self._start().backend

    def reset(self, rng: np.random.Generator) -> None:
        """Nothing to forget: a picture depends on the scene alone."""

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Take the picture of `data` as it stands, in the config's space."""
        mujoco.mj_camlight(self._model, data)  # mj_step leaves cameras and lights one substep behind the bodies
        renderer, camera = self._start(), self.config.camera
        if self.config.kind == "rgb":
            return renderer.rgb(data, camera)
        if self.config.kind == "segmentation":
            return renderer.segmentation(data, camera)
        depth = renderer.depth(data, camera)
        depth[depth > self.config.max_depth_m] = 0.0
        return depth

    def get_state(self) -> dict[str, Any]:
        """Empty: a picture depends on the scene alone."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""

    def close(self) -> None:
        """Free the renderer. A later capture would start a new one."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = None

    def _start(self) -> Renderer:
        if self._renderer is None:
            config = self.config
            self._renderer = make_renderer(self._model, config.height, config.width, config.backend)
        return self._renderer

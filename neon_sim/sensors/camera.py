"""Cameras: colour, depth or geom ids from a camera of the model."""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import nearest, require_counts, require_numbers
from neon_sim.sensors.camera_randomization import NO_RANDOMIZATION, CameraDraw, CameraRandomization
from neon_sim.sensors.gl_renderer import BACKENDS, make_renderer
from neon_sim.sensors.ray_renderer import Renderer
from neon_sim.sensors.sensor import LATENCY_S, RATE_HZ, find_id

_KINDS = ("rgb", "depth", "segmentation")
_MAX_GEOM_ID = 65535
_IN_USE: "weakref.WeakValueDictionary[tuple[int, int, int, str], Renderer]" = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class CameraConfig:
    """Settings of one camera.

    Defaults: 128 x 128 pixels at 30 Hz, the frame rate of the robot's D435.
    """

    camera: str = "task"  # a camera of the model: "task" and "d435" on the head, "wrist_left", "stereo_right", ...
    width: int = 128  # pixels
    height: int = 128  # pixels
    rate_hz: float = 30.0
    backend: str = "auto"  # one of gl_renderer.BACKENDS
    kind: Literal["rgb", "depth", "segmentation"] = "rgb"
    max_depth_m: float = 10.0  # depth beyond it reads 0, as out of range (Intel states 10 m for the D435)
    randomization: CameraRandomization = NO_RANDOMIZATION
    latency_s: float = 0.0  # from the instant a frame is taken to the computer; not measured on the robot

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise nearest("kind of camera", self.kind, _KINDS)
        if self.backend not in BACKENDS:
            raise nearest("render backend", self.backend, BACKENDS)
        require_counts(self, width=(1, 8192), height=(1, 8192))
        require_numbers(self, rate_hz=RATE_HZ, latency_s=LATENCY_S, max_depth_m=(0.001, 10_000.0))

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


def shared_renderer(model: mujoco.MjModel, height: int, width: int, backend: str) -> Renderer:
    """One renderer for all sensors of a model that draw in this size: a GL context takes a third of a second to start.

    It is freed when the last sensor lets go of it; nobody closes it. Arguments and errors are `make_renderer`'s.
    """
    key = (id(model), height, width, backend)  # a renderer keeps its model, so that the id is not another's
    renderer = _IN_USE.get(key)
    if renderer is None:
        _IN_USE[key] = renderer = make_renderer(model, height, width, backend)
    return renderer


class Camera:
    """Takes pictures. The renderer is started with the first one, in the process that asks for it."""

    def __init__(self, config: CameraConfig, model: mujoco.MjModel) -> None:
        self.index = find_id(model, mujoco.mjtObj.mjOBJ_CAMERA, config.camera)  # among the model's cameras
        self.config, self._model = config, model
        self.drawn = CameraDraw(config.randomization)  # exposure, colour and pose of this episode
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
        """Draw this episode's exposure, colour and pose, if they vary; nothing else is remembered."""
        self.drawn.draw(rng)

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Take the picture of `data` as it stands, in the config's space."""
        mujoco.mj_camlight(self._model, data)  # mj_step leaves cameras and lights one substep behind the bodies
        with self.drawn.mounted(data, self.index):
            return self._take(data)

    def get_state(self) -> dict[str, Any]:
        """What this episode drew; without randomisation a picture depends on the scene alone, and it is empty."""
        return {} if self.config.randomization == NO_RANDOMIZATION else self.drawn.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        if state:
            self.drawn.set_state(state)

    def close(self) -> None:
        """Let go of the renderer; the last sensor that does frees it. A later capture would start a new one."""
        self._renderer = None

    def _take(self, data: mujoco.MjData) -> np.ndarray:
        renderer, camera = self._start(), self.config.camera
        if self.config.kind == "rgb":
            return self.drawn.expose(renderer.rgb(data, camera))
        if self.config.kind == "segmentation":
            return renderer.segmentation(data, camera)
        depth = renderer.depth(data, camera)
        depth[depth > self.config.max_depth_m] = 0.0
        return depth

    def _start(self) -> Renderer:
        if self._renderer is None:
            config = self.config
            self._renderer = shared_renderer(self._model, config.height, config.width, config.backend)
        return self._renderer

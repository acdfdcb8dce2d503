"""A stereo pair for recordings: two colour pictures side by side, taken at the same instant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np

from neon_sim.sensors.camera import CameraConfig, shared_renderer
from neon_sim.sensors.camera_randomization import NO_RANDOMIZATION, CameraDraw, CameraRandomization
from neon_sim.sensors.ray_renderer import Renderer
from neon_sim.sensors.sensor import find_id


@dataclass(frozen=True)
class StereoConfig:
    """Settings of the pair: 640 x 480 each at 30 Hz, a mode of the D435; baseline and lens are the model's cameras'.

    Both eyes share one draw of the randomisation: they sit in one housing.
    """

    left: str = "stereo_left"  # cameras of the model
    right: str = "stereo_right"
    width: int = 640  # pixels of one eye
    height: int = 480
    rate_hz: float = 30.0
    backend: str = "auto"  # one of gl_renderer.BACKENDS
    randomization: CameraRandomization = NO_RANDOMIZATION
    latency_s: float = 0.0  # from the instant a frame is taken to the computer; not measured on the robot

    def __post_init__(self) -> None:
        CameraConfig(self.left, self.width, self.height, self.rate_hz, self.backend, latency_s=self.latency_s)

    def space(self) -> gymnasium.spaces.Box:
        """(H, 2 W, 3) uint8, the left eye's picture on the left."""
        return gymnasium.spaces.Box(0, 255, (self.height, 2 * self.width, 3), np.uint8)

    def build(self, model: mujoco.MjModel) -> "Stereo":
        """Make the pair. Raises ValueError if the model lacks one of the cameras."""
        return Stereo(self, model)


class Stereo:
    """Two eyes, one renderer."""

    def __init__(self, config: StereoConfig, model: mujoco.MjModel) -> None:
        self.config, self._model = config, model
        camera = mujoco.mjtObj.mjOBJ_CAMERA
        self._eyes = [(name, find_id(model, camera, name)) for name in (config.left, config.right)]
        self._drawn = CameraDraw(config.randomization)
        self._renderer: Renderer | None = None

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self.config.rate_hz

    def reset(self, rng: np.random.Generator) -> None:
        """Draw this episode's exposure, colour and pose, if they vary."""
        self._drawn.draw(rng)

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Take both pictures: (H, 2 W, 3) uint8."""
        mujoco.mj_camlight(self._model, data)
        return np.concatenate([self._look(data, name, index) for name, index in self._eyes], axis=1)

    def get_state(self) -> dict[str, Any]:
        """What this episode drew."""
        return self._drawn.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        self._drawn.set_state(state)

    def close(self) -> None:
        """Let go of the renderer. A later capture would start a new one."""
        self._renderer = None

    def _look(self, data: mujoco.MjData, name: str, index: int) -> np.ndarray:
        if self._renderer is None:
            config = self.config
            self._renderer = shared_renderer(self._model, config.height, config.width, config.backend)
        with self._drawn.mounted(data, index):
            return self._drawn.expose(self._renderer.rgb(data, name))

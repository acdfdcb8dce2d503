"""Cameras that differ from episode to episode: brightness, colour, where the lens sits, and noise in the pixels."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

Range = tuple[float, float]  # low, high; drawn uniformly


@dataclass(frozen=True)
class CameraRandomization:
    """Ranges of what is drawn once per episode, from the sensor's own stream.

    The defaults are a choice, not a measurement: half a stop of exposure either way, tints that a white balance leaves
    over, and a bracket that was bent by a few millimetres and about a degree. Depth and segmentation take the pose
    only, each a draw of its own.

    Raises ValueError for a range the wrong way round or below zero, and for a negative spread.
    """

    exposure: Range = (0.7, 1.4)  # factor on every channel; (0.02, 0.05) is a dark room
    color: Range = (0.93, 1.07)  # factor on each channel by itself
    pos_m: float = 0.005  # largest shift along each of the camera's axes
    angle_rad: float = 0.02  # largest turn about each of the camera's axes
    pixel_noise: float = 0.0  # levels of 255, 1 sigma, anew in every pixel of every frame

    def __post_init__(self) -> None:
        for name in ("exposure", "color"):
            low, high = getattr(self, name)
            if not 0.0 <= low <= high < np.inf:
                raise ValueError(f"{name} must be (low, high) with 0 <= low <= high, got ({low}, {high}).")
        for name in ("pos_m", "angle_rad", "pixel_noise"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be zero or more and finite, got {getattr(self, name)}.")


NO_RANDOMIZATION = CameraRandomization(exposure=(1.0, 1.0), color=(1.0, 1.0), pos_m=0.0, angle_rad=0.0)


class CameraDraw:
    """What one episode drew: applied to the lens before a picture is taken, and to the picture after it."""

    def __init__(self, config: CameraRandomization) -> None:
        self.config = config
        self._rng = np.random.default_rng(0)
        self.gain = np.ones(3, np.float32)  # of red, green, blue
        self.shift = np.zeros(3)  # m, camera frame
        self.turn = np.zeros(3)  # rad, rotation vector in the camera frame
        self._plain = True
        self._work = np.empty((2, 0, 0), np.float32)

    def draw(self, rng: np.random.Generator) -> None:
        """Begin an episode. Nothing is drawn from `rng` if nothing varies: those episodes stay what they were."""
        config = self.config
        if config == NO_RANDOMIZATION:
            return
        self._rng = np.random.default_rng(rng.integers(1 << 63))
        exposure = self._rng.uniform(*config.exposure)
        self.gain = (exposure * self._rng.uniform(*config.color, 3)).astype(np.float32)
        self.shift = self._rng.uniform(-config.pos_m, config.pos_m, 3)
        self.turn = self._rng.uniform(-config.angle_rad, config.angle_rad, 3)
        self._plain = bool((self.gain == 1.0).all()) and config.pixel_noise == 0.0

    @contextmanager
    def mounted(self, data: mujoco.MjData, camera: int) -> Iterator[None]:
        """Move a camera of the scene by this episode's error inside the block."""
        if not (self.shift.any() or self.turn.any()):
            yield
            return
        pos, matrix = data.cam_xpos[camera].copy(), data.cam_xmat[camera].copy()
        axes = matrix.reshape(3, 3)
        turn, turned = np.array([1.0, 0.0, 0.0, 0.0]), np.empty(9)
        mujoco.mju_quatIntegrate(turn, self.turn, 1.0)
        mujoco.mju_quat2Mat(turned, turn)
        data.cam_xpos[camera] = pos + axes @ self.shift
        data.cam_xmat[camera] = (axes @ turned.reshape(3, 3)).ravel()
        try:
            yield
        finally:
            data.cam_xpos[camera], data.cam_xmat[camera] = pos, matrix

    def expose(self, picture: np.ndarray) -> np.ndarray:
        """The picture (H, W, 3) uint8 as this episode's sensor records it; what is too bright is cut off at white."""
        if self._plain:
            return picture
        height, width, _ = picture.shape
        light, noise = self._buffers(height, 3 * width)
        # One row of gains as long as the picture's: numpy is slow where its inner loop has three turns.
        np.multiply(picture.reshape(light.shape), np.tile(self.gain, width), out=light)
        if self.config.pixel_noise > 0.0:
            self._rng.standard_normal(dtype=np.float32, out=noise)
            noise *= np.float32(self.config.pixel_noise)
            light += noise
            np.maximum(light, 0.0, out=light)
        light += 0.5
        return np.minimum(light, 255.0, out=light).astype(np.uint8).reshape(picture.shape)

    def _buffers(self, height: int, width: int) -> np.ndarray:
        """Two float32 pictures (2, height, width) to work in, kept from frame to frame."""
        if self._work.shape[1:] != (height, width):
            self._work = np.empty((2, height, width), np.float32)
        return self._work

    def get_state(self) -> dict[str, Any]:
        """What was drawn, and the noise stream."""
        drawn = {"gain": self.gain.copy(), "shift": self.shift.copy(), "turn": self.turn.copy()}
        return {**drawn, "plain": self._plain, "rng": self._rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        self.gain, self.shift, self.turn = (state[name].copy() for name in ("gain", "shift", "turn"))
        self._plain = bool(state["plain"])
        self._rng.bit_generator.state = state["rng"]

"""Cameras that differ from episode to episode: brightness, colour, where the lens sits, and noise in the pixels."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.names import require_numbers, require_spans

Range = tuple[float, float]  # low, high; drawn uniformly
_DRAWS: Final = 1 << 16  # equally likely values of a pixel's noise: 16 random bits say which


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
        require_spans(self, exposure=(0.0, 1000.0), color=(0.0, 1000.0))
        require_numbers(self, pos_m=(0.0, 10.0), angle_rad=(0.0, 3.14), pixel_noise=(0.0, 255.0))


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
        self._work = np.empty((2, 0, 0), np.float32)  # light and noise; made anew for an episode's first picture
        self._rows = np.empty((3, 0), np.float32)
        self._errors = np.empty(0, np.float32)
        if config.pixel_noise > 0.0:
            self._errors = (config.pixel_noise * normal_values() + 0.5).astype(np.float32)  # 0.5: the cast cuts off

    def draw(self, rng: np.random.Generator) -> None:
        """Begin an episode. Nothing is drawn from `rng` if nothing varies: those episodes stay what they were."""
        config = self.config
        if config == NO_RANDOMIZATION:
            return
        self._rng = np.random.default_rng(rng.integers(1 << 63))
        exposure = self._rng.uniform(*config.exposure)
        self.gain = (exposure * self._rng.uniform(*config.color, 3)).astype(np.float32)
        self._work = np.empty((2, 0, 0), np.float32)
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
        flat = picture.reshape(len(picture), -1)
        if self._work.shape[1:] != flat.shape:
            self._work, self._rows = np.empty((2, *flat.shape), np.float32), self._rows_of(flat.shape[1])
        (light, noise), (gain, black, white) = self._work, self._rows
        np.multiply(flat, gain, out=light)
        if self.config.pixel_noise > 0.0:
            which = self._rng.integers(0, 1 << 64, -(-light.size // 4), dtype=np.uint64).view(np.uint16)
            self._errors.take(which[: light.size].reshape(light.shape), out=noise, mode="wrap")
            light += noise
            np.maximum(light, black, out=light)
        else:
            light += 0.5
        return np.minimum(light, white, out=light).astype(np.uint8).reshape(picture.shape)

    def _rows_of(self, width: int) -> np.ndarray:
        """Gain, 0 and 255 (3, width): numpy is slow where its inner loop has three turns, or one side is a number."""
        rows = np.empty((3, width), np.float32)
        rows[0], rows[1], rows[2] = np.tile(self.gain, width // 3), 0.0, 255.0
        return rows

    def get_state(self) -> dict[str, Any]:
        """What was drawn, and the noise stream."""
        drawn = {"gain": self.gain.copy(), "shift": self.shift.copy(), "turn": self.turn.copy()}
        return {**drawn, "plain": self._plain, "rng": self._rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        self.gain, self.shift, self.turn = (state[name].copy() for name in ("gain", "shift", "turn"))
        self._plain, self._work = bool(state["plain"]), np.empty((2, 0, 0), np.float32)
        self._rng.bit_generator.state = state["rng"]


@functools.cache
def normal_values() -> np.ndarray:
    """(65536,) equally likely values with mean 0, spread 1 and a normal distribution's quantiles; 4.3 is the furthest.

    A picture has 8 bits: nothing in it tells them from a generator's normal numbers, which take ten times as long.
    """
    quantile = NormalDist().inv_cdf
    above = np.array([quantile((number + 0.5) / _DRAWS) for number in range(_DRAWS // 2, _DRAWS)])
    above /= np.sqrt(np.square(above).mean())
    values = np.concatenate([-above[::-1], above])
    values.flags.writeable = False
    return values

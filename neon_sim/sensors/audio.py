"""Hearing: one or two 16 kHz microphones on the head, and all that reaches them as simulated time passes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import require_counts, require_numbers, require_vectors
from neon_sim.sensors.robot_noise import ImpactNoise, ImpactNoiseConfig, MotorNoise, MotorNoiseConfig, Murmur
from neon_sim.sensors.sensor import LATENCY_S, RATE_HZ, find_id
from neon_sim.sensors.sound_field import (
    LEVEL_DB,
    SPEED_OF_SOUND,
    Ears,
    SoundField,
    SoundSource,
    Waveform,
    peak_amplitude,
    sine_wave,
)

__all__ = ["SPEED_OF_SOUND", "AudioConfig", "Microphone", "SoundSource", "Waveform", "sine_wave"]


@dataclass(frozen=True)
class AudioConfig:
    """Settings of the microphones. None switches a noise off.

    One sits at the front of the head, beside the D435; two sit at its left and right. The G1's own array of four is in
    the head, where exactly is not published. Self-noise: InvenSense's data sheet of the INMP441, 33 dB(A) equivalent
    input noise. Ambient: a quiet room (offices are planned for 35 to 45 dB(A), ISO 11690-1). Latency is 0 because it
    was not measured on the robot. Head radius: that of the model's head capsule. Raises ValueError for a number out of
    its range.
    """

    sample_rate_hz: int = 16000
    window_s: float = 0.32  # how much of the past a frame holds
    rate_hz: float = 50.0
    latency_s: float = 0.0  # a frame ends so long before it is taken
    microphones: int = 1  # 1, or 2: left and right
    body: str = "torso_link"
    offset: tuple[float, float, float] = (0.06, 0.0, 0.43)  # m, the front of the head, in the body's frame
    head_radius: float = 0.059  # m; 0 = no head: no shadow, and no distance between two microphones
    self_noise_db: float | None = 33.0  # dB SPL, white
    ambient_db: float | None = 35.0  # dB SPL
    ambient_corner_hz: float = 500.0  # above it the room's noise falls by 6 dB an octave
    motors: MotorNoiseConfig | None = field(default_factory=MotorNoiseConfig)
    impacts: ImpactNoiseConfig | None = field(default_factory=ImpactNoiseConfig)
    sources: tuple[SoundSource, ...] = ()

    def __post_init__(self) -> None:
        require_counts(self, sample_rate_hz=(1000, 192_000), microphones=(1, 2))
        require_numbers(self, window_s=(0.001, 60.0), rate_hz=RATE_HZ, latency_s=LATENCY_S, head_radius=(0.0, 1.0))
        require_numbers(self, ambient_corner_hz=(1.0, self.sample_rate_hz / 2.0))
        require_vectors(self, 3, offset=(-10.0, 10.0))
        levels = [name for name in ("self_noise_db", "ambient_db") if getattr(self, name) is not None]
        require_numbers(self, **dict.fromkeys(levels, LEVEL_DB))

    @property
    def window_samples(self) -> int:
        """Samples in a frame."""
        return round(self.window_s * self.sample_rate_hz)

    def space(self) -> gymnasium.spaces.Box:
        """(window_samples,) float32, the newest sample last, full scale 1.

        Of two microphones it is (2 * window_samples,), all of the left one first: flat, as Stable-Baselines3 wants it.
        """
        return gymnasium.spaces.Box(-1.0, 1.0, (self.microphones * self.window_samples,), np.float32)

    def outward(self) -> np.ndarray:
        """Which way each microphone looks out of the head, in the body's frame: (microphones, 3) unit."""
        if self.microphones == 1:
            return np.array([[1.0, 0.0, 0.0]])
        return np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])

    def build(self, model: mujoco.MjModel) -> "Microphone":
        """Make the microphone. Raises ValueError if the model lacks a body that is named."""
        return Microphone(self, model)


class Microphone:
    """Keeps the last `window_s` of sound, and at each capture adds exactly the samples since the one before."""

    def __init__(self, config: AudioConfig, model: mujoco.MjModel) -> None:
        self.config, count, rate_hz = config, config.microphones, config.sample_rate_hz
        self._body = find_id(model, mujoco.mjtObj.mjOBJ_BODY, config.body)
        self._center = np.array(config.offset) - [config.head_radius, 0.0, 0.0]
        self._outward = config.outward()
        self._field = SoundField(model, rate_hz, config.head_radius)
        self._motors: MotorNoise | None = None
        self._impacts: ImpactNoise | None = None
        self._murmur: Murmur | None = None
        if config.motors is not None:
            self._motors = MotorNoise(config.motors, model, self._body, count, rate_hz)
        if config.impacts is not None:
            self._impacts = ImpactNoise(config.impacts, model, count, rate_hz)
        if config.ambient_db is not None:
            self._murmur = Murmur(config.ambient_db, config.ambient_corner_hz, count, rate_hz)
        self_noise_db = config.self_noise_db
        self._self_noise = 0.0 if self_noise_db is None else peak_amplitude(self_noise_db) / math.sqrt(2.0)
        self._late = round(config.latency_s * rate_hz)
        self._buffer = np.zeros((count, config.window_samples + self._late), np.float32)
        self._heard: int | None = None  # samples heard since time 0; None before the first capture
        self._rng = np.random.default_rng(0)
        for source in config.sources:
            self.add_source(source)

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self.config.rate_hz

    @property
    def sources(self) -> tuple[SoundSource, ...]:
        """What sounds at present."""
        return self._field.sources

    def add_source(self, source: SoundSource) -> None:
        """Let something sound from the next capture on; it replaces a source of the same name and outlives resets."""
        self._field.add(source)

    def remove_source(self, name: str) -> None:
        """Silence a source. Raises ValueError if there is none of that name."""
        self._field.remove(name)

    def reset(self, rng: np.random.Generator) -> None:
        """Forget what was heard. Sources stay: they belong to the room."""
        self._rng = np.random.default_rng(rng.integers(1 << 63))
        self._buffer[:] = 0.0
        self._heard = None
        self._field.reset()
        for noise in (self._motors, self._impacts, self._murmur):
            if noise is not None:
                noise.reset()

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Hear on until `time_s`: (microphones * window_samples,) float32 in [-1, 1], newest last, left before right.

        The first capture of an episode fills the whole window, as if the room had stood still until then.
        Raises ValueError if time went backwards without `reset` or `set_state`.
        """
        length = self._buffer.shape[1]
        end = round(time_s * self.config.sample_rate_hz)
        count = length if self._heard is None else min(end - self._heard, length)
        if count < 0:
            raise ValueError(f"Time went back to {time_s} s; call reset() or set_state() first.")
        self._heard = end
        if count > 0:
            self._buffer[:, :-count] = self._buffer[:, count:]  # numpy sees that the two overlap
            newest = np.maximum(self._listen(data, end, count), -1.0)
            np.minimum(newest, 1.0, out=self._buffer[:, length - count :])
        return self._buffer[:, : self.config.window_samples].flatten()

    def get_state(self) -> dict[str, Any]:
        """Sound heard so far, sources, all that still rings, phases and the noise stream."""
        return {
            "buffer": self._buffer.copy(),
            "heard": self._heard,
            "field": self._field.get_state(),
            "motors": None if self._motors is None else self._motors.get_state(),
            "impacts": None if self._impacts is None else self._impacts.get_state(),
            "murmur": None if self._murmur is None else self._murmur.get_state(),
            "rng": self._rng.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state` of a microphone of the same config, sources included."""
        self._buffer[:] = state["buffer"]
        self._heard = state["heard"]
        self._field.set_state(state["field"])
        if self._motors is not None:
            self._motors.set_state(state["motors"])
        if self._impacts is not None:
            self._impacts.set_state(state["impacts"])
        if self._murmur is not None:
            self._murmur.set_state(state["murmur"])
        self._rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """Nothing to free."""

    def _listen(self, data: mujoco.MjData, end: int, count: int) -> np.ndarray:
        """The `count` samples up to sample number `end`, unclipped (microphones, count) float32."""
        shape = (self.config.microphones, count)
        sound = np.zeros(shape, np.float32)
        if self._self_noise > 0.0:
            sound += np.float32(self._self_noise) * self._rng.standard_normal(shape, dtype=np.float32)
        if self._murmur is not None:
            self._murmur.add_to(sound, self._rng)
        ears = self._ears(data)
        if self._motors is not None:
            self._motors.add_to(sound, data, ears)
        if self._impacts is not None:
            self._impacts.add_to(sound, data, ears, self._rng)
        self._field.add_to(sound, data, ears, end)
        return sound

    def _ears(self, data: mujoco.MjData) -> Ears:
        turn = data.xmat[self._body].reshape(3, 3)
        return Ears(data.xpos[self._body] + turn @ self._center, self._outward @ turn.T, self.config.head_radius)

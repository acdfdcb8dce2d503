"""Microphone: sources in the room, the robot's own motors and ambient noise, synthesised as simulated time passes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import nearest
from neon_sim.sensors.sensor import find_id

SPEED_OF_SOUND = 343.0  # m/s, dry air at 20 deg C
_NEAREST_M = 0.1  # a source is never heard as closer than this: 1/r has no end

Waveform = Callable[[np.ndarray], np.ndarray]


def sine_wave(time_s: np.ndarray, frequency_hz: float) -> np.ndarray:
    """A pure tone of amplitude 1. `functools.partial(sine_wave, frequency_hz=440.0)` is a waveform."""
    return np.sin(2.0 * np.pi * frequency_hz * time_s)


@dataclass(frozen=True, eq=False)
class SoundSource:
    """Something that sounds.

    name: by which it can be removed. waveform: either a function of emission time since `start_s` (s, any shape)
    that returns values in [-1, 1], or mono samples (N,) in [-1, 1] at the microphone's rate, played once or looped.
    position: a body of the model, or a fixed point (x, y, z) m in the world. level: amplitude at 1 m, where 1 is the
    microphone's full scale. start_s: simulated time at which it begins; may be negative, for what sounds already.
    """

    name: str
    waveform: Waveform | np.ndarray
    position: str | tuple[float, float, float]
    level: float = 0.1
    start_s: float = 0.0
    loop: bool = False

    def emit(self, time_s: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        """What leaves the source at emission times (N,) s: values (N,), 0 before `start_s`."""
        elapsed_s = time_s - self.start_s
        if callable(self.waveform):
            sound = self.waveform(elapsed_s)
        else:
            index = elapsed_s * sample_rate_hz
            period = len(self.waveform) if self.loop else None
            grid = np.arange(len(self.waveform))
            sound = np.interp(index, grid, self.waveform, left=0.0, right=0.0, period=period)
        if elapsed_s[0] < 0.0:
            sound = np.where(elapsed_s >= 0.0, sound, 0.0)
        return sound


@dataclass(frozen=True)
class AudioConfig:
    """Settings of the microphone.

    It sits at the front of the head, beside the D435 (the G1's own array is in the head; where is not published).
    Noise and hum are round numbers, not measurements: noise 66 dB below full scale, hum just audible above it when
    the robot walks.
    """

    sample_rate_hz: int = 16000
    window_s: float = 0.32  # how much of the past a frame holds
    rate_hz: float = 50.0
    body: str = "torso_link"
    offset: tuple[float, float, float] = (0.06, 0.0, 0.43)  # m, in the body's frame
    noise_level: float = 5e-4  # rms of white noise, of full scale
    hum_level: float = 2e-3  # amplitude at 1 rad/s of mean joint speed
    hum_hz_per_rad_s: float = 200.0  # pitch of the hum: gear teeth and poles that pass per radian
    sources: tuple[SoundSource, ...] = ()

    def __post_init__(self) -> None:
        if self.window_samples < 1 or self.rate_hz <= 0:
            raise ValueError(f"A microphone needs a window and a rate, got {self.window_s} s at {self.rate_hz} Hz.")

    @property
    def window_samples(self) -> int:
        """Samples in a frame."""
        return round(self.window_s * self.sample_rate_hz)

    def space(self) -> gymnasium.spaces.Box:
        """(window_samples,) float32, the newest sample last, full scale 1."""
        return gymnasium.spaces.Box(-1.0, 1.0, (self.window_samples,), np.float32)

    def build(self, model: mujoco.MjModel) -> "Microphone":
        """Make the microphone. Raises ValueError if the model lacks a body that is named."""
        return Microphone(self, model)


class Microphone:
    """Keeps the last `window_s` of sound, and at each capture adds exactly the samples since the one before.

    Between captures a source's distance runs linearly, which gives attenuation, delay and Doppler shift (to first
    order in v/c) without clicks.
    """

    def __init__(self, config: AudioConfig, model: mujoco.MjModel) -> None:
        self.config, self._model = config, model
        self._body = find_id(model, mujoco.mjtObj.mjOBJ_BODY, config.body)
        self._offset = np.array(config.offset)
        hinge = model.jnt_type == int(mujoco.mjtJoint.mjJNT_HINGE)
        own = model.body_rootid[model.jnt_bodyid] == model.body_rootid[self._body]
        self._joint_dofs = model.jnt_dofadr[hinge & own].astype(np.intp)
        self._sources: dict[str, SoundSource] = {}
        self._source_bodies: dict[str, int] = {}
        self._distance_m: dict[str, float] = {}
        self._buffer = np.zeros(config.window_samples, np.float32)
        self._heard: int | None = None  # samples heard since time 0; None before the first capture
        self._hum_phase, self._hum_amplitude = 0.0, 0.0
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
        return tuple(self._sources.values())

    def add_source(self, source: SoundSource) -> None:
        """Let something sound from the next capture on; it replaces a source of the same name and outlives resets."""
        if isinstance(source.position, str):
            self._source_bodies[source.name] = find_id(self._model, mujoco.mjtObj.mjOBJ_BODY, source.position)
        self._sources[source.name] = source
        self._distance_m.pop(source.name, None)

    def remove_source(self, name: str) -> None:
        """Silence a source. Raises ValueError if there is none of that name."""
        if name not in self._sources:
            raise nearest("sound source", name, self._sources)
        del self._sources[name]
        self._distance_m.pop(name, None)

    def reset(self, rng: np.random.Generator) -> None:
        """Forget what was heard. Sources stay: they belong to the room."""
        self._rng = np.random.default_rng(rng.integers(1 << 63))
        self._buffer[:] = 0.0
        self._distance_m.clear()
        self._heard = None
        self._hum_phase, self._hum_amplitude = 0.0, 0.0

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Hear on until `time_s`: (window_samples,) float32 in [-1, 1], newest last.

        The first capture of an episode fills the whole window, as if the room had stood still until then.
        Raises ValueError if time went backwards without `reset` or `set_state`.
        """
        window = len(self._buffer)
        end = round(time_s * self.config.sample_rate_hz)
        count = window if self._heard is None else min(end - self._heard, window)
        if count < 0:
            raise ValueError(f"Time went back to {time_s} s; call reset() or set_state() first.")
        self._heard = end
        if count > 0:
            self._buffer[:-count] = self._buffer[count:].copy()
            self._buffer[window - count :] = np.clip(self._listen(data, end, count), -1.0, 1.0)
        return self._buffer.copy()

    def get_state(self) -> dict[str, Any]:
        """Sound heard so far, sources and their distances, phases and the noise stream."""
        return {
            "buffer": self._buffer.copy(),
            "heard": self._heard,
            "sources": self.sources,
            "distance_m": dict(self._distance_m),
            "hum": (self._hum_phase, self._hum_amplitude),
            "rng": self._rng.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`, sources included."""
        self._sources.clear()
        for source in state["sources"]:
            self.add_source(source)
        self._buffer[:] = state["buffer"]
        self._heard = state["heard"]
        self._distance_m = dict(state["distance_m"])
        self._hum_phase, self._hum_amplitude = state["hum"]
        self._rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """Nothing to free."""

    def _listen(self, data: mujoco.MjData, end: int, count: int) -> np.ndarray:
        """The `count` samples up to sample number `end`, unclipped (count,)."""
        sound = self.config.noise_level * self._rng.standard_normal(count, dtype=np.float32)
        sound += self._hum(data, count)
        if self._sources:
            ear_w = data.xpos[self._body] + data.xmat[self._body].reshape(3, 3) @ self._offset
            time_s = np.arange(end - count, end) / self.config.sample_rate_hz
            for source in self._sources.values():
                sound += self._source(source, data, ear_w, time_s)
        return sound

    def _source(self, source: SoundSource, data: mujoco.MjData, ear_w: np.ndarray, time_s: np.ndarray) -> np.ndarray:
        """One source as it arrives at sample times (N,) s: spherical spreading from its level at 1 m, and delay."""
        at_w = data.xpos[self._source_bodies[source.name]] if isinstance(source.position, str) else source.position
        now_m = max(float(np.linalg.norm(ear_w - at_w)), _NEAREST_M)
        before_m = self._distance_m.get(source.name, now_m)
        self._distance_m[source.name] = now_m
        # The last sample of a capture is heard at the distance of that capture.
        step = np.arange(1, len(time_s) + 1) / len(time_s)
        distance_m = before_m + (now_m - before_m) * step
        sound = source.emit(time_s - distance_m / SPEED_OF_SOUND, self.config.sample_rate_hz)
        return sound * (source.level / distance_m)

    def _hum(self, data: mujoco.MjData, count: int) -> np.ndarray:
        """Whine of the robot's motors (count,): louder and higher with the joints' mean speed, no jumps in phase."""
        speed = float(np.abs(data.qvel[self._joint_dofs]).mean()) if len(self._joint_dofs) else 0.0
        amplitude = self.config.hum_level * speed
        step = np.arange(1, count + 1)
        # No higher than 0.2 of the sample rate, so that the overtone below does not fold back.
        turns = min(self.config.hum_hz_per_rad_s * speed / self.config.sample_rate_hz, 0.2)
        phase = self._hum_phase + 2.0 * np.pi * turns * step
        loudness = self._hum_amplitude + (amplitude - self._hum_amplitude) * step / count
        self._hum_phase = float(np.mod(phase[-1], 2.0 * np.pi))
        self._hum_amplitude = amplitude
        return loudness * (np.sin(phase) + 0.5 * np.sin(2.0 * phase))

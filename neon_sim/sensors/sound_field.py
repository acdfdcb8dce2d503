"""Sound in space: what sources send out and what arrives at one or two microphones on a spherical head.

Levels are in dB SPL at 1 m. Full scale, amplitude 1, is the peak of a sine of 94 dB SPL (1 Pa rms, the level at which
microphones are calibrated); speech of 60 dB at 1 m then peaks near a tenth of full scale.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import mujoco
import numpy as np

from neon_sim.names import nearest, require_numbers, require_vectors
from neon_sim.sensors.sensor import find_id

SPEED_OF_SOUND: Final = 343.0  # m/s, dry air at 20 deg C
FULL_SCALE_DB: Final = 94.0  # dB SPL of a sine that just fills the range
LEVEL_DB: Final = (-100.0, 200.0)  # dB SPL that a setting may say
NEAREST_M: Final = 0.1  # a source is never heard as closer than this: 1/r has no end

# Head shadow of Brown and Duda (IEEE Trans. Speech Audio 1998, eq. 3 to 5): the least gain of high frequencies, and the
# angle from the ear's axis at which it is reached; behind that sound comes around both sides again.
_LEAST_ALPHA: Final = 0.1
_DARKEST_ANGLE: Final = math.radians(150.0)
_SHADOW_TAPS: Final = 16

Waveform = Callable[[np.ndarray], np.ndarray]


def peak_amplitude(level_db: float) -> float:
    """Peak of a sine of that level (dB SPL), of full scale. Divide by sqrt(2) for the rms of any sound."""
    return 10.0 ** ((level_db - FULL_SCALE_DB) / 20.0)


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

    def __post_init__(self) -> None:
        require_numbers(self, level=(0.0, 1e6), start_s=(-1e9, 1e9))
        if isinstance(self.position, np.ndarray):
            object.__setattr__(self, "position", tuple(self.position.tolist()))
        if not isinstance(self.position, str):
            require_vectors(self, 3, position=(-1e6, 1e6))
        if not callable(self.waveform):
            samples = np.asarray(self.waveform)
            if samples.ndim != 1 or not samples.size or not np.isfinite(samples).all():
                raise ValueError(
                    f"SoundSource.waveform must be a function, or finite samples (N,), got shape {samples.shape}"
                    f"{'' if np.isfinite(samples).all() else ' with NaN or infinity'}."
                )

    def emit(self, time_s: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        """What leaves the source at rising emission times (N,) s: values (N,), 0 before `start_s`."""
        elapsed_s = time_s - self.start_s
        if elapsed_s[-1] < 0.0:
            return np.zeros(len(time_s))
        if callable(self.waveform):
            return np.where(elapsed_s >= 0.0, self.waveform(elapsed_s), 0.0)
        return _play(self.waveform, elapsed_s * sample_rate_hz, self.loop)


def _play(samples: np.ndarray, index: np.ndarray, loop: bool) -> np.ndarray:
    """Samples (N,) at fractional indices (K,), straight lines between them; 0 before, and after if not looped."""
    count = len(samples)
    if not loop and index[0] > count - 1:
        return np.zeros(len(index))
    low = np.floor(index)
    share, low = index - low, low.astype(np.intp)
    if loop:
        low %= count
    # "wrap" takes one turn at a time, so what lies many turns ahead is brought near first.
    before, after = samples.take(low, mode="clip"), samples.take(low + 1, mode="wrap" if loop else "clip")
    sound = before + share * (after - before)
    if index[0] >= 0.0 and (loop or index[-1] <= count - 1):
        return sound
    return np.where((index >= 0.0) & (loop | (index <= count - 1)), sound, 0.0)


class Ears(NamedTuple):
    """Microphones on a sphere, in the world: where the sphere is and which way each of them looks out of it."""

    center_w: np.ndarray  # (3,) m
    outward_w: np.ndarray  # (M, 3) unit
    radius: float  # m; 0 is a head that sound does not notice

    @property
    def pos_w(self) -> np.ndarray:
        """Where the microphones are (M, 3) m."""
        return self.center_w + self.radius * self.outward_w


def ways_to(ears: Ears, pos_w: np.ndarray) -> list[tuple[float, float]]:
    """The shortest way for sound from a point (3,) m to each ear, and its angle from the ear's axis.

    In sight of the ear that is a straight line; else it is tangent to the sphere and creeps around it (Woodworth 1938).
    Returns length m, at least `NEAREST_M`, and angle rad of each.
    """
    x, y, z = (pos_w - ears.center_w).tolist()
    distance = max(math.sqrt(x * x + y * y + z * z), ears.radius, 1e-9)
    ways = []
    for out_x, out_y, out_z in ears.outward_w.tolist():
        cosine = min(max((out_x * x + out_y * y + out_z * z) / distance, -1.0), 1.0)
        length_m, angle = _way(distance, cosine, ears.radius)
        ways.append((max(length_m, NEAREST_M), angle))
    return ways


def paths_to(ears: Ears, pos_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`ways_to` as arrays: lengths (M,) m and angles (M,) rad."""
    lengths_m, angles = zip(*ways_to(ears, pos_w), strict=True)
    return np.array(lengths_m), np.array(angles)


def _way(distance: float, cosine: float, radius: float) -> tuple[float, float]:
    """Length m and angle rad for a point `distance` m from the head's centre; plain floats are ten times as fast."""
    angle, horizon = math.acos(cosine), math.acos(radius / distance)
    if angle <= horizon:
        return math.sqrt(max(distance**2 + radius**2 - 2.0 * distance * radius * cosine, 0.0)), angle
    return math.sqrt(distance**2 - radius**2) + radius * (angle - horizon), angle


def shadow_gain(angle: np.ndarray) -> np.ndarray:
    """Gain of high frequencies at an angle (rad, any shape) from the ear's axis: 2 in front, 0.1 in the shadow."""
    half = 0.5 * _LEAST_ALPHA
    return (1.0 + half) + (1.0 - half) * np.cos(angle * (np.pi / _DARKEST_ANGLE))


def low_pass(corner_hz: float, rate_hz: int, taps: int) -> np.ndarray:
    """Impulse response (taps,) of a low-pass filter of first order (bilinear transform), gain 1 at 0 Hz.

    The response is cut off after `taps` samples, so that a filter needs no more memory than the samples before.
    """
    half_step = math.pi * corner_hz / rate_hz
    pole = (1.0 - half_step) / (1.0 + half_step)
    response = (1.0 + pole) * pole ** (np.arange(taps) - 1.0)
    response[0] = 1.0
    return response / response.sum()


class _Track(NamedTuple):
    """How a source was last heard."""

    distance_m: np.ndarray  # (M,)
    alpha: np.ndarray  # (M,)
    tail: np.ndarray  # (M, taps - 1), the newest samples


class SoundField:
    """The sources of a room as the microphones hear them: 1/r, delay, Doppler shift and the head's shadow.

    Between captures a source's distance runs linearly, which gives attenuation, delay and Doppler shift (to first
    order in v/c) without clicks.
    """

    def __init__(self, model: mujoco.MjModel, sample_rate_hz: int, head_radius: float) -> None:
        self._model, self._rate_hz = model, sample_rate_hz
        self._sources: dict[str, SoundSource] = {}
        self._bodies: dict[str, int] = {}
        self._tracks: dict[str, _Track] = {}
        self._taps: np.ndarray | None = None
        if head_radius > 0.0:  # the shadow begins at a wavelength of pi radii
            self._taps = low_pass(SPEED_OF_SOUND / (math.pi * head_radius), sample_rate_hz, _SHADOW_TAPS)

    @property
    def sources(self) -> tuple[SoundSource, ...]:
        """What sounds at present."""
        return tuple(self._sources.values())

    def add(self, source: SoundSource) -> None:
        """Let something sound; it replaces a source of the same name. Raises ValueError if its body does not exist."""
        if isinstance(source.position, str):
            self._bodies[source.name] = find_id(self._model, mujoco.mjtObj.mjOBJ_BODY, source.position)
        self._sources[source.name] = source
        self._tracks.pop(source.name, None)

    def remove(self, name: str) -> None:
        """Silence a source. Raises ValueError if there is none of that name."""
        if name not in self._sources:
            raise nearest("sound source", name, self._sources)
        del self._sources[name]
        self._tracks.pop(name, None)

    def reset(self) -> None:
        """Forget how the sources were heard. They stay: they belong to the room."""
        self._tracks.clear()

    def add_to(self, sound: np.ndarray, data: mujoco.MjData, ears: Ears, end: int) -> None:
        """Add what arrives at each ear to `sound` (M, N), whose last sample is number `end` - 1 since time 0."""
        if not self._sources:
            return
        time_s = np.arange(end - sound.shape[1], end) / self._rate_hz
        for source in self._sources.values():
            self._add_source(sound, source, data, ears, time_s)

    def get_state(self) -> dict[str, Any]:
        """Sources and how they were heard; nothing in it is ever written to."""
        return {"sources": self.sources, "tracks": dict(self._tracks)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        self._sources.clear()
        for source in state["sources"]:
            self.add(source)
        self._tracks = dict(state["tracks"])

    def _add_source(
        self, sound: np.ndarray, source: SoundSource, data: mujoco.MjData, ears: Ears, time_s: np.ndarray
    ) -> None:
        pos_w = data.xpos[self._bodies[source.name]] if isinstance(source.position, str) else np.array(source.position)
        distance_m, angle = paths_to(ears, pos_w)
        alpha = shadow_gain(angle) if self._taps is not None else np.ones(len(angle))
        before = self._tracks.get(source.name) or _Track(distance_m, alpha, np.zeros((len(angle), _SHADOW_TAPS - 1)))
        tail = np.empty_like(before.tail)
        # The last sample of a capture is heard at the distance of that capture.
        step = np.arange(1, len(time_s) + 1) / len(time_s)
        for ear in range(len(sound)):
            way_m = before.distance_m[ear] + (distance_m[ear] - before.distance_m[ear]) * step
            heard = source.emit(time_s - way_m / SPEED_OF_SOUND, self._rate_hz) * (source.level / way_m)
            if self._taps is not None:
                dry = np.concatenate((before.tail[ear], heard))
                dull = np.convolve(dry, self._taps, "valid")
                tail[ear] = dry[len(heard) :]
                heard = dull + (before.alpha[ear] + (alpha[ear] - before.alpha[ear]) * step) * (heard - dull)
            sound[ear] += heard
        self._tracks[source.name] = _Track(distance_m, alpha, tail)

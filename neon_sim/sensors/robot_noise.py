"""What nobody means to be heard: the robot's motors, footsteps and blows, and the room's murmur."""

import math
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np

from neon_sim.names import require_numbers, require_vectors
from neon_sim.sensors.sound_field import (
    LEVEL_DB,
    NEAREST_M,
    SPEED_OF_SOUND,
    Ears,
    low_pass,
    peak_amplitude,
    ways_to,
)

_CELL: Final = 16  # samples
_PARTNER: Final = np.array([1, 0, 3, 2])  # sine goes with cosine
_HIGHEST_TURNS: Final = 0.2  # of the sample rate, so that the overtone does not fold back
_MURMUR_TAPS: Final = 64


@dataclass(frozen=True)
class MotorNoiseConfig:
    """The whine of gears: a tone and its octave from each joint, where the joint is.

    That a gear's sound grows by 6 dB with twice the speed, and by 3 dB with twice a high load, is a usual rule of
    machine acoustics. The numbers themselves are round and not measured on a G1: 35 dB from one joint at 1 rad/s makes
    about 54 dB at the head when all 29 of them move like that.
    """

    level_db: float = 35.0  # dB SPL at 1 m, one unloaded joint at 1 rad/s
    hz_per_rad_s: float = 200.0  # pitch: gear teeth and poles that pass per radian
    load_nm: float = 5.0  # N m that add 3 dB

    def __post_init__(self) -> None:
        require_numbers(self, level_db=LEVEL_DB, hz_per_rad_s=(0.0, 10_000.0), load_nm=(0.001, 10_000.0))


@dataclass(frozen=True)
class ImpactNoiseConfig:
    """Knocks where a contact force rises: footsteps, a hand on the table, a box that drops.

    A struck body rings in a few damped modes (modal synthesis, as in van den Doel, Kry and Pai, SIGGRAPH 2001). Modes
    and level are round numbers: a foot that takes a G1's whole weight within 20 ms makes 64 dB at 1 m.
    """

    level_db: float = 54.0  # dB SPL at 1 m, peak of a knock of 100 N
    least_n: float = 20.0  # a smaller rise between two captures is the sway of standing, and silent
    modes_hz: tuple[float, ...] = (90.0, 240.0, 700.0)
    decays_s: tuple[float, ...] = (0.04, 0.02, 0.008)  # to 1/e
    shares: tuple[float, ...] = (1.0, 0.6, 0.3)
    spread: float = 0.15  # no two knocks have the same pitch: up to so much higher or lower

    def __post_init__(self) -> None:
        if not len(self.modes_hz) == len(self.decays_s) == len(self.shares) >= 1:
            raise ValueError("ImpactNoiseConfig wants a frequency, a decay and a share for each of its modes.")
        require_numbers(self, level_db=LEVEL_DB, least_n=(0.0, 10_000.0), spread=(0.0, 0.9))
        modes = len(self.modes_hz)
        require_vectors(self, modes, modes_hz=(1.0, 100_000.0), decays_s=(0.0001, 10.0), shares=(-10.0, 10.0))


class MotorNoise:
    """The joints of one robot. Between captures loudness runs linearly and phase without jumps."""

    def __init__(self, config: MotorNoiseConfig, model: mujoco.MjModel, robot: int, ears: int, rate_hz: int) -> None:
        hinge = model.jnt_type == int(mujoco.mjtJoint.mjJNT_HINGE)
        own = hinge & (model.body_rootid[model.jnt_bodyid] == model.body_rootid[robot])
        self._dofs, self._bodies = _as_slice(model.jnt_dofadr[own]), _as_slice(model.jnt_bodyid[own])
        self._config, self._rate_hz, self._shape = config, rate_hz, (ears, int(own.sum()))
        self._ramp, self._steps = _sample_numbers(0)
        self._peak, self._turns = peak_amplitude(config.level_db), config.hz_per_rad_s / rate_hz
        self.reset()

    def reset(self) -> None:
        """Silence."""
        self._phase, self._lag, self._gain = (np.zeros(self._shape) for _ in range(3))

    def add_to(self, sound: np.ndarray, data: mujoco.MjData, ears: Ears) -> None:
        """Add the whine to `sound` (M, N)."""
        count = sound.shape[1]
        if len(self._ramp) != count:
            self._ramp, self._steps = _sample_numbers(count)
        speed, torque = np.abs(data.qvel[self._dofs]), np.abs(data.qfrc_actuator[self._dofs])
        loudness = self._peak * speed * np.sqrt(1.0 + torque / self._config.load_nm)
        turns = np.minimum(self._turns * speed, _HIGHEST_TURNS)
        away = data.xpos[self._bodies] - ears.pos_w[:, None]
        distance_m = np.maximum(np.sqrt(np.einsum("mji,mji->mj", away, away)), NEAREST_M)
        gain = loudness / distance_m
        # What the way to the ear holds back of a tone, in phase; its change bends the pitch a little, as Doppler does.
        lag = turns * distance_m * (2.0 * np.pi * self._rate_hz / SPEED_OF_SOUND)
        pace = 2.0 * np.pi * turns - (lag - self._lag) / count
        growth = (gain - self._gain) / count
        for ear in range(len(sound)):
            steady, growing = _whine(self._phase[ear], pace[ear], self._gain[ear], growth[ear], self._steps)[:, :count]
            sound[ear] += steady + growing * self._ramp
        self._phase = np.mod(self._phase + pace * count, 2.0 * np.pi)
        self._lag, self._gain = lag, gain

    def get_state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Phases, lags and gains (M, J); they are never written to."""
        return self._phase, self._lag, self._gain

    def set_state(self, state: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Go back to a state of `get_state`."""
        self._phase, self._lag, self._gain = state


def _as_slice(places: np.ndarray) -> slice | np.ndarray:
    """Places in a row as a slice, which numpy follows without a copy; others as they are."""
    if len(places) and (np.diff(places) == 1).all():
        return slice(int(places[0]), int(places[-1]) + 1)
    return places.astype(np.intp)


def _sample_numbers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """1 to `count`; and for `_whine` where its cells begin, then the places within a cell, float32."""
    cells = np.arange(0, -(-count // _CELL) * _CELL, _CELL)
    return np.arange(1.0, count + 1.0), np.concatenate((cells, np.arange(1, _CELL + 1))).astype(np.float32)


def _whine(phase: np.ndarray, pace: np.ndarray, gain: np.ndarray, growth: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Sums over joints, weighted by gain and by growth, of sin x + sin(2 x) / 2 with x = phase + pace * (1, 2, ...).

    All but `steps` are (J,); phase in rad, pace in rad a sample. By sin(u + v) = sin u cos v + cos u sin v the sum over
    joints is one small product of matrices, for u on a coarse grid and v within its cells: a tenth of the sines.
    steps: of `_sample_numbers`. Returns (2, samples up to the end of a cell).
    """
    number, cells = len(pace), len(steps) - _CELL
    angle = pace.astype(np.float32)[:, None] * steps
    angle[:, :cells] += phase.astype(np.float32)[:, None]
    weights = np.empty((number, 2, 1), np.float32)
    weights[:, 0, 0], weights[:, 1, 0] = gain, growth
    # Of each angle its sine and cosine, and those of its double, halved.
    waves = np.empty((4, number, len(steps)), np.float32)
    sine, cosine = np.sin(angle, out=waves[0]), np.cos(angle, out=waves[1])
    np.multiply(sine, cosine, out=waves[2])
    np.multiply(cosine, cosine, out=waves[3])
    waves[3] -= 0.5
    left, right = waves[:, :, None, :cells] * weights, waves[_PARTNER, :, cells:]
    right[2:] *= 2.0  # of sin 2u cos 2v / 2 only one factor is to be halved
    return (left.reshape(4 * number, -1).T @ right.reshape(4 * number, _CELL)).reshape(2, -1)


class ImpactNoise:
    """Turns rises of the contact forces on bodies into knocks. A knock rings on through later captures."""

    def __init__(self, config: ImpactNoiseConfig, model: mujoco.MjModel, ears: int, rate_hz: int) -> None:
        self._config, self._model, self._rate_hz = config, model, rate_hz
        self._knocks = _knocks(config, rate_hz)  # (kinds, K)
        self._pyramidal = int(model.opt.cone) == int(mujoco.mjtCone.mjCONE_PYRAMIDAL)
        self._ears = ears
        self.reset()

    def reset(self) -> None:
        """Silence, and no force known."""
        self._force: np.ndarray | None = None  # (nbody,) N at the capture before
        self._coming = np.zeros((self._ears, 0))  # what earlier knocks still send, (M, any)

    def add_to(self, sound: np.ndarray, data: mujoco.MjData, ears: Ears, rng: np.random.Generator) -> None:
        """Add what rings to `sound` (M, N). Knocks begin with its first sample, as they leave the body."""
        force = contact_force(self._model, data, self._pyramidal)
        if self._force is not None:
            rise = force - self._force
            for body in np.flatnonzero(rise > self._config.least_n).tolist():
                ways = ways_to(ears, data.xpos[body])
                self._strike(float(rise[body]), [length_m for length_m, _ in ways], rng)
        self._force = force
        count = min(sound.shape[1], self._coming.shape[1])
        sound[:, :count] += self._coming[:, :count]
        self._coming = self._coming[:, count:]

    def get_state(self) -> tuple[np.ndarray | None, np.ndarray]:
        """Forces of the capture before and what still rings."""
        return self._force, self._coming.copy()

    def set_state(self, state: tuple[np.ndarray | None, np.ndarray]) -> None:
        """Go back to a state of `get_state`."""
        self._force, self._coming = state[0], state[1].copy()

    def _strike(self, rise_n: float, distances_m: list[float], rng: np.random.Generator) -> None:
        knock = self._knocks[int(rng.integers(len(self._knocks)))]
        loudness = peak_amplitude(self._config.level_db) * rise_n / 100.0
        starts = [round(distance_m / SPEED_OF_SOUND * self._rate_hz) for distance_m in distances_m]
        length = max(starts) + len(knock)
        if length > self._coming.shape[1]:  # room for the next ones too
            coming, self._coming = self._coming, np.zeros((self._ears, length + len(knock)))
            self._coming[:, : coming.shape[1]] = coming
        for sent, start, distance_m in zip(self._coming, starts, distances_m, strict=True):
            sent[start : start + len(knock)] += loudness / distance_m * knock


def contact_force(model: mujoco.MjModel, data: mujoco.MjData, pyramidal: bool) -> np.ndarray:
    """Sum of the normal contact forces on each body (nbody,) N; of two that touch, the later one in the tree has it."""
    contact = data.contact
    first, geom = contact.efc_address, contact.geom
    live = first >= 0
    if not live.all():
        first, geom = first[live], geom[live]
    if not len(first):
        return np.zeros(model.nbody)
    # Each edge of a friction pyramid carries normal force; contacts are the last rows of efc_force, one after another.
    normal = np.add.reduceat(data.efc_force, first) if pyramidal else data.efc_force[first]
    later = model.geom_bodyid.take(geom).max(axis=1)
    return np.bincount(later, weights=normal, minlength=model.nbody)


def _knocks(config: ImpactNoiseConfig, rate_hz: int, kinds: int = 8) -> np.ndarray:
    """Damped modes of peak 1, each kind a little higher than the one before: (kinds, K)."""
    time_s = np.arange(round(6.0 * max(config.decays_s) * rate_hz)) / rate_hz
    knocks = np.zeros((kinds, len(time_s)))
    for knock, factor in zip(knocks, np.linspace(1.0 - config.spread, 1.0 + config.spread, kinds), strict=True):
        for hz, decay_s, share in zip(config.modes_hz, config.decays_s, config.shares, strict=True):
            knock += share * np.exp(-time_s / decay_s) * np.sin(2.0 * np.pi * hz * factor * time_s)
    return knocks / np.abs(knocks).max(axis=1, keepdims=True)


class Murmur:
    """Noise from everywhere and of no direction: white below a corner and falling above it, alike at no two ears."""

    def __init__(self, level_db: float, corner_hz: float, ears: int, rate_hz: int) -> None:
        response = low_pass(corner_hz, rate_hz, _MURMUR_TAPS)
        self._taps = response / np.sqrt(np.square(response).sum()) * (peak_amplitude(level_db) / math.sqrt(2.0))
        self._ears = ears
        self.reset()

    def reset(self) -> None:
        """Begin in silence; it swells within 4 ms."""
        self._tail = np.zeros((self._ears, _MURMUR_TAPS - 1))

    def add_to(self, sound: np.ndarray, rng: np.random.Generator) -> None:
        """Add fresh noise to `sound` (M, N)."""
        white = np.concatenate((self._tail, rng.standard_normal(sound.shape)), axis=1)
        for ear, dry in enumerate(white):
            sound[ear] += np.convolve(dry, self._taps, "valid")
        self._tail = white[:, sound.shape[1] :]

    def get_state(self) -> np.ndarray:
        """The newest white noise; it is never written to."""
        return self._tail

    def set_state(self, state: np.ndarray) -> None:
        """Go back to a state of `get_state`."""
        self._tail = state

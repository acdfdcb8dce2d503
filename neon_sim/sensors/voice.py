"""A voice in the room: an utterance as a source for the microphone, said again until it was heard."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from neon_sim.g1.geometry import quat_to_matrix
from neon_sim.names import require_numbers, require_spans
from neon_sim.sensors.audio import Microphone
from neon_sim.sensors.sound_field import LEVEL_DB, SoundSource, peak_amplitude
from neon_sim.sensors.utterances import SAMPLE_RATE, Utterance, utter

VOICE: Final = "voice"  # the source's name


@dataclass(frozen=True)
class VoiceConfig:
    """How people speak to the robot; m, s, rad and dB SPL at 1 m.

    Levels: 55 to 66 dB(A) at conversation distance in homes, schools and shops (Pearsons, Bennett and Fidell, EPA
    600/1-77-025, 1977). Who has no place in the scene stands somewhere in front of the robot, mouth at 1.4 to 1.7 m.
    Raises ValueError for a range the wrong way round or out of bounds, such as for somebody in the robot's head.
    """

    level_db: tuple[float, float] = (57.0, 66.0)
    start_s: tuple[float, float] = (0.1, 0.5)  # simulated time of the first word
    pause_s: float = 1.0  # between two times of saying it
    distance: tuple[float, float] = (1.0, 2.5)
    bearing: tuple[float, float] = (-1.0, 1.0)
    mouth: tuple[float, float] = (1.4, 1.7)  # above the floor

    def __post_init__(self) -> None:
        require_spans(self, level_db=LEVEL_DB, start_s=(-1000.0, 1000.0), mouth=(-100.0, 100.0))
        require_spans(self, distance=(0.5, 1000.0), bearing=(-math.pi, math.pi))
        require_numbers(self, pause_s=(0.0, 1000.0))


@dataclass(frozen=True)
class Spoken:
    """Words and where they come from: a body of the scene, a point (x, y, z) m in the world, or None for anywhere."""

    text: str
    place: str | tuple[float, float, float] | None = None


class Said(NamedTuple):
    """When words are said for the first time, s of simulated time; before time 0 where nobody says them."""

    start_s: float = -math.inf
    end_s: float = -math.inf


def give_voice(
    microphone: Microphone,
    spoken: Spoken | None,
    pelvis_pose: tuple[np.ndarray, np.ndarray],
    config: VoiceConfig,
    rng: np.random.Generator,
) -> Said:
    """Let somebody speak from now on, in the place of who spoke before; None = nobody does. Returns when.

    pelvis_pose: position (3,) m and quat_wxyz (4,) in the world. Voice, level, first moment and place are drawn.
    Raises ValueError for a microphone at another rate than the utterances' 16 kHz, and whatever `utter` raises.
    """
    if spoken is None:
        if any(source.name == VOICE for source in microphone.sources):
            microphone.remove_source(VOICE)
        return Said()
    if microphone.config.sample_rate_hz != SAMPLE_RATE:
        raise ValueError(f"Voices are at {SAMPLE_RATE} Hz, the microphone at {microphone.config.sample_rate_hz}.")
    utterance = utter(spoken.text, rng)
    place = _somewhere(*pelvis_pose, config, rng) if spoken.place is None else spoken.place
    source = _as_source(utterance, place, config, rng)
    microphone.add_source(source)
    return Said(source.start_s, source.start_s + len(utterance.samples) / SAMPLE_RATE)


def _as_source(
    utterance: Utterance, place: str | tuple[float, float, float], config: VoiceConfig, rng: np.random.Generator
) -> SoundSource:
    pause = np.zeros(round(config.pause_s * SAMPLE_RATE), np.float32)
    rms = peak_amplitude(float(rng.uniform(*config.level_db))) / math.sqrt(2.0)
    return SoundSource(
        VOICE,
        np.concatenate((utterance.samples, pause)),
        place,
        level=rms / utterance.rms,
        start_s=float(rng.uniform(*config.start_s)),
        loop=True,
    )


def _somewhere(
    pos_w: np.ndarray, quat_wxyz: np.ndarray, config: VoiceConfig, rng: np.random.Generator
) -> tuple[float, float, float]:
    """A mouth in front of the robot, (3,) m in the world."""
    forward = quat_to_matrix(quat_wxyz)[:, 0]
    angle = math.atan2(forward[1], forward[0]) + float(rng.uniform(*config.bearing))
    distance, height = float(rng.uniform(*config.distance)), float(rng.uniform(*config.mouth))
    return float(pos_w[0]) + distance * math.cos(angle), float(pos_w[1]) + distance * math.sin(angle), height

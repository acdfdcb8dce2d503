"""What a microphone would hear of voices in the noise of a robot at work: put together, and not simulated anew."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neon_sim.sensors.sound_field import peak_amplitude
from neon_sim.sensors.utterances import SAMPLE_RATE, Utterance
from neon_sim.sensors.voice import VoiceConfig


@dataclass(frozen=True)
class Bed:
    """What one microphone hears of the robot and the room in an episode in which nobody speaks.

    sound: (N,) at 16 kHz; it begins `before` samples before time 0.
    """

    sound: np.ndarray
    before: int

    @classmethod
    def of_frames(cls, frames: np.ndarray, rate_hz: float) -> "Bed":
        """Out of an episode's frames (steps, S), which overlap; one is taken at each step."""
        newest = round(SAMPLE_RATE / rate_hz)
        sound = np.concatenate([frames[0], frames[1:, -newest:].ravel()])
        return cls(sound.astype(np.float16), frames.shape[1])

    def until(self, now: int, count: int) -> np.ndarray:
        """The `count` samples (count,) float32 that end `now` samples after time 0, silent where it had not begun."""
        end = self.before + now
        heard = self.sound[max(0, end - count) : end].astype(np.float32)
        return np.concatenate([np.zeros(count - len(heard), np.float32), heard])


class Voices:
    """Samples for an ear: sound (B, S), and whether a sentence in it has been said to its end.

    Somebody begins to speak as in the env (`VoiceConfig`), at a distance and loudness that are drawn, and says it again
    and again; what is heard ends at a moment that is drawn.

    Args:
        takes: utterances of each sentence.
        beds: of the robot's noise.
        seconds: of sound.
    """

    def __init__(self, takes: Sequence[Sequence[Utterance]], beds: Sequence[Bed], seconds: float) -> None:
        self.takes, self.beds, self.samples = takes, beds, round(seconds * SAMPLE_RATE)
        self.voice = VoiceConfig()

    def draw(self, chosen: np.ndarray, quiet: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Sentences by number (B,) -> sound (B, S) float32, and whether each was said (B,) bool."""
        drawn = [self._sample(int(number), quiet, rng) for number in chosen]
        return np.stack([sound for sound, _ in drawn]), np.array([whole for _, whole in drawn])

    def _sample(self, number: int, quiet: float, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
        bed = self.beds[int(rng.integers(len(self.beds)))]
        now = int(rng.integers(len(bed.sound) - bed.before + 1))
        sound = bed.until(now, self.samples)
        if rng.random() < quiet:
            return sound, False
        takes = self.takes[number]
        utterance = takes[int(rng.integers(len(takes)))]
        level, distance = rng.uniform(*self.voice.level_db), rng.uniform(*self.voice.distance)
        rms = peak_amplitude(float(level)) / math.sqrt(2.0) / float(distance)
        begun = round(float(rng.uniform(*self.voice.start_s)) * SAMPLE_RATE)
        pause = np.zeros(round(self.voice.pause_s * SAMPLE_RATE), np.float32)
        again = np.concatenate([utterance.samples, pause]) * np.float32(rms / utterance.rms)
        times = np.arange(now - len(sound), now) - begun
        sound += np.where(times >= 0, again[times % len(again)], 0.0).astype(np.float32)
        return np.clip(sound, -1.0, 1.0), now >= begun + len(utterance.samples)

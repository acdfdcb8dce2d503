"""What voices say: a few hundred short utterances that are shipped, and eSpeak NG for every other text.

`assets/speech` holds `manifest.json`, one row an utterance, and `utterances.npz` with their sound one after the other
(`speech_codec`). `agents/make_utterances.py` makes both.
"""

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim import espeak
from neon_sim.sensors import speech_codec
from neon_sim.shipped import asset_path

SAMPLE_RATE: Final = 16000  # Hz
FOLDER: Final = "speech"  # under assets/

# eSpeak NG's voices of English that we use, and how a speaker's pace and pitch scatter.
ACCENTS: Final = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp")  # "en" is British
SPEAKERS: Final = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
PACES: Final = (130, 190)  # words per minute
PITCHES: Final = (30, 70)  # of 0 to 100, where 50 is the voice's own
_QUIET = 0.01  # of the peak: what is cut off at both ends


@dataclass(frozen=True, eq=False)
class Utterance:
    """One text, said once by one voice.

    samples: (N,) float32 at 16 kHz, read-only, their largest magnitude 1 or a little less.
    """

    text: str
    voice: str  # eSpeak NG's name, for example "en-us+f3"
    words_per_minute: int
    pitch: int  # 0 to 100
    samples: np.ndarray

    @cached_property
    def rms(self) -> float:
        """Root mean square of the samples, pauses included."""
        return float(np.sqrt(np.mean(np.square(self.samples, dtype=np.float64))))


def plain(text: str) -> str:
    """The text as it is looked up: small letters, single blanks, no full stop or exclamation mark at the end."""
    return " ".join(text.lower().split()).rstrip(".! ")


class UtteranceLibrary:
    """The utterances of one folder. Sound is decoded when it is asked for.

    Raises FileNotFoundError if the folder lacks one of its two files.
    """

    def __init__(self, folder: Path) -> None:
        self._rows: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["rows"]
        with np.load(folder / "utterances.npz", allow_pickle=False) as stored:
            self._frames, ends = stored["frames"], np.cumsum(stored["counts"])
        self._spans = list(zip(np.concatenate([[0], ends[:-1]]).tolist(), ends.tolist(), strict=True))
        self._takes: dict[str, list[int]] = {}
        for number, row in enumerate(self._rows):
            self._takes.setdefault(plain(row["text"]), []).append(number)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that somebody says, as `plain` writes it."""
        return tuple(self._takes)

    def takes(self, text: str) -> tuple[int, ...]:
        """Numbers of the utterances of a text; () if nobody says it."""
        return tuple(self._takes.get(plain(text), ()))

    def utterance(self, number: int) -> Utterance:
        """One utterance, 0 to len - 1."""
        row, (start, end) = self._rows[number], self._spans[number]
        samples = speech_codec.decode(self._frames[start:end])
        samples.flags.writeable = False
        return Utterance(row["text"], row["voice"], row["words_per_minute"], row["pitch"], samples)


@cache
def shipped_utterances() -> UtteranceLibrary:
    """The library that comes with the package, read once."""
    return UtteranceLibrary(asset_path(FOLDER))


def utter(text: str, rng: np.random.Generator, library: UtteranceLibrary | None = None) -> Utterance:
    """Say a text in a random voice: a shipped take of it, else eSpeak NG.

    A shipped take is the same to the bit for the same rng; eSpeak NG's own noise makes two calls differ slightly.

    Raises:
        ValueError: an empty text.
        ImportError: nobody has said it before and the extra `speech` is missing; the message carries the pip line.
    """
    if not plain(text):
        raise ValueError(f"A voice needs words to say, got {text!r}. Give an instruction, or switch speech off.")
    library = shipped_utterances() if library is None else library
    takes = library.takes(text)
    if takes:
        return library.utterance(takes[int(rng.integers(len(takes)))])
    try:
        return synthesize(text, *draw_voice(rng))
    except ImportError as error:
        raise ImportError(
            f"No shipped utterance says {text!r}, and to say it now takes eSpeak NG: {espeak.PIP_LINE}. "
            'Or give the instruction as text (instruct="text").'
        ) from error


def draw_voice(rng: np.random.Generator) -> tuple[str, int, int]:
    """A random speaker: voice, words per minute, pitch."""
    accent, speaker = ACCENTS[int(rng.integers(len(ACCENTS)))], SPEAKERS[int(rng.integers(len(SPEAKERS)))]
    pace, pitch = (int(rng.integers(low, high + 1)) for low, high in (PACES, PITCHES))
    return f"{accent}+{speaker}", pace, pitch


def synthesize(text: str, voice: str, words_per_minute: int, pitch: int) -> Utterance:
    """Say a text with eSpeak NG: its 22.05 kHz brought to 16, silence cut off at both ends, peak 1.

    Raises ImportError without the extra `speech`, and ValueError as `espeak.speak` does or if nothing was heard.
    """
    sound, rate_hz = espeak.speak(text, voice, words_per_minute, pitch)
    from scipy.signal import resample_poly  # takes a second to import; most voices are shipped

    samples = resample_poly(sound.astype(np.float64), SAMPLE_RATE, rate_hz)
    loud = np.flatnonzero(np.abs(samples) > _QUIET * np.abs(samples).max(initial=0.0))
    if not len(loud):
        raise ValueError(f"{voice} made no sound of {text!r}. Give it words.")
    samples = samples[loud[0] : loud[-1] + 1]
    samples = (samples / np.abs(samples).max()).astype(np.float32)
    samples.flags.writeable = False
    return Utterance(text, voice, words_per_minute, pitch, samples)

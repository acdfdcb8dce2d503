"""What voices say: some hundred short utterances that are shipped, and eSpeak NG for every other text.

`assets/speech` holds `manifest.json`, one row an utterance, and `utterances.npz` with their sound one after the other
(`speech_codec`). `agents/make_utterances.py` makes both. A row that is a "part" is a phrase, said by a speaker who says
them all: the task `walk` has too many sentences to ship, and few phrases that they are made of.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
_BREATH_S = 0.06  # between two phrases of a sentence


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
        self._phrases: dict[tuple[str, int, int], dict[str, int]] = {}  # of each speaker
        for number, row in enumerate(self._rows):
            if row.get("part"):
                speaker = (row["voice"], row["words_per_minute"], row["pitch"])
                self._phrases.setdefault(speaker, {})[plain(row["text"])] = number
            else:
                self._takes.setdefault(plain(row["text"]), []).append(number)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that somebody says as a whole, as `plain` writes it."""
        return tuple(self._takes)

    def takes(self, text: str) -> tuple[int, ...]:
        """Numbers of the utterances of a whole text; () if nobody says it."""
        return tuple(self._takes.get(plain(text), ()))

    def put_together(self, text: str) -> tuple[tuple[int, ...], ...]:
        """For each speaker whose phrases make up the text: their numbers, in the order of the words."""
        words = plain(text.replace(", ", " ")).split()
        found = (_split(words, phrases) for phrases in self._phrases.values())
        return tuple(numbers for numbers in found if numbers)

    def joined(self, text: str, numbers: Sequence[int]) -> Utterance:
        """The phrases of one speaker as one utterance, with a short pause between them."""
        said = [self.utterance(number) for number in numbers]
        pause = np.zeros(round(_BREATH_S * SAMPLE_RATE), np.float32)
        samples = np.concatenate([piece for each in said for piece in (pause, each.samples)][1:])
        samples.flags.writeable = False
        return replace(said[0], text=text, samples=samples)

    def utterance(self, number: int) -> Utterance:
        """One utterance, 0 to len - 1."""
        row, (start, end) = self._rows[number], self._spans[number]
        samples = speech_codec.decode(self._frames[start:end])
        samples.flags.writeable = False
        return Utterance(row["text"], row["voice"], row["words_per_minute"], row["pitch"], samples)


def _split(words: Sequence[str], phrases: Mapping[str, int]) -> tuple[int, ...]:
    """The words as phrases, the longest first that goes on from where the last one ended; () if they are not."""
    numbers, start = [], 0
    while start < len(words):
        ends = (end for end in range(len(words), start, -1) if " ".join(words[start:end]) in phrases)
        end = next(ends, None)
        if end is None:
            return ()
        numbers.append(phrases[" ".join(words[start:end])])
        start = end
    return tuple(numbers)


@cache
def shipped_utterances() -> UtteranceLibrary:
    """The library that comes with the package, read once."""
    return UtteranceLibrary(asset_path(FOLDER))


def utter(text: str, rng: np.random.Generator, library: UtteranceLibrary | None = None) -> Utterance:
    """Say a text in a random voice: a shipped take of it, else shipped phrases that make it up, else eSpeak NG.

    The same rng gives the same samples, to the bit; for eSpeak NG that goes for one build of it.

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
    speakers = library.put_together(text)
    if speakers:
        return library.joined(text, speakers[int(rng.integers(len(speakers)))])
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

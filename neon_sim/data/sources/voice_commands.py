"""Type "voice_commands": spoken commands, a WAV file and a JSON file of the same name beside it.

The layout read here is {"text": "walk forward", "command": [vx, vy, yaw rate]} in m/s, m/s, rad/s; "instruction" or
"transcript" do for "text". Where a file has no "command", the option `commands` says what its words ask for; an
utterance whose meaning nobody says is refused, because it would teach the robot to stand there. The command holds as
long as the words are heard, and the arms are at home. Sound is 16 kHz mono; other rates and stereo are converted.
"""

import math
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.data.listed_episodes import RATE_HZ, ListedEpisodes, find_files, options_of, read_json
from neon_sim.data.mapped_episode import DEFAULT_MODE, G1Motion, motion_episode
from neon_sim.data.source import DataSourceConfig, EpisodeSource, Keys, is_wanted
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints

_SAMPLE_RATE: Final = 16_000  # Hz, of the robot's microphone
_HEARD: Final = 5120  # samples: what the robot hears at one step, the last 0.32 s
_TEXT: Final = ("text", "instruction", "transcript")
_SCALES: Final = {1: 128.0, 2: 32768.0, 4: 2147483648.0}  # bytes a sample -> full scale


@dataclass(frozen=True)
class VoiceOptions:
    """commands: words -> (vx, vy, yaw rate), for utterances without a "command"; capitals do not matter."""

    control_mode: str = DEFAULT_MODE
    commands: Mapping[str, Sequence[float]] = field(default_factory=dict)


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a folder; options: see `VoiceOptions`. Raises FileNotFoundError if it has no WAV file."""
    options = options_of(config, VoiceOptions)
    return ListedEpisodes(find_files(config, "*.wav"), _measure, partial(_read, options=options))


def _measure(path: Path) -> tuple[int, float]:
    with _open(path) as file:
        return math.ceil(file.getnframes() / file.getframerate() * RATE_HZ), RATE_HZ


def _open(path: Path) -> wave.Wave_read:
    try:
        return wave.open(str(path), "rb")
    except (wave.Error, EOFError) as error:
        raise ValueError(f"not a PCM WAV file: {error}") from error


def _read(path: Path, keys: Keys, options: VoiceOptions) -> NeonEpisode:
    told = read_json(path.with_suffix(".json"))
    text = next((str(told[name]) for name in _TEXT if name in told), None)
    if text is None:
        raise ValueError(f"{path.with_suffix('.json')} has none of {_TEXT}; it has {sorted(told)}")
    steps, _ = _measure(path)
    velocity = np.tile(_command(told, text, options), (steps, 1))
    at_home = np.tile(joints.HOME, (steps, 1))
    heard = {"audio": heard_windows(read_wav(path), steps)} if is_wanted("audio", keys) else {}
    motion = G1Motion(at_home, at_home, RATE_HZ, velocity, instruction=text, observations=heard)
    return motion_episode(motion, options.control_mode)


def _command(told: Mapping[str, Any], text: str, options: VoiceOptions) -> np.ndarray:
    known = {words.lower().strip(): value for words, value in options.commands.items()}
    given = told.get("command", known.get(text.lower().strip()))
    if given is None:
        raise ValueError(f"nobody says what {text!r} asks for: give 'command' in its JSON, or the option 'commands'")
    command = np.asarray(given, np.float64)
    if command.shape != (3,):
        raise ValueError(f"'command' is vx, vy, yaw rate, found {given!r}")
    return command


def read_wav(path: Path) -> np.ndarray:
    """Sound (N,) float32 in [-1, 1], mono at 16 kHz. Raises ValueError for what is not 8, 16 or 32 bit PCM."""
    with _open(path) as file:
        width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
        raw = file.readframes(file.getnframes())
    if width not in _SCALES:
        raise ValueError(f"samples of {8 * width} bits are not read; convert the file to 16 bits")
    samples = np.frombuffer(raw, {1: "u1", 2: "<i2", 4: "<i4"}[width]).astype(np.float64)
    samples = (samples - (_SCALES[1] if width == 1 else 0.0)) / _SCALES[width]
    mono = samples.reshape(-1, channels).mean(axis=1)
    if rate != _SAMPLE_RATE and len(mono):
        from scipy.signal import resample_poly  # takes a second to import, and most recordings do without

        common = math.gcd(rate, _SAMPLE_RATE)
        mono = resample_poly(mono, _SAMPLE_RATE // common, rate // common)
    return mono.astype(np.float32)


def heard_windows(sound: np.ndarray, steps: int) -> np.ndarray:
    """What is heard at each 50 Hz step (steps, 5120): the 0.32 s up to and with that step, silence around the sound."""
    hop = round(_SAMPLE_RATE / RATE_HZ)
    padded = np.zeros(_HEARD + hop * steps, np.float32)
    used = min(len(sound), hop * steps)
    padded[_HEARD : _HEARD + used] = sound[:used]
    return np.lib.stride_tricks.sliding_window_view(padded, _HEARD)[hop::hop][:steps].copy()

"""Type "bones": BONES-SEED motions on the G1, one CSV a motion: g1/csv/<date>/<motion>.csv, degrees and centimetres.

120 postures a second, as the data set's own guide says; the option `fps` says otherwise. NPZ clips are read as well,
see `neon_sim.data.motion_clips`.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neon_sim.data.action_mapper import MappingReport
from neon_sim.data.listed_episodes import ListedEpisodes, find_files, options_of
from neon_sim.data.mapped_episode import DEFAULT_MODE, motion_episode
from neon_sim.data.motion_clips import clip_motion, count_frames, read_clip, words_of
from neon_sim.data.source import DataSourceConfig, EpisodeSource, Keys
from neon_sim.episode import NeonEpisode


@dataclass(frozen=True)
class ClipOptions:
    """fps: of files that do not say it; None is the data set's own rate. pattern: which files are clips."""

    control_mode: str = DEFAULT_MODE
    fps: float | None = None
    pattern: str = "*.csv"


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a folder of clips; options: see `ClipOptions`. Raises FileNotFoundError if there are none."""
    return open_clips(config, 120.0)


def open_clips(config: DataSourceConfig, rate_hz: float) -> EpisodeSource:
    """A folder of clips, or one file, of a data set that has `rate_hz` postures a second."""
    options = options_of(config, ClipOptions)
    rate_hz = options.fps or rate_hz
    paths = find_files(config, options.pattern)
    measure, read = partial(_measure, rate_hz=rate_hz), partial(_read, rate_hz=rate_hz, mode=options.control_mode)
    return ListedEpisodes(paths, measure, read, partial(_report, paths[0]))


def _report(path: Path) -> MappingReport:
    return read_clip(path).report


def _measure(path: Path, rate_hz: float) -> tuple[int, float]:
    frames, said_hz = count_frames(path)
    return max(0, frames - 1), said_hz or rate_hz


def _read(path: Path, _: Keys, rate_hz: float, mode: str) -> NeonEpisode:
    clip = read_clip(path)
    return motion_episode(clip_motion(clip, clip.rate_hz or rate_hz, words_of(path)), mode)

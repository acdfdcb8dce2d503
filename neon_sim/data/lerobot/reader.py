"""Reading: one episode at a time, nothing else in memory, and every flaw said with its file and its episode."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from neon_sim.data.lerobot.columns import from_columns, observation_keys
from neon_sim.data.lerobot.episodes import EpisodeRow, read_episode_rows, read_tasks
from neon_sim.data.lerobot.errors import BadEpisodeError
from neon_sim.data.lerobot.features import BOOKKEEPING, video_size
from neon_sim.data.lerobot.info import read_info
from neon_sim.data.lerobot.parquet import column_values, read_rows
from neon_sim.data.resample import resample, resampled_steps
from neon_sim.data.source import Keys, is_wanted
from neon_sim.data.video import decode_video
from neon_sim.episode import NeonEpisode

_WORDS = "language_instruction"  # a column that some data sets have beside the task, or instead of it
_CLOCK_TOLERANCE = 0.1  # of a period: how far a step's time may lie beside the data set's fps


class LeRobotReader:
    """A LeRobot folder, v2.0, v2.1 or v3.0, as episodes.

    Args:
        folder: of the data set.
        rate_hz: steps per second of the episodes; None = as recorded.
        cameras: False leaves out what lies in video files, which is by far the most work.

    Raises:
        FileNotFoundError: no data set there.
        ValueError: metadata that cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str], rate_hz: float | None = None, cameras: bool = True) -> None:
        self.folder, self.rate_hz, self.cameras = Path(folder), rate_hz, cameras
        self.info = read_info(self.folder)
        self.rows = read_episode_rows(self.folder, self.info)
        self.tasks = read_tasks(self.folder, self.info)
        self.skipped: dict[int, BadEpisodeError] = {}

    def __len__(self) -> int:
        """Episodes."""
        return len(self.rows)

    def steps(self, index: int) -> int:
        """Steps of the `index`-th episode as it will be read, without reading it."""
        length = self.rows[index].length
        return length if self.rate_hz is None else resampled_steps(length, self.info.fps, self.rate_hz)

    def names(self, column: str) -> tuple[str, ...] | None:
        """What the entries of a column are called, for example `names("action")`; None where nobody says.

        Raises:
            KeyError: no such column.
        """
        return self.info.features[column].names

    def episode(self, index: int, keys: Keys = None) -> NeonEpisode:
        """Read the `index`-th episode.

        keys: observations that are wanted; columns and videos of others are not looked at. None = all of them.

        Raises:
            IndexError: no such episode.
            BadEpisodeError: it cannot be used; the message names the file and the episode.
        """
        if not 0 <= index < len(self.rows):
            raise IndexError(f"{self.folder} has {len(self.rows)} episodes, number {index} is not one of them.")
        row = self.rows[index]
        if row.length < 1:
            raise BadEpisodeError(self.folder / row.data_file, row.index, "empty episode", "it has no steps")
        unread = self._unread(keys)
        columns = self._read_columns(row, [name for name in self.info.column_names if name not in unread])
        self._check(row, columns)
        if self.cameras:
            columns |= {name: self._decode(row, name) for name in self.info.video_keys if name not in unread}
        words = self._words(row, columns)
        columns = {name: values for name, values in columns.items() if name not in (*BOOKKEEPING, _WORDS)}
        neon = None if self.info.neon is None else self.info.neon.only(keys)
        try:
            episode = from_columns(columns, words, self.info.fps, neon, row.length)
        except ValueError as error:
            raise BadEpisodeError(self.folder / row.data_file, row.index, "not an episode", str(error)) from error
        return episode if self.rate_hz is None else resample(episode, self.rate_hz)

    def episodes(self, skip_bad: bool = False, indices: Iterable[int] | None = None) -> Iterator[NeonEpisode]:
        """Every episode in turn, or those of `indices`; nothing is kept.

        skip_bad: leave out episodes that cannot be used; they are in `skipped`, and one warning counts them.

        Raises:
            BadEpisodeError: unless skip_bad.
        """
        self.skipped = {}
        for index in range(len(self.rows)) if indices is None else indices:
            try:
                episode = self.episode(index)
            except BadEpisodeError as error:
                if not skip_bad:
                    raise
                self.skipped[self.rows[index].index] = error
                continue
            yield episode
        if self.skipped:
            warnings.warn(self._skipped_line(), stacklevel=2)

    def _skipped_line(self) -> str:
        kinds = Counter(error.kind for error in self.skipped.values())
        counted = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
        first = next(iter(self.skipped.values()))
        return f"{self.folder}: skipped {len(self.skipped)} of {len(self.rows)} episodes ({counted}). First: {first}"

    def _unread(self, keys: Keys) -> set[str]:
        """Columns of observations that nobody asked for."""
        found = observation_keys(self.info.features)
        return {name for name, key in found.items() if not is_wanted(key, keys)}

    def _read_columns(self, row: EpisodeRow, names: Sequence[str]) -> dict[str, np.ndarray]:
        path = self.folder / row.data_file
        try:
            table = read_rows(path, row.first_row, row.length, names)
        except FileNotFoundError as error:
            raise BadEpisodeError(path, row.index, "missing file", str(error)) from None
        except ValueError as error:
            raise BadEpisodeError(path, row.index, "unreadable data", str(error)) from error
        columns = {}
        for name in names:
            try:
                columns[name] = column_values(table[name], self.info.features[name])
            except (ValueError, OSError, TypeError) as error:
                raise BadEpisodeError(path, row.index, f"bad column {name}", str(error)) from error
        return columns

    def _check(self, row: EpisodeRow, columns: dict[str, np.ndarray]) -> None:
        path = self.folder / row.data_file
        if "action" not in columns:
            raise BadEpisodeError(path, row.index, "no action", f"the columns are {sorted(columns)}")
        for name, values in columns.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                step = int(np.argwhere(~np.isfinite(values))[0][0])
                raise BadEpisodeError(path, row.index, f"NaN in {name}", f"at step {step}")
        if "episode_index" in columns and (columns["episode_index"] != row.index).any():
            found = int(columns["episode_index"].reshape(-1)[0])
            raise BadEpisodeError(path, row.index, "other episode", f"its rows are those of episode {found}")
        times = columns.get("timestamp", np.arange(row.length) / self.info.fps).reshape(-1).astype(np.float64)
        wanted = times[0] + np.arange(row.length) / self.info.fps
        late = np.abs(times - wanted) * self.info.fps > _CLOCK_TOLERANCE
        if late.any():
            step = int(late.argmax())
            said = f"{self.info.fps:g} Hz are said, but step {step} is at {times[step]:.4f} s"
            raise BadEpisodeError(path, row.index, "wrong fps", f"{said} and not at {wanted[step]:.4f} s")

    def _decode(self, row: EpisodeRow, name: str) -> np.ndarray:
        clip = row.clips[name]
        path = self.folder / clip.path
        try:
            frames = decode_video(path, self.info.fps, clip.first_frame, row.length)
        except FileNotFoundError as error:
            raise BadEpisodeError(path, row.index, "missing file", str(error)) from None
        except ValueError as error:
            raise BadEpisodeError(path, row.index, "bad video", str(error)) from error
        height_width = video_size(self.info.features[name])
        if frames.shape[1:3] != height_width:
            raise BadEpisodeError(path, row.index, "bad video", f"{frames.shape[1:3]} pixels, {height_width} are said")
        return frames

    def _words(self, row: EpisodeRow, columns: dict[str, np.ndarray]) -> str:
        if _WORDS in columns and columns[_WORDS].dtype.kind == "U":
            return str(columns[_WORDS].reshape(-1)[0])
        if row.tasks:
            return row.tasks[0]
        index = int(columns["task_index"].reshape(-1)[0]) if "task_index" in columns else 0
        return self.tasks[index] if index < len(self.tasks) else ""

"""Recording: each episode becomes part of the data set in one last step, so that a killed writer loses one at most.

Each episode has its own files, in v3.0 as well; `neon_sim.data.lerobot.merge` packs them into larger ones. What counts
as recorded is the episode's line in meta/episodes.jsonl, or its file in meta/episodes; both come after the data.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from neon_sim.data.lerobot import episodes as meta
from neon_sim.data.lerobot.columns import meta_of, to_columns
from neon_sim.data.lerobot.features import Feature, features_of
from neon_sim.data.lerobot.folder_lock import take_lock
from neon_sim.data.lerobot.info import FILES_PER_CHUNK, INFO, DatasetInfo, new_info, read_info, write_info
from neon_sim.data.lerobot.parquet import make_table, tasks_table, write_table
from neon_sim.data.lerobot.stats import Stats, combine_stats, episode_stats, stats_to_json
from neon_sim.data.lerobot.whole_file import append_line, clear_unfinished, whole_file, write_text
from neon_sim.data.video import VideoConfig, encode_video
from neon_sim.episode import NeonEpisode


class LeRobotWriter:
    """Adds episodes to a data set, new or begun before. The first episode fixes the columns, the rate and the layout.

    Args:
        folder: of the data set.
        version: "v2.1" or "v3.0"; must be the folder's own if it holds a data set.
        video: how cameras are encoded.
        use_videos: False stores pictures as PNG in the parquet files, without loss.
        wait_s: how long to wait for another writer of the same folder to end.

    Raises:
        ValueError: another version, or another process is writing there.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        version: str = "v2.1",
        video: VideoConfig | None = None,
        use_videos: bool = True,
        wait_s: float = 0.0,
    ) -> None:
        self.folder, self.version = Path(folder), version
        self._video, self._use_videos = video or VideoConfig(), use_videos
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = take_lock(self.folder, wait_s)
        self.info: DatasetInfo | None = None
        self._tasks: list[str] = []
        self._frames = self._episodes = self._next_file = 0
        self._stats: Stats = {}
        clear_unfinished(self.folder)
        if (self.folder / INFO).exists():
            self._take_up(read_info(self.folder))

    def __len__(self) -> int:
        return self._episodes

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another writer in. What was added is on the disk already."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def add(self, episode: NeonEpisode) -> int:
        """Record one episode and return its number.

        Raises:
            ValueError: an empty episode, a number that is not finite, or other columns, rate or layout than before.
        """
        columns = checked_columns(episode)
        info = self._info_for(episode, columns)
        features = {name: feature for name, feature in info.features.items() if name in columns}
        stats = episode_stats(columns, features)
        table = make_table(columns, features)
        pictures = {key: columns[key] for key in info.video_keys}
        return self.add_recorded(table, pictures, stats, episode.instruction)

    def add_recorded(self, table: pa.Table, clips: Mapping[str, np.ndarray | Path], stats: Stats, task: str) -> int:
        """Record an episode given as a table without bookkeeping, and as pictures or finished mp4 files by camera."""
        assert self.info is not None
        info, index, length = self.info, self._episodes, table.num_rows
        if task not in self._tasks:
            self._tasks.append(task)
            self._write_tasks(info)
        for key, clip in clips.items():
            self._put_clip(key, clip, info)
        numbers = bookkeeping(index, self._frames, length, self._tasks.index(task), info.fps)
        features = {name: feature for name, feature in info.features.items() if name in numbers}
        stats = stats | episode_stats(numbers, features)
        for name in numbers:
            table = table.append_column(name, pa.array(numbers[name]))
        with whole_file(self.folder / self._path(info.data_path)) as unfinished:
            write_table(table.select(list(info.column_names)), unfinished)
        self._commit(info, length, task, stats)
        return index

    def _take_up(self, info: DatasetInfo) -> None:
        """Go on with what is there, and put right what a killed writer left between two files."""
        if info.version != self.version:
            raise ValueError(f"{self.folder} is a {info.version} data set, {self.version} was asked for.")
        rows = meta.read_episode_rows(self.folder, info)
        self.info, self._tasks = info, meta.read_tasks(self.folder, info)
        self._episodes, self._frames = len(rows), sum(row.length for row in rows)
        if info.is_v3:
            used = [*_paths(rows), *(str(path) for path in meta.meta_files(self.folder))]
            self._next_file = 1 + max(map(file_number, used), default=-1)
            for stats in meta.read_episode_stats(self.folder, info):
                self._stats = combine_stats([self._stats, stats])
            write_text(self.folder / meta.STATS_V3, json.dumps(stats_to_json(self._stats)))
        else:
            _drop_lines(self.folder / meta.EPISODES_V2, self._episodes)
            _drop_lines(self.folder / meta.EPISODE_STATS_V2, self._episodes)
        self._write_tasks(info)
        self._write_info(info)
        begun = [self._path(info.data_path)]
        begun += [self._path(str(info.video_path), video_key=key) for key in info.video_keys]
        for path in begun:  # files of the episode in which a writer was killed: other readers would take them in
            (self.folder / path).unlink(missing_ok=True)

    def _info_for(self, episode: NeonEpisode, columns: Mapping[str, np.ndarray]) -> DatasetInfo:
        fps = round(episode.rate_hz)
        if fps != episode.rate_hz:
            raise ValueError(f"A data set has whole frames per second, got {episode.rate_hz} Hz. Resample the episode.")
        features = features_of(columns, fps, self._use_videos)
        neon = meta_of(episode)
        if self.info is None:
            self.info = new_info(self.version, fps, features, neon)
            write_info(self.folder, self.info)
            return self.info
        if self.info.fps != fps:
            raise ValueError(f"{self.folder} holds episodes of {self.info.fps:g} Hz, got {fps} Hz. Resample it.")
        if self.info.neon is not None and self.info.neon != neon:
            raise ValueError(f"{self.folder} holds episodes like {self.info.neon}, got {neon}.")
        _require_equal(self.folder, self.info.features, features)
        return self.info

    def _path(self, template: str, **names: str) -> str:
        if self.version == "v3.0":
            return meta.numbered(template, self._next_file, **names)
        assert self.info is not None
        chunk = self._episodes // self.info.chunks_size
        return template.format(episode_chunk=chunk, episode_index=self._episodes, **names)

    def _put_clip(self, key: str, clip: np.ndarray | Path, info: DatasetInfo) -> None:
        path = self.folder / self._path(str(info.video_path), video_key=key)
        with whole_file(path) as unfinished:
            if isinstance(clip, Path):
                link_or_copy(clip, unfinished)
            else:
                encode_video(unfinished, clip, int(info.fps), self._video)

    def _commit(self, info: DatasetInfo, length: int, task: str, stats: Stats) -> None:
        if info.is_v3:
            videos = {key: (self._next_file, 0.0) for key in info.video_keys}
            place = meta.Place(self._next_file, self._frames, videos, self._next_file)
            row = meta.place_row(self._episodes, length, task, info.fps, place, stats)
            with whole_file(self.folder / self._path(meta.EPISODES_FILE_V3)) as unfinished:
                write_table(meta.rows_table([row]), unfinished)
            self._stats = combine_stats([self._stats, stats])
            write_text(self.folder / meta.STATS_V3, json.dumps(stats_to_json(self._stats)))
        else:
            line = {"episode_index": self._episodes, "stats": stats_to_json(stats)}
            append_line(self.folder / meta.EPISODE_STATS_V2, json.dumps(line))
            line = {"episode_index": self._episodes, "tasks": [task], "length": length}
            append_line(self.folder / meta.EPISODES_V2, json.dumps(line, ensure_ascii=False))
        self._episodes, self._frames, self._next_file = self._episodes + 1, self._frames + length, self._next_file + 1
        self._write_info(info)

    def _write_info(self, info: DatasetInfo) -> None:
        self.info = replace(
            info, total_episodes=self._episodes, total_frames=self._frames, total_tasks=len(self._tasks)
        )
        write_info(self.folder, self.info)

    def _write_tasks(self, info: DatasetInfo) -> None:
        if info.is_v3:
            with whole_file(self.folder / meta.TASKS_V3) as unfinished:
                write_table(tasks_table(self._tasks), unfinished)
            return
        lines = [{"task_index": number, "task": task} for number, task in enumerate(self._tasks)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_text(self.folder / meta.TASKS_V2, text)


def checked_columns(episode: NeonEpisode) -> dict[str, np.ndarray]:
    """The episode's columns.

    Raises:
        ValueError: no steps, or an action or an observation that is not finite, said with its column and step.
    """
    if len(episode) == 0:
        raise ValueError("An episode of no steps cannot be recorded: the format has no place for it.")
    columns = to_columns(episode)
    for name, values in columns.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            step = int(np.argwhere(~np.isfinite(values))[0][0])
            raise ValueError(
                f"{name} is not finite at step {step}. Leave this episode out, or find where it comes from."
            )
    return columns


def bookkeeping(index: int, first_index: int, length: int, task_index: int, fps: float) -> dict[str, np.ndarray]:
    """The format's own columns (T,) of one episode."""
    steps = np.arange(length)
    return {
        "timestamp": (steps / fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(length, index),
        "index": first_index + steps,
        "task_index": np.full(length, task_index),
    }


def link_or_copy(source: Path, target: Path) -> None:
    """Put the file at `target` as well: a second name for it, or a copy on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _require_equal(folder: Path, had: Mapping[str, Feature], got: Mapping[str, Feature]) -> None:
    for name in sorted(had.keys() | got.keys()):
        before, now = had.get(name), got.get(name)
        if before is None or now is None or (before.dtype, before.shape) != (now.dtype, now.shape):
            raise ValueError(f"{folder} has {name!r} as {before}, this episode has {now}. Record it elsewhere.")


def file_number(path: str) -> int:
    """Which file of v3.0 a path is, counted through all chunks; -1 for another kind of path."""
    found = re.search(r"chunk-(\d+)/file-(\d+)\.", path)
    return int(found[1]) * FILES_PER_CHUNK + int(found[2]) if found else -1


def _paths(rows: Iterable[meta.EpisodeRow]) -> Iterable[str]:
    for row in rows:
        yield row.data_file
        yield from (clip.path for clip in row.clips.values())


def _drop_lines(path: Path, keep: int) -> None:
    """Cut off a line with no end, and lines beyond the recorded episodes."""
    lines: Sequence[str] = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    if len(lines) != keep + 1 or lines[-1]:
        write_text(path, "".join(line + "\n" for line in lines[:keep]))

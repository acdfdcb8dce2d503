"""Many data sets into one: shards of parallel workers, or one that was recorded file by file into larger files.

The result depends on the order of the shards and on nothing else. It appears under its name when it is whole.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from neon_sim.data.lerobot import episodes as meta
from neon_sim.data.lerobot.features import BOOKKEEPING
from neon_sim.data.lerobot.info import (
    DATA_FILE_MB,
    DATA_PATH,
    VIDEO_FILE_MB,
    VIDEO_PATH,
    DatasetInfo,
    read_info,
    write_info,
)
from neon_sim.data.lerobot.parquet import read_rows, table_writer, tasks_table, write_table
from neon_sim.data.lerobot.stats import Stats, combine_stats, episode_stats, stats_to_json
from neon_sim.data.lerobot.whole_file import write_text
from neon_sim.data.lerobot.writer import LeRobotWriter, bookkeeping
from neon_sim.data.video import concatenate_videos

_BYTES_PER_MB = 1024**2


@dataclass(frozen=True)
class _Recorded:
    """One episode of a shard: where it lies, and its statistics."""

    folder: Path
    info: DatasetInfo
    row: meta.EpisodeRow
    stats: Stats

    def table(self) -> pa.Table:
        """Its rows without bookkeeping."""
        names = [name for name in self.info.column_names if name not in BOOKKEEPING]
        return read_rows(self.folder / self.row.data_file, self.row.first_row, self.row.length, names)

    def clips(self) -> dict[str, Path]:
        """Its video files."""
        return {key: self.folder / clip.path for key, clip in self.row.clips.items()}

    @property
    def task(self) -> str:
        """Its words."""
        return self.row.tasks[0] if self.row.tasks else ""


def merge(shards: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], version: str = "v3.0") -> Path:
    """Write all episodes of `shards`, in this order, as one data set; an older one at `out` is replaced.

    Shards are what `LeRobotWriter` recorded, one file per episode. v3.0 packs episodes into files of up to 100 MB of
    data and 200 MB of video; v2.1 keeps a file per episode, as it must.

    Raises:
        ValueError: shards that differ in their columns, rate or layout, or that pack several episodes in a file.
    """
    folders = [Path(shard) for shard in shards]
    infos = [read_info(folder) for folder in folders]
    if not infos:
        raise ValueError(f"There is nothing to merge into {os.fspath(out)}: no shards were given.")
    for folder, info in zip(folders, infos, strict=True):
        _require_alike(folders[0], infos[0], folder, info)
    out = Path(out)
    unfinished = out.with_name(f".{out.name}.merging")
    shutil.rmtree(unfinished, ignore_errors=True)
    recorded = (item for folder, info in zip(folders, infos, strict=True) for item in _recorded(folder, info))
    if version == "v3.0":
        _Packer(unfinished, infos[0]).pack(recorded)
    else:
        _copy(recorded, unfinished, infos[0], version)
    _put_in_place(unfinished, out)
    return out


def _require_alike(first: Path, wanted: DatasetInfo, folder: Path, info: DatasetInfo) -> None:
    for name in ("fps", "neon", "robot_type"):
        if getattr(info, name) != getattr(wanted, name):
            raise ValueError(f"{folder} has {name} {getattr(info, name)}, {first} has {getattr(wanted, name)}.")
    if dict(info.features) != dict(wanted.features):
        differing = sorted(key for key in info.features.keys() | wanted.features.keys()
                           if info.features.get(key) != wanted.features.get(key))  # fmt: skip
        raise ValueError(f"{folder} and {first} differ in their features: {differing}. Merge what was recorded alike.")


def _recorded(folder: Path, info: DatasetInfo) -> Iterator[_Recorded]:
    rows = meta.read_episode_rows(folder, info)
    stats = meta.read_episode_stats(folder, info)
    used: set[str] = set()
    for row, part in zip(rows, stats, strict=False):  # statistics may be one ahead of a writer that was killed
        if row.data_file in used:
            raise ValueError(f"{folder} holds several episodes in {row.data_file}; it was packed already.")
        used.add(row.data_file)
        yield _Recorded(folder, info, row, {name: value for name, value in part.items() if name not in BOOKKEEPING})


def _copy(recorded: Iterator[_Recorded], folder: Path, info: DatasetInfo, version: str) -> None:
    """A file per episode; videos get a second name where the disk allows it."""
    with LeRobotWriter(folder, version) as writer:
        writer.info = _empty(info, version)
        write_info(folder, writer.info)
        for item in recorded:
            writer.add_recorded(item.table(), item.clips(), item.stats, item.task)
    (folder / ".lock").unlink()


def _empty(info: DatasetInfo, version: str) -> DatasetInfo:
    return replace(
        info,
        version=version,
        data_path=DATA_PATH[version],
        video_path=VIDEO_PATH[version] if info.video_keys else None,
        total_episodes=0,
        total_frames=0,
        total_tasks=0,
    )


def _put_in_place(unfinished: Path, out: Path) -> None:
    older = out.with_name(f".{out.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    if out.exists():
        os.replace(out, older)
    os.replace(unfinished, out)
    shutil.rmtree(older, ignore_errors=True)


class _Packer:
    """v3.0 files of many episodes: one row group per episode, so that a reader fetches what it needs."""

    def __init__(self, folder: Path, info: DatasetInfo) -> None:
        self.folder, self.info = folder, _empty(info, "v3.0")
        self._rows: list[dict[str, Any]] = []
        self._tasks: list[str] = []
        self._stats: Stats = {}
        self._frames = self._data_file = 0
        self._data_bytes = 0.0
        self._data: Any = None
        self._videos = {key: _VideoFile(folder, str(self.info.video_path), key) for key in self.info.video_keys}

    def pack(self, recorded: Iterator[_Recorded]) -> None:
        """Write everything."""
        for item in recorded:
            self._add(item)
        if self._data is not None:
            self._data.close()
        for video in self._videos.values():
            video.write(int(self.info.fps))
        info = replace(
            self.info, total_episodes=len(self._rows), total_frames=self._frames, total_tasks=len(self._tasks)
        )
        if self._rows:
            path = self.folder / meta.numbered(meta.EPISODES_FILE_V3, 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(meta.rows_table(self._rows), path)
        (self.folder / "meta").mkdir(parents=True, exist_ok=True)
        write_table(tasks_table(self._tasks), self.folder / meta.TASKS_V3)
        write_text(self.folder / meta.STATS_V3, json.dumps(stats_to_json(self._stats)))
        write_info(self.folder, info)

    def _add(self, item: _Recorded) -> None:
        if item.task not in self._tasks:
            self._tasks.append(item.task)
        index, length = len(self._rows), item.row.length
        numbers = bookkeeping(index, self._frames, length, self._tasks.index(item.task), self.info.fps)
        stats = item.stats | episode_stats(numbers, {name: self.info.features[name] for name in numbers})
        table = item.table()
        for name, values in numbers.items():
            table = table.append_column(name, pa.array(values))
        self._write(table.select(list(self.info.column_names)), (item.folder / item.row.data_file).stat().st_size)
        videos = {key: self._videos[key].add(path, length, int(self.info.fps)) for key, path in item.clips().items()}
        place = meta.Place(self._data_file, self._frames, videos)
        self._rows.append(meta.place_row(index, length, item.task, self.info.fps, place, stats))
        self._stats = combine_stats([self._stats, stats])
        self._frames += length

    def _write(self, table: pa.Table, size_bytes: int) -> None:
        if self._data is not None and self._data_bytes + size_bytes > DATA_FILE_MB * _BYTES_PER_MB:
            self._data.close()
            self._data, self._data_bytes, self._data_file = None, 0.0, self._data_file + 1
        if self._data is None:
            path = self.folder / meta.numbered(self.info.data_path, self._data_file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = table_writer(path, table.schema)
        self._data.write_table(table, row_group_size=table.num_rows)
        self._data_bytes += size_bytes


class _VideoFile:
    """One camera's clips, gathered until a file is full."""

    def __init__(self, folder: Path, template: str, key: str) -> None:
        self._folder, self._template, self._key = folder, template, key
        self._number = 0
        self._parts: list[Path] = []
        self._lengths: list[int] = []

    def add(self, clip: Path, length: int, fps: int) -> tuple[int, float]:
        """Take a clip in; returns the file's number and the second at which the clip begins in it."""
        size = sum(part.stat().st_size for part in [*self._parts, clip])
        if self._parts and size > VIDEO_FILE_MB * _BYTES_PER_MB:
            self.write(fps)
            self._number += 1
        begin_s = sum(self._lengths) / fps
        self._parts.append(clip)
        self._lengths.append(length)
        return self._number, begin_s

    def write(self, fps: int) -> None:
        """Put the gathered clips into their file."""
        if self._parts:
            path = self._folder / meta.numbered(self._template, self._number, video_key=self._key)
            path.parent.mkdir(parents=True, exist_ok=True)
            concatenate_videos(self._parts, self._lengths, path, fps)
        self._parts, self._lengths = [], []

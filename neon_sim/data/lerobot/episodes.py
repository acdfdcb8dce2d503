"""Which episodes there are, and where in which file each of them lies."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neon_sim.data.lerobot.info import FILES_PER_CHUNK, INFO, DatasetInfo
from neon_sim.data.lerobot.parquet import DAMAGE
from neon_sim.data.lerobot.stats import Stats, stats_from_json
from neon_sim.data.lerobot.whole_file import unended_line, whole_lines

EPISODES_V2 = "meta/episodes.jsonl"
EPISODE_STATS_V2 = "meta/episodes_stats.jsonl"
TASKS_V2 = "meta/tasks.jsonl"
EPISODES_V3 = "meta/episodes"
EPISODES_FILE_V3 = EPISODES_V3 + "/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
TASKS_V3 = "meta/tasks.parquet"
STATS_V3 = "meta/stats.json"


@dataclass(frozen=True)
class Clip:
    """An episode's part of one video file."""

    path: str  # below the data set's folder
    first_frame: int = 0


@dataclass(frozen=True)
class EpisodeRow:
    """One episode: its number, steps and words, and where it lies. first_row: in its parquet file."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data_file: str
    first_row: int
    clips: Mapping[str, Clip]


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Name the file of metadata in which an entry is missing, or is something else than it should be."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path} has an entry without {error}. It is not what LeRobot writes.") from None
    except TypeError as error:
        raise ValueError(f"{path} has an entry that is not what LeRobot writes: {error}.") from error


def read_episode_rows(folder: Path, info: DatasetInfo) -> list[EpisodeRow]:
    """Every episode that was written to its end, in order of their numbers.

    Raises:
        ValueError: metadata that cannot be read, or of fewer episodes than info.json counts, naming the file.
    """
    listed = folder / (EPISODES_V3 if info.is_v3 else EPISODES_V2)
    with _whole(listed):
        rows = _rows_v3(folder, info) if info.is_v3 else _rows_v2(folder, info)
    if len(rows) < info.total_episodes:
        counted = f"{folder / INFO} counts {info.total_episodes} episodes, {listed} lists {len(rows)}"
        raise ValueError(f"{counted}. Copy the data set again, whole.")
    return sorted(rows, key=lambda row: row.index)


def _rows_v2(folder: Path, info: DatasetInfo) -> list[EpisodeRow]:
    rows = []
    for given in read_json_lines(folder / EPISODES_V2):
        index = int(given["episode_index"])
        place = {"episode_chunk": index // info.chunks_size, "episode_index": index}
        clips = {key: Clip(str(info.video_path).format(video_key=key, **place)) for key in info.video_keys}
        data_file = info.data_path.format(**place)
        rows.append(EpisodeRow(index, int(given["length"]), tuple(given["tasks"]), data_file, 0, clips))
    return rows


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """One dict per line. A last line without an end counts where it is whole: a killed writer's is not.

    Raises:
        ValueError: a line that is not JSON, named by its number.
    """
    found = []
    for number, line in enumerate([*whole_lines(path), *_last_line(path)], start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
    return found


def _last_line(path: Path) -> list[str]:
    line = unended_line(path)
    try:
        json.loads(line)
    except ValueError:
        return []
    return [line]


def _rows_v3(folder: Path, info: DatasetInfo) -> list[EpisodeRow]:
    given = [row for path in meta_files(folder) for row in _read_meta_file(path)]
    first_index: dict[str, int] = {}  # of the frames in each data file
    for row in given:
        file = _data_file(row, info)
        first_index[file] = min(first_index.get(file, row["dataset_from_index"]), row["dataset_from_index"])
    return [_row_v3(row, info, first_index[_data_file(row, info)]) for row in given]


def meta_files(folder: Path) -> list[Path]:
    """The parquet files of meta/episodes, in order."""
    return sorted((folder / EPISODES_V3).glob("chunk-*/file-*.parquet"))


def _read_meta_file(path: Path) -> list[dict[str, Any]]:
    try:
        names = [name for name in pq.read_schema(path).names if not name.startswith("stats/")]
        return pq.read_table(path, columns=names, use_threads=False).to_pylist()
    except DAMAGE as error:
        raise ValueError(f"{path} is not a readable parquet file: {error}") from error


def _data_file(row: Mapping[str, Any], info: DatasetInfo) -> str:
    return info.data_path.format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])


def _row_v3(row: Mapping[str, Any], info: DatasetInfo, first_index: int) -> EpisodeRow:
    clips = {key: _clip_v3(row, key, info) for key in info.video_keys}
    first_row = int(row["dataset_from_index"]) - first_index
    tasks = tuple(row["tasks"])
    return EpisodeRow(int(row["episode_index"]), int(row["length"]), tasks, _data_file(row, info), first_row, clips)


def _clip_v3(row: Mapping[str, Any], key: str, info: DatasetInfo) -> Clip:
    place = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
    path = str(info.video_path).format(video_key=key, **place)
    return Clip(path, round(float(row[f"videos/{key}/from_timestamp"]) * info.fps))


def read_tasks(folder: Path, info: DatasetInfo) -> list[str]:
    """The tasks in the order of their numbers; none where the data set has no list of them.

    Raises:
        ValueError: a list that cannot be read, naming the file.
    """
    path = folder / (TASKS_V3 if info.is_v3 else TASKS_V2)
    with _whole(path):
        given = _tasks_v3(path) if info.is_v3 else {int(r["task_index"]): str(r["task"]) for r in read_json_lines(path)}
        return [given[number] for number in sorted(given)]


def _tasks_v3(path: Path) -> dict[int, str]:
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path)
    except DAMAGE as error:
        raise ValueError(f"{path} is not a readable parquet file: {error}") from error
    words = "task" if "task" in table.column_names else "__index_level_0__"
    return dict(zip(table["task_index"].to_pylist(), table[words].to_pylist(), strict=True))


def read_episode_stats(folder: Path, info: DatasetInfo) -> list[Stats]:
    """Statistics per episode, where the data set has them. Raises ValueError for some that cannot be read."""
    if not info.is_v3:
        with _whole(folder / EPISODE_STATS_V2):
            return [stats_from_json(row["stats"]) for row in read_json_lines(folder / EPISODE_STATS_V2)]
    found: list[Stats] = []
    for path in meta_files(folder):
        names = [name for name in pq.read_schema(path).names if name.startswith("stats/")]
        found += [_unflatten(row) for row in pq.read_table(path, columns=names).to_pylist()]
    return found


def _unflatten(row: Mapping[str, Any]) -> Stats:
    stats: Stats = {}
    for name, value in row.items():
        _, feature, key = name.split("/")
        stats.setdefault(feature, {})[key] = np.array(value)
    return stats


@dataclass(frozen=True)
class Place:
    """Where v3.0 puts one episode: file numbers counted through all chunks, and seconds in each video."""

    data_file: int
    first_index: int  # of its frames, in the data set
    videos: Mapping[str, tuple[int, float]]  # key -> (file number, s at which it begins)
    meta_file: int = 0


def place_row(index: int, length: int, task: str, fps: float, place: Place, stats: Stats) -> dict[str, Any]:
    """One row of meta/episodes in v3.0."""
    row: dict[str, Any] = {"episode_index": index, "tasks": [task], "length": length}
    row |= _chunk_and_file("data", place.data_file)
    row |= {"dataset_from_index": place.first_index, "dataset_to_index": place.first_index + length}
    for key, (file, begin_s) in place.videos.items():
        row |= _chunk_and_file(f"videos/{key}", file)
        row |= {f"videos/{key}/from_timestamp": begin_s, f"videos/{key}/to_timestamp": begin_s + length / fps}
    for name, parts in stats.items():
        row |= {f"stats/{name}/{key}": value.tolist() for key, value in parts.items()}
    return row | _chunk_and_file("meta/episodes", place.meta_file)


def _chunk_and_file(prefix: str, number: int) -> dict[str, int]:
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}


def rows_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of `place_row` as a table; numbers of statistics are float64 lists, counts int64."""
    return pa.Table.from_pylist(rows)


def numbered(path: str, number: int, **names: str) -> str:
    """A v3.0 path template with the file number put in."""
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return path.format(chunk_index=chunk, file_index=file, **names)

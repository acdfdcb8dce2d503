"""Arrow tables from numpy columns and back, and rows out of a parquet file without reading the rest."""

import io
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from neon_sim.data.lerobot.features import Feature, video_size

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError("LeRobot data sets need pyarrow. Install it: pip install 'neon-sim[data]'") from error

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_MM_PER_M = 1000.0
_FARTHEST_MM = 65535
# What Pillow raises for bytes that are no picture; a broken PNG is a SyntaxError to it.
_NO_PICTURE = (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
DAMAGE = (pa.ArrowException, OSError)  # what pyarrow raises for bytes that are no parquet file


def column_array(values: np.ndarray, feature: Feature) -> pa.Array:
    """Values (T, ...) of one feature -> T rows: numbers, lists of a fixed length, nested lists, or PNG pictures."""
    if feature.dtype == "image":
        return pa.array([{"bytes": png, "path": None} for png in map(_to_png, values)], _IMAGE)
    if feature.dtype == "string":
        return pa.array(values.reshape(-1).tolist(), pa.string())
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if feature.shape == (1,):
        return flat
    if len(feature.shape) == 1:
        return pa.FixedSizeListArray.from_arrays(flat, feature.shape[0])
    for size in reversed(feature.shape):
        ends = np.arange(0, len(flat) + 1, size, dtype=np.int32)
        flat = pa.ListArray.from_arrays(pa.array(ends), flat)
    return flat


def column_values(column: pa.ChunkedArray, feature: Feature) -> np.ndarray:
    """Inverse of `column_array`: (T, *shape), pictures (T, H, W, C) however the shape counts, a depth map in metres.

    Raises:
        ValueError: a row is missing, is no picture, or has another size than the feature says.
    """
    if column.null_count:
        raise ValueError(f"{column.null_count} of {len(column)} rows have no value")
    if feature.dtype == "image":
        return np.stack([_from_png(row["bytes"], feature) for row in column.to_pylist()])
    array = column.combine_chunks()
    if feature.dtype == "string":
        return np.array(array.to_pylist(), dtype=np.str_).reshape(len(column), 1)
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    flat = array.to_numpy(zero_copy_only=False)
    if flat.size != len(column) * int(np.prod(feature.shape)):
        raise ValueError(f"{len(column)} rows of shape {feature.shape} are said, {flat.size} numbers are there")
    return flat.reshape(len(column), *feature.shape)


def _to_png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W, 1) uint8, or (H, W) m as 16-bit millimetres, of which the farthest are 65.5 m."""
    if pixels.dtype.kind == "f":
        pixels = np.clip(np.round(pixels * _MM_PER_M), 0, _FARTHEST_MM).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _from_png(raw: bytes, feature: Feature) -> np.ndarray:
    """(H, W, C) uint8 as the colours or grey levels that the feature says, or a depth map (H, W) float32 m."""
    colours = not feature.is_depth and 3 in (feature.shape[0], feature.shape[-1])
    try:
        with Image.open(io.BytesIO(raw or b"")) as picture:
            pixels = np.array(picture.convert("RGB") if colours else picture)
    except _NO_PICTURE as error:
        raise ValueError(f"a picture cannot be decoded: {error}") from error
    if pixels.shape[:2] != video_size(feature):
        raise ValueError(f"a picture has {pixels.shape[:2]} pixels, {video_size(feature)} are said")
    if feature.is_depth:
        return (pixels / _MM_PER_M).astype(np.float32)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def make_table(columns: Mapping[str, np.ndarray], features: Mapping[str, Feature]) -> pa.Table:
    """The table of one episode: every feature that is not a video, in the order of the features."""
    names = [name for name, feature in features.items() if feature.dtype != "video"]
    return pa.table({name: column_array(columns[name], features[name]) for name in names})


def write_table(table: pa.Table, path: Path) -> None:
    """Write one parquet file with one row group. No dictionaries: sensor values hardly ever repeat."""
    with table_writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))


def table_writer(path: Path, schema: pa.Schema) -> Any:
    """A parquet writer with this project's settings; a context manager."""
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=False)


def read_rows(path: Path, first: int, count: int, names: Iterable[str]) -> pa.Table:
    """Rows `first` to `first + count` of a file; only the row groups that hold them are read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a parquet file, or without one of the names, or with fewer rows.
    """
    if not path.exists():
        raise FileNotFoundError(f"No data file {path}.")
    try:
        footer, columns, starts = _footer(path, *_version(path))
        _check_names(path, columns, names)
        groups, skipped = _groups_of(starts, first, count)
        with pq.ParquetFile(path, metadata=footer, memory_map=False, pre_buffer=False) as file:
            table = file.read_row_groups(groups, columns=list(names), use_threads=False)
    except DAMAGE as error:
        raise ValueError(f"{path} is not a readable parquet file: {error}. Copy or record it again.") from error
    rows = table.slice(first - skipped, count)
    if rows.num_rows < count:
        wanted = f"{path} ends too soon: rows {first} to {first + count - 1} are wanted"
        raise ValueError(f"{wanted}, it gives {rows.num_rows} of them.")
    return rows


def _version(path: Path) -> tuple[int, int, int]:
    """Changes with what a file holds: inode, size, and when it was written, ns."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=32)
def _footer(path: Path, inode: int, size: int, written: int) -> tuple[pq.FileMetaData, list[str], np.ndarray]:
    """What a file says of itself, its columns' names, and the rows where its row groups begin and the last one ends.

    Hundreds of episodes lie in one file, each in a row group: its footer takes longer to understand than an episode.
    """
    footer = pq.read_metadata(path)
    lengths = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    return footer, footer.schema.to_arrow_schema().names, np.cumsum([0, *lengths])


def _check_names(path: Path, found: list[str], names: Iterable[str]) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r} that meta/info.json promises; it has {found}.")


def _groups_of(starts: np.ndarray, first: int, count: int) -> tuple[list[int], int]:
    """Row groups that hold the rows, and how many rows come before the first of them."""
    groups = np.flatnonzero((starts[:-1] < first + count) & (starts[1:] > first)).tolist()
    return groups, int(starts[groups[0]]) if groups else first


def tasks_table(tasks: list[str]) -> pa.Table:
    """meta/tasks.parquet: a pandas frame whose index is the task and whose column is its number."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [_pandas_column("task_index", "int64", "int64"), _pandas_column("task", "unicode", "object")],
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def _pandas_column(name: str, pandas_type: str, numpy_type: str) -> dict[str, Any]:
    return {
        "name": name,
        "field_name": name,
        "pandas_type": pandas_type,
        "numpy_type": numpy_type,
        "metadata": None,
    }

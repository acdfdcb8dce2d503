"""PointCloud2 without a Python object per byte: a structured numpy array in, CDR bytes out, and back.

The dataclass path takes 15 to 30 ms for 20 000 points (measured); this one copies the points once.
"""

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neon_sim.real import cdr
from neon_sim.real.cdr import Cursor
from neon_sim.real.codec import WireError

# sensor_msgs/PointField's numbers for what a column holds.
_KINDS: Final = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 8: "<f8"}
_NUMBERS: Final = {np.dtype(kind): number for number, kind in _KINDS.items()}


@dataclass(frozen=True)
class PointCloud:
    """One sweep of the lidar."""

    time_s: float  # of the sender's clock
    frame: str  # "livox_frame" on the robot
    points: np.ndarray  # (N,) structured: x, y, z as float32 m, then whatever the sensor adds


def encode_point_cloud(cloud: PointCloud) -> bytes:
    """Write one sweep as a sample of `ros.PointCloud2`.

    Raises:
        ValueError: a column that PointField has no number for, or that is itself an array.
    """
    dtype = cloud.points.dtype
    if cloud.points.ndim != 1 or dtype.fields is None:
        raise ValueError(f"points must be one row of a structured dtype, got {dtype} {cloud.points.shape}")
    sample = cdr.begin(cloud.time_s)
    cdr.put_text(sample, cloud.frame)
    cdr.put(sample, "III", 1, len(cloud.points), len(dtype.fields))
    for name, (column, offset, *_) in dtype.fields.items():
        if column not in _NUMBERS:
            raise ValueError(f"column {name!r} is {column}; PointField knows {', '.join(_KINDS.values())}")
        cdr.put_text(sample, name)
        cdr.put(sample, "I", offset)
        cdr.put(sample, "B", _NUMBERS[column])
        cdr.put(sample, "I", 1)
    cdr.put(sample, "B", 0)  # little-endian
    data = cloud.points.tobytes()
    cdr.put(sample, "III", dtype.itemsize, len(data), len(data))
    sample += data
    cdr.put(sample, "B", 1)  # dense: no point is invalid
    return cdr.finish(sample)


def decode_point_cloud(sample: bytes) -> PointCloud:
    """Read one sample of `ros.PointCloud2`; the points are a view into it.

    Raises:
        WireError: cut short, big-endian, or columns that do not fit into a point.
    """
    try:
        return _read(Cursor(sample))
    except (struct.error, ValueError) as error:
        raise WireError(f"PointCloud2: {len(sample)} bytes cannot be read as one ({error}). Was it cut?") from error


def _read(cursor: Cursor) -> PointCloud:
    time_s, frame = cursor.time_s(), cursor.text()
    height, width, columns = cursor.get("III")
    names: list[str] = []
    formats: list[Any] = []
    offsets: list[int] = []
    for _ in range(columns):
        names.append(cursor.text())
        offsets += cursor.get("I")
        (number,) = cursor.get("B")
        formats.append(_column(number, *cursor.get("I")))
    (big_endian,) = cursor.get("B")
    step, _, size = cursor.get("III")
    if big_endian or size != step * width * height or cursor.at + size > len(cursor.sample):
        raise ValueError(f"{width} x {height} points of {step} bytes, {size} given, big-endian {big_endian}")
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": step})
    return PointCloud(time_s, frame, np.frombuffer(cursor.sample, dtype, width * height, cursor.at))


def _column(number: int, count: int) -> Any:
    if number not in _KINDS:
        raise ValueError(f"column of kind {number}, PointField knows 1..8")
    return _KINDS[number] if count == 1 else (_KINDS[number], (count,))

"""TFRecord files without TensorFlow: each record is its length, the length's checksum, the bytes, their checksum.

A checksum is CRC-32C (Castagnoli, RFC 3720), rotated and shifted so that it is not a checksum of a checksum.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

_POLYNOMIAL: Final = 0x82F63B78  # CRC-32C, bits reversed
_MASK_DELTA: Final = 0xA282EAD8
_HEADER: Final = struct.Struct("<QI")
_FOOTER: Final = struct.Struct("<I")
_LANE: Final = 1024  # bytes that one lane of the parallel checksum runs over


@dataclass(frozen=True)
class Record:
    """Where one record's bytes lie."""

    path: Path
    number: int  # in its file
    offset: int  # of the bytes
    length: int

    def __str__(self) -> str:
        return f"{self.path}, record {self.number}"


def _table() -> np.ndarray:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(_POLYNOMIAL), values >> 1)
    return values


_TABLE: Final = _table()
_PLAIN: Final = _TABLE.tolist()


def crc32c(data: bytes) -> int:
    """CRC-32C of bytes; crc32c(b"123456789") is 0xE3069283.

    Long data is cut into lanes that run side by side in numpy; a lane's checksum is then carried over the next one.
    """
    state, begin = 0xFFFFFFFF, 0
    lanes = len(data) // _LANE
    if lanes > 1:
        columns = np.frombuffer(data, np.uint8, lanes * _LANE).reshape(lanes, _LANE).T
        parts = np.zeros(lanes, np.uint32)
        for column in columns:
            parts = _TABLE[(parts ^ column) & 0xFF] ^ (parts >> 8)
        over, begin = _carry_tables(), lanes * _LANE
        for part in parts.tolist():
            a, b, c, d = state & 0xFF, state >> 8 & 0xFF, state >> 16 & 0xFF, state >> 24
            state = over[0][a] ^ over[1][b] ^ over[2][c] ^ over[3][d] ^ part
    for byte in data[begin:]:
        state = _PLAIN[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _carry_tables() -> list[list[int]]:
    """What a state becomes over a lane of zeros; the state's four bytes each have their own table, for XOR."""
    states = (np.arange(256, dtype=np.uint32)[None] << np.array([[0], [8], [16], [24]], np.uint32)).copy()
    for _ in range(_LANE):
        states = _TABLE[states & 0xFF] ^ (states >> 8)
    tables: list[list[int]] = states.tolist()
    return tables


def masked_crc(data: bytes) -> int:
    """The checksum as it stands in the file."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def list_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Where the records of a file lie, without reading what is in them.

    Raises ValueError for a length that does not fit its checksum, or a file that ends within a record.
    """
    path = Path(path)
    size, offset, number = path.stat().st_size, 0, 0
    with open(path, "rb") as file:
        while offset < size:
            file.seek(offset)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise ValueError(f"{path} ends within the header of record {number}. Download it again.")
            length, crc = _HEADER.unpack(header)
            if crc != masked_crc(header[:8]):
                raise ValueError(f"{path}: the length of record {number} does not fit its checksum; no TFRecord file?")
            end = offset + _HEADER.size + length + _FOOTER.size
            if end > size:
                raise ValueError(f"{path} ends within record {number}: {end} bytes are said, {size} are there.")
            yield Record(path, number, offset + _HEADER.size, length)
            offset, number = end, number + 1


def read_record(record: Record) -> bytes:
    """The bytes of one record. Raises ValueError if they do not fit their checksum."""
    with open(record.path, "rb") as file:
        file.seek(record.offset)
        data, crc = file.read(record.length), file.read(_FOOTER.size)
    if len(crc) < _FOOTER.size or _FOOTER.unpack(crc)[0] != masked_crc(data):
        raise ValueError(f"{record} does not fit its checksum. Download it again.")
    return data


def frame_record(data: bytes) -> bytes:
    """One record as it stands in a file; a TFRecord file is such records one after another."""
    length = struct.pack("<Q", len(data))
    return length + _FOOTER.pack(masked_crc(length)) + data + _FOOTER.pack(masked_crc(data))

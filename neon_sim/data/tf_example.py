"""tf.train.Example and SequenceExample from their bytes (protobuf wire format), without TensorFlow or protobuf.

Example         {1: Features}                     Features    {1: map<name, Feature>}
SequenceExample {1: Features, 2: FeatureLists}    FeatureLists {1: map<name, FeatureList {1: Feature ...}>}
Feature         {1: BytesList | 2: FloatList | 3: Int64List}, each {1: value ...}, numbers packed or one by one
"""

import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np

Value: TypeAlias = "list[bytes] | np.ndarray"  # bytes, float32 or int64

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT: Final = 10  # bytes of a 64-bit number


def parse_example(data: bytes) -> dict[str, Value]:
    """Features by name. Raises ValueError for bytes that are no Example."""
    found: dict[str, Value] = {}
    for field, part in _fields(memoryview(data)):
        if field == 1:
            found |= _features(_message(part))
    return found


def parse_sequence_example(data: bytes) -> tuple[dict[str, Value], dict[str, list[Value]]]:
    """Context features and feature lists by name. Raises ValueError for bytes that are no SequenceExample."""
    context: dict[str, Value] = {}
    lists: dict[str, list[Value]] = {}
    for field, part in _fields(memoryview(data)):
        if field == 1:
            context |= _features(_message(part))
        elif field == 2:
            for name, entry in _map(_message(part)):
                lists[name] = [_feature(_message(value)) for number, value in _fields(entry) if number == 1]
    return context, lists


def _features(data: memoryview) -> dict[str, Value]:
    return {name: _feature(value) for name, value in _map(data)}


def _map(data: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Entries of field 1, a map from strings to messages."""
    for field, entry in _fields(data):
        if field == 1:
            parts = dict(_fields(_message(entry)))
            if 1 not in parts:
                raise ValueError("A feature without a name: no tf.train.Example.")
            yield str(_message(parts[1]), "utf-8"), _message(parts.get(2, memoryview(b"")))


def _feature(data: memoryview) -> Value:
    for kind, part in _fields(data):
        values = [value for field, value in _fields(_message(part)) if field == 1]
        if kind == 1:
            return [bytes(_message(value)) for value in values]
        if kind == 2:
            return _numbers([_floats(value) for value in values], np.float32)
        if kind == 3:
            return _numbers([_integers(value) for value in values], np.int64)
    return np.zeros(0, np.float32)  # a feature that says nothing has no kind


def _numbers(parts: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)


def _floats(value: "int | memoryview") -> np.ndarray:
    data = struct.pack("<I", value) if isinstance(value, int) else value
    if len(data) % 4:
        raise ValueError(f"Packed floats of {len(data)} bytes: no tf.train.Example.")
    return np.frombuffer(data, "<f4")


def _integers(value: "int | memoryview") -> np.ndarray:
    if isinstance(value, int):
        return np.array([value], np.uint64).astype(np.int64)
    found, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        found.append(number)
    return np.array(found, np.uint64).astype(np.int64)


def _fields(data: memoryview) -> "Iterator[tuple[int, int | memoryview]]":
    """(field number, value) of a message in the order of its bytes: a number, or the bytes of what is nested."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        wire = key & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, place = _varint(data, place)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:
            raise ValueError(f"Wire type {wire} is none that an Example has.")
        if place + size > len(data):
            raise ValueError(f"A field of {size} bytes where {len(data) - place} are left: the record is cut off.")
        part = data[place : place + size]
        yield key >> 3, part if wire == _BYTES else int.from_bytes(part, "little")
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for count in range(_LONGEST_VARINT):
        if place + count >= len(data):
            raise ValueError("A number is cut off: no tf.train.Example.")
        byte = data[place + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place + count + 1
    raise ValueError("A number has more than 64 bits: no tf.train.Example.")


def _message(value: "int | memoryview") -> memoryview:
    if isinstance(value, int):
        raise ValueError("A number where a message belongs: no tf.train.Example.")
    return value

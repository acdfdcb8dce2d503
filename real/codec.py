"""Fixed-size messages between the wire's CDR bytes and numpy, without a Python object per motor.

In memory a message is the C struct that the robot's own programs hold (numpy's aligned dtype): its CRC runs over that
struct. CDR lays the same fields out in the same order and differs only in where padding falls, so that reading or
writing a message is a few slices joined: three each for LowState and LowCmd. Both layouts are worked out from the
dataclass in `real/idl`, and the tests hold them against CycloneDDS's own serialisation.
"""

import struct
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import itemgetter
from typing import Any, Final, TypeVar, get_args, get_type_hints

import numpy as np
from cyclonedds.idl import IdlStruct, types

HEADER: Final = b"\x00\x01\x00\x00"  # CDR (XCDR1), little-endian; the last byte's low bits count padding at the end
_SPARE: Final = HEADER + bytes(16)  # stands behind the bytes that are cut: the header and the zeros of padding
_T = TypeVar("_T", bound=IdlStruct)
_PRIMITIVES: Final = {
    types.byte: np.uint8,
    types.int16: np.int16,
    types.uint16: np.uint16,
    types.int32: np.int32,
    types.uint32: np.uint32,
    types.int64: np.int64,
    types.float32: np.float32,
    types.float64: np.float64,
}


class WireError(ValueError):
    """Bytes from the wire that are not the message they should be."""


class Layout:
    """How one message type lies in memory and on the wire.

    `dtype` is the C struct; a record of it is a 0-d array: `state["motor_state"]["q"]` is the (35,) view of all angles.

    Raises:
        TypeError: the type holds text or a sequence, so that its size varies.
    """

    def __init__(self, data_type: type[IdlStruct]) -> None:
        self.name: str = data_type.__idl_typename__
        self.dtype = _struct_dtype(data_type)
        moves, self.size = _moves(self.dtype)
        offset = len(HEADER)
        self._bounds = (self.size + offset, (self.size + 3) // 4 * 4 + offset)  # a writer fills up to whole words
        self._to_memory = _cuts([(wire + offset, at, n) for at, wire, n in moves], self.dtype.itemsize)
        to_wire = [(-len(_SPARE), 0, offset), *((at, wire + offset, n) for at, wire, n in moves)]
        self._to_wire = _cuts(to_wire, self._bounds[1])

    def zeros(self) -> np.ndarray:
        """Return an empty record, all zero."""
        return np.zeros((), self.dtype)

    def decode(self, sample: bytes) -> np.ndarray:
        """Read one sample (header and all) into a new record.

        Raises:
            WireError: not little-endian CDR, or not this message's length.
        """
        return self.record(self.memory(sample))

    def memory(self, sample: bytes) -> bytearray:
        """Read one sample into the bytes of the C struct, for who looks at a few of them only. Raises as `decode`."""
        if not self._bounds[0] <= len(sample) <= self._bounds[1] or sample[:2] != b"\x00\x01":
            raise WireError(self._objection(sample))
        return bytearray().join(self._to_memory(sample + _SPARE))

    def record(self, memory: bytearray) -> np.ndarray:
        """The record that lies in these bytes; both are one."""
        return np.ndarray((), self.dtype, memory)

    def encode(self, record: np.ndarray) -> bytes:
        """Write one record as a sample, header and all."""
        return self.sample(record.tobytes())

    def sample(self, memory: bytes) -> bytes:
        """Write the bytes of the C struct as a sample."""
        return b"".join(self._to_wire(memory + _SPARE))

    def _objection(self, sample: bytes) -> str:
        if sample[:2] != b"\x00\x01":
            start = sample[:4].hex(" ") or "nothing"
            return f"{self.name}: wanted little-endian CDR (00 01), got {start}. Is the sender CycloneDDS 0.10?"
        return (
            f"{self.name}: wanted {self._bounds[0]} bytes, got {len(sample)}. "
            "The sender has another version of this message, or the sample was cut."
        )


def read_message(data_type: type[_T], sample: bytes) -> _T:
    """Read a sample into its dataclass: for what is rare or has no fixed size.

    Raises:
        WireError: it ends too early, or its text is no UTF-8.
    """
    try:
        return data_type.deserialize(sample)
    except (struct.error, ValueError, IndexError) as error:
        name, size = data_type.__idl_typename__, len(sample)
        raise WireError(f"{name}: {size} bytes cannot be read as one ({error}). Was the sample cut?") from error


@cache
def layout(data_type: type[IdlStruct]) -> Layout:
    """Return the one `Layout` of a message type."""
    return Layout(data_type)


def _struct_dtype(data_type: type[IdlStruct]) -> np.dtype:
    hints = get_type_hints(data_type, include_extras=True)
    members = fields(data_type)  # type: ignore[arg-type]  # every message is a dataclass
    return np.dtype([(field.name, member_dtype(hints[field.name])) for field in members], align=True)


def member_dtype(hint: Any) -> Any:
    """Return the dtype of one member of a message, given its annotation.

    Raises:
        TypeError: text or a sequence.
    """
    if hint in _PRIMITIVES:
        return np.dtype(_PRIMITIVES[hint]).newbyteorder("<")
    if isinstance(hint, type) and issubclass(hint, IdlStruct):
        return _struct_dtype(hint)
    container = next((item for item in get_args(hint) if isinstance(item, types.array)), None)
    if container is None:
        raise TypeError(f"{hint} has no fixed size. Serialise the dataclass itself.")
    return np.dtype((member_dtype(container.subtype), (container.length,)))


def _leaves(dtype: np.dtype, start: int = 0) -> list[tuple[int, int, int]]:
    """Each plain value or row of them: (offset in the struct, bytes in all, alignment), in the order of the wire."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        if base.names is None:
            return [(start, dtype.itemsize, base.itemsize)]
        return [leaf for i in range(shape[0]) for leaf in _leaves(base, start + i * base.itemsize)]
    if dtype.names is None:
        return [(start, dtype.itemsize, dtype.itemsize)]
    assert dtype.fields is not None
    members = (dtype.fields[name][:2] for name in dtype.names)
    return [leaf for member, offset in members for leaf in _leaves(member, start + offset)]


def _cuts(moves: list[tuple[int, int, int]], length: int) -> Callable[[bytes], tuple[bytes, ...]]:
    """A function that cuts bytes with `_SPARE` behind them into what joins to the other layout, `length` in all.

    moves: (from, to, bytes) each, rising in `to`; what no move fills comes from the spare zeros.
    """
    cuts, end = [], 0
    for start, to, count in [*moves, (0, length, 0)]:
        if to > end:
            cuts.append(slice(end - to, None))
        cuts.append(slice(start, start + count))
        end = to + count
    return itemgetter(*cuts)


def _moves(dtype: np.dtype) -> tuple[list[tuple[int, int, int]], int]:
    """The copies between struct and wire, (struct offset, wire offset, bytes) each, and the bytes on the wire."""
    moves: list[tuple[int, int, int]] = []
    wire = 0
    for offset, length, alignment in _leaves(dtype):
        wire = -(-wire // alignment) * alignment
        if moves and moves[-1][0] - moves[-1][1] == offset - wire:  # the same shift: one copy, padding and all
            first, first_wire, _ = moves.pop()
            moves.append((first, first_wire, wire + length - first_wire))
        else:
            moves.append((offset, wire, length))
        wire += length
    return moves, wire

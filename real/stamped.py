"""Stamped messages of doubles (Imu, Odometry) at hundreds of hertz: stamp and names by hand, the rest as one record."""

import struct
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

import numpy as np
from cyclonedds.idl import IdlStruct

from neon_sim.real import cdr
from neon_sim.real.codec import WireError, member_dtype
from neon_sim.real.idl.ros import Header


@dataclass(frozen=True)
class Stamped:
    """One message: when, the texts at its start (the frame first), and its numbers."""

    time_s: float  # of the sender's clock
    texts: tuple[str, ...]
    record: np.ndarray  # 0-d, of `StampedLayout.dtype`


class StampedLayout:
    """How a message of a Header, perhaps more text, and then nothing but doubles lies on the wire.

    Raises:
        TypeError: the message is of another shape.
    """

    def __init__(self, data_type: type[IdlStruct]) -> None:
        self.name: str = data_type.__idl_typename__
        hints = get_type_hints(data_type, include_extras=True)
        members = [(field.name, hints[field.name]) for field in fields(data_type)]  # type: ignore[arg-type]
        texts = [name for name, hint in members if hint is str]
        if members[0][1] is not Header or [name for name, _ in members[1 : len(texts) + 1]] != texts:
            raise TypeError(f"{self.name} does not begin with a Header and its texts. Serialise the dataclass itself.")
        self.texts = 1 + len(texts)  # the Header has one
        self.dtype = np.dtype([(name, member_dtype(hint)) for name, hint in members[self.texts :]])
        if set(_kinds(self.dtype)) != {np.dtype("<f8")}:
            raise TypeError(f"{self.name} holds more than doubles. Serialise the dataclass itself.")

    def zeros(self) -> np.ndarray:
        """Return an empty record, all zero."""
        return np.zeros((), self.dtype)

    def encode(self, message: Stamped) -> bytes:
        """Write one sample, header and all.

        Raises:
            ValueError: not as many texts as the type has.
        """
        if len(message.texts) != self.texts:
            raise ValueError(f"{self.name} has {self.texts} texts, got {message.texts}")
        sample = cdr.begin(message.time_s)
        for text in message.texts:
            cdr.put_text(sample, text)
        cdr.align(sample, 8)
        return bytes(sample + message.record.tobytes())

    def decode(self, sample: bytes) -> Stamped:
        """Read one sample; the record is a view into it.

        Raises:
            WireError: cut short, overlong or big-endian.
        """
        try:
            cursor = cdr.Cursor(sample)
            time_s, texts = cursor.time_s(), tuple(cursor.text() for _ in range(self.texts))
            cursor.align(8)
            if len(sample) - cursor.at != self.dtype.itemsize:
                raise ValueError(f"wanted {self.dtype.itemsize} bytes of numbers, got {len(sample) - cursor.at}")
            return Stamped(time_s, texts, np.ndarray((), self.dtype, sample, cursor.at))
        except (struct.error, ValueError) as error:
            raise WireError(f"{self.name}: {len(sample)} bytes cannot be read as one ({error}).") from error


def _kinds(dtype: np.dtype) -> list[Any]:
    if dtype.subdtype is not None:
        return _kinds(dtype.subdtype[0])
    if dtype.names is None:
        return [dtype]
    return [kind for name in dtype.names for kind in _kinds(dtype[name])]

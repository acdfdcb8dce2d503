"""The few ROS 2 messages that a recording of a robot needs, from their CDR bytes (XCDR1, either byte order)."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

_SIZES: Final = {"I": 4, "i": 4, "d": 8, "B": 1}
_HEADER: Final = 4  # bytes that say how the rest is encoded; alignment is counted from behind them


@dataclass(frozen=True, eq=False)
class JointState:
    """sensor_msgs/msg/JointState; an array may be empty."""

    names: tuple[str, ...]
    position: np.ndarray  # (n,) rad
    velocity: np.ndarray  # (n,) rad/s
    effort: np.ndarray  # (n,) N m


class _Cdr:
    """Reads one message from front to back. Raises ValueError where it ends too soon."""

    def __init__(self, data: bytes) -> None:
        if len(data) < _HEADER or data[0] != 0 or data[1] not in (0, 1):
            raise ValueError(
                f"Plain CDR begins with 00 00 or 00 01, this message with {data[:2].hex(' ') or 'nothing'}."
            )
        self._data, self._place = data, _HEADER
        self._order: Literal["<", ">"] = "<" if data[1] else ">"

    def number(self, kind: str) -> Any:
        """One number of a struct format character, at its alignment."""
        return struct.unpack(self._order + kind, self._take(_SIZES[kind], _SIZES[kind]))[0]

    def text(self) -> str:
        """A string: its length with the closing zero, then its bytes."""
        return self._take(self.number("I"), 1).rstrip(b"\0").decode()

    def texts(self) -> tuple[str, ...]:
        """A sequence of strings."""
        return tuple(self.text() for _ in range(self.number("I")))

    def array(self, kind: str) -> np.ndarray:
        """A sequence of numbers."""
        count = self.number("I")
        raw = self._take(count * _SIZES[kind], _SIZES[kind] if count else 1)
        return np.frombuffer(raw, np.dtype(kind).newbyteorder(self._order))

    def header(self) -> None:
        """std_msgs/msg/Header, which is not used: the log's own time is there for every message."""
        self.number("i")
        self.number("I")
        self.text()

    def _take(self, size: int, alignment: int) -> bytes:
        begin = self._place + -(self._place - _HEADER) % alignment
        self._place = begin + size
        if self._place > len(self._data):
            raise ValueError(f"A message of {len(self._data)} bytes ends before byte {self._place}.")
        return self._data[begin : self._place]


def _joint_state(cdr: _Cdr) -> JointState:
    cdr.header()
    return JointState(cdr.texts(), cdr.array("d"), cdr.array("d"), cdr.array("d"))


def _compressed_image(cdr: _Cdr) -> np.ndarray:
    cdr.header()
    cdr.text()  # the format stands in the picture as well
    return np.asarray(Image.open(io.BytesIO(cdr.array("B").tobytes())).convert("RGB"))


def _image(cdr: _Cdr) -> np.ndarray:
    cdr.header()
    height, width, encoding = cdr.number("I"), cdr.number("I"), cdr.text()
    cdr.number("B")
    row_bytes = cdr.number("I")
    if encoding not in ("rgb8", "bgr8"):
        raise ValueError(f"Pictures are read as rgb8 or bgr8, this one is {encoding!r}. Record compressed ones.")
    rows = cdr.array("B").reshape(height, row_bytes)[:, : 3 * width].reshape(height, width, 3)
    return rows if encoding == "rgb8" else rows[..., ::-1]


def _twist(cdr: _Cdr) -> np.ndarray:
    """(3,) vx, vy m/s and yaw rate rad/s of geometry_msgs/msg/Twist."""
    numbers = [cdr.number("d") for _ in range(6)]
    return np.array([numbers[0], numbers[1], numbers[5]])


DECODERS: Final[dict[str, Callable[[_Cdr], Any]]] = {
    "sensor_msgs/msg/JointState": _joint_state,
    "sensor_msgs/msg/CompressedImage": _compressed_image,
    "sensor_msgs/msg/Image": _image,
    "geometry_msgs/msg/Twist": _twist,
    "std_msgs/msg/String": lambda cdr: cdr.text(),
}


def decode(schema: str, data: bytes) -> Any:
    """A message of one of `DECODERS`: JointState, picture (H, W, 3) uint8, velocity (3,), or text.

    Raises ValueError for bytes that are no such message.
    """
    return DECODERS[schema](_Cdr(data))

"""CDR by hand, for messages whose size varies: values at their own alignment, text with its length and a zero byte."""

import struct

from neon_sim.real.codec import HEADER


def begin(time_s: float) -> bytearray:
    """Return the start of a sample of a stamped ROS message: the CDR header and the stamp."""
    sample = bytearray(HEADER)
    put(sample, "iI", *divmod(round(time_s * 1e9), 1_000_000_000))
    return sample


def put(sample: bytearray, kinds: str, *values: int) -> None:
    """Append values of one size (`struct` letters), at their alignment."""
    align(sample, struct.calcsize("<" + kinds[0]))
    sample += struct.pack("<" + kinds, *values)


def put_text(sample: bytearray, value: str) -> None:
    """Append a string."""
    raw = value.encode() + b"\0"
    put(sample, "I", len(raw))
    sample += raw


def align(sample: bytearray, size: int) -> None:
    """Fill up with zeros to the next multiple of `size`, counted from behind the header."""
    sample += bytes((len(HEADER) - len(sample)) % size)


def finish(sample: bytearray) -> bytes:
    """Fill up to whole words, as CycloneDDS wants its samples."""
    align(sample, 4)
    return bytes(sample)


class Cursor:
    """Reads a sample from its start. Every method raises ValueError or struct.error where the sample ends early."""

    def __init__(self, sample: bytes) -> None:
        if sample[:2] != HEADER[:2]:
            raise ValueError(f"wanted little-endian CDR (00 01), got {sample[:2].hex(' ') or 'nothing'}")
        self.sample, self.at = sample, len(HEADER)

    def time_s(self) -> float:
        """Read a stamp."""
        sec, nanosec = self.get("iI")
        return sec + nanosec * 1e-9

    def get(self, kinds: str) -> tuple[int, ...]:
        """Read values of one size."""
        self.align(struct.calcsize("<" + kinds[0]))
        values = struct.unpack_from("<" + kinds, self.sample, self.at)
        self.at += struct.calcsize("<" + kinds)
        return values

    def text(self) -> str:
        """Read a string."""
        (length,) = self.get("I")
        raw = self.sample[self.at : self.at + length]
        if len(raw) < length or not raw.endswith(b"\0"):
            raise ValueError(f"text of {length} bytes ends early")
        self.at += length
        return raw[:-1].decode()

    def align(self, size: int) -> None:
        """Go on to the next multiple of `size`, counted from behind the header."""
        self.at += (len(HEADER) - self.at) % size

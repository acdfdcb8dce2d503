"""The checksum of LowCmd and LowState: CRC-32/MPEG-2 over the words of the C struct, all but the last, which holds it.

Polynomial 04C11DB7, start FFFFFFFF, no final inversion, each little-endian word taken from its highest bit down (what
the robot's programs do; checked against the vendor's library). zlib computes the mirror image of that CRC, lowest bit
first, in C: so each word is turned end for end, and so is the result.
"""

import zlib
from array import array
from typing import Final

import numpy as np

from neon_sim.real.codec import WireError

_MIRRORED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits turned round


class CrcError(WireError):
    """A message whose checksum is not that of its content: torn, cut or forged."""


def checksum(words: bytes) -> int:
    """Return the CRC of little-endian 32-bit words.

    Raises:
        ValueError: not a whole number of words.
    """
    turned = array("I", words.translate(_MIRRORED))
    turned.byteswap()
    mirrored = zlib.crc32(turned) ^ 0xFFFFFFFF  # zlib inverts the result, MPEG-2 does not
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")


def seal(record: np.ndarray) -> None:
    """Write the checksum of a LowCmd or LowState record into its `crc`."""
    record["crc"] = checksum(record.tobytes()[:-4])


def check(record: np.ndarray) -> None:
    """Do nothing if the record's checksum is right.

    Raises:
        CrcError: it is not.
    """
    wanted = checksum(record.tobytes()[:-4])
    if record["crc"] != wanted:
        raise CrcError(
            f"Wanted CRC {wanted:08x} for this content, got {int(record['crc']):08x}. Drop the message. If every "
            "message fails, the sender packs its fields differently or forgot to seal them (real/crc.py says how)."
        )

"""The checksum against an implementation that goes bit by bit, itself held against the published check value."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.real import crc
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_hg import LowCmd, LowState


def bit_by_bit(data: bytes) -> int:
    """CRC-32/MPEG-2 of bytes, each from its highest bit down."""
    value = 0xFFFFFFFF
    for byte in data:
        for position in range(7, -1, -1):
            carry = (value >> 31) ^ ((byte >> position) & 1)
            value = (value << 1) & 0xFFFFFFFF ^ (0x04C11DB7 if carry else 0)
    return value


def big_endian(words: bytes) -> bytes:
    return struct.pack(f">{len(words) // 4}I", *struct.unpack(f"<{len(words) // 4}I", words))


def test_the_slow_one_gives_the_published_check_value():
    assert bit_by_bit(b"123456789") == 0x0376E6E7  # the CRC catalogue's entry for CRC-32/MPEG-2


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), 0xFFFFFFFF),
        ((0xFFFFFFFF,), 0x00000000),  # cancels the start value: nothing is left to divide
        ((0x00000000,), 0xC704DD7B),
        ((0x31323334, 0x35363738), bit_by_bit(b"12345678")),
    ],
)
def test_known_words(words, wanted):
    assert crc.checksum(struct.pack(f"<{len(words)}I", *words)) == wanted


@given(st.binary(max_size=400).map(lambda data: data[: len(data) // 4 * 4]))
def test_the_fast_one_agrees_with_the_slow_one(words):
    assert crc.checksum(words) == bit_by_bit(big_endian(words))


def test_a_torn_word_is_refused():
    with pytest.raises(ValueError):
        crc.checksum(b"12345")


@pytest.mark.parametrize("data_type", [LowCmd, LowState])
def test_a_sealed_message_passes_and_any_flipped_bit_fails(data_type):
    record = layout(data_type).zeros()
    crc.seal(record)
    crc.check(record)
    memory = record.view("u1") if record.ndim else record.reshape(1).view("u1")
    for byte in range(0, memory.size, 37):
        memory[byte] ^= 0x10
        with pytest.raises(crc.CrcError, match="Drop the message"):
            crc.check(record)
        memory[byte] ^= 0x10
    crc.check(record)


def test_the_robots_struct_is_what_is_summed():
    """LowCmd field by field as the robot's C program holds it, written out by hand with `struct`."""
    record = layout(LowCmd).zeros()
    record["mode_pr"], record["mode_machine"] = 1, 5
    record["motor_cmd"]["mode"] = 1
    record["motor_cmd"]["q"][3] = 0.25
    record["reserve"] = (7, 8, 9, 10)
    motors = b"".join(struct.pack("<B3x5fI", 1, 0.25 if i == 3 else 0.0, 0, 0, 0, 0, 0) for i in range(35))
    by_hand = struct.pack("<2B2x", 1, 5) + motors + struct.pack("<4I", 7, 8, 9, 10)
    crc.seal(record)
    assert len(by_hand) == 1000
    assert record["crc"] == bit_by_bit(big_endian(by_hand))

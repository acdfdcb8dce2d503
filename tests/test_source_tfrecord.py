"""TFRecord framing and tf.train.Example: published check values, bytes built by hand, and whatever hypothesis finds."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_files import example, feature, nested, varint

from neon_sim.data.tf_example import parse_example, parse_sequence_example
from neon_sim.data.tfrecord import crc32c, frame_record, list_records, masked_crc, read_record


def slow_crc(data: bytes) -> int:
    """CRC-32C bit by bit."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_the_checksum_is_that_of_rfc_3720() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"\0" * 32) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@settings(max_examples=20, deadline=None)
@given(size=st.integers(0, 5000), seed=st.integers(0, 2**32 - 1))
def test_lanes_side_by_side_give_the_same_as_bit_by_bit(size: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(size)
    assert crc32c(data) == slow_crc(data)


def test_a_framed_record_is_length_checksum_bytes_checksum() -> None:
    framed = frame_record(b"abc")
    assert framed[:8] == b"\3\0\0\0\0\0\0\0" and framed[12:15] == b"abc" and len(framed) == 19
    crc = slow_crc(b"abc")
    assert masked_crc(b"abc") == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF
    assert framed[15:] == masked_crc(b"abc").to_bytes(4, "little")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(st.binary(max_size=3000), max_size=6))
def test_records_come_back(tmp_path: Path, records: list[bytes]) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(frame_record(record) for record in records))
    listed = list(list_records(path))
    assert [read_record(record) for record in listed] == records
    assert [record.number for record in listed] == list(range(len(records)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_or_a_lost_end_is_seen(tmp_path: Path, data: st.DataObject) -> None:
    whole = frame_record(b"hello world") + frame_record(b"again")
    path, place = tmp_path / "a.tfrecord", data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        broken = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    else:
        broken = whole[:place]
    path.write_bytes(broken)
    if broken in (b"", frame_record(b"hello world")):  # cut between records: a shorter file that is whole
        assert len(list(list_records(path))) == (1 if broken else 0)
        return
    with pytest.raises(ValueError, match=r"a\.tfrecord"):
        [read_record(record) for record in list_records(path)]


VALUES = st.one_of(
    st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20).map(lambda v: np.array(v, np.float32)),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20).map(lambda v: np.array(v, np.int64)),
)


@settings(max_examples=60, deadline=None)
@given(features=st.dictionaries(st.text(max_size=12), VALUES, max_size=5), packed=st.booleans())
def test_any_example_comes_back(features: dict, packed: bool) -> None:
    found = parse_example(example(features, packed))
    assert found.keys() == features.keys()
    for name, value in features.items():
        if isinstance(value, list):
            assert found[name] == value
        else:
            assert found[name].dtype == value.dtype  # type: ignore[union-attr]
            np.testing.assert_array_equal(found[name], value)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_an_example_or_a_value_error(data: bytes) -> None:
    try:
        parse_example(data)
    except ValueError:
        return


def test_an_example_byte_by_byte() -> None:
    # Example{1: Features{1: entry{1: "a", 2: Feature{3: Int64List{1: packed [1, 300, -1]}}}}}
    numbers = b"\x01" + b"\xac\x02" + b"\xff" * 9 + b"\x01"
    heads = b"\x0a\x18", b"\x0a\x16", b"\x0a\x01a", b"\x12\x11", b"\x1a\x0f", b"\x0a\x0d"  # each: tag, length
    assert parse_example(b"".join(heads) + numbers)["a"].tolist() == [1, 300, -1]  # type: ignore[union-attr]


def test_a_sequence_example_has_a_context_and_lists() -> None:
    context = nested(1, nested(1, nested(1, b"id") + nested(2, feature([b"x7"]))))
    steps = b"".join(nested(1, feature(np.array([n, n + 0.5], np.float32))) for n in range(3))
    lists = nested(2, nested(1, nested(1, b"pos") + nested(2, steps)))
    found, series = parse_sequence_example(context + lists)
    assert found == {"id": [b"x7"]}
    np.testing.assert_array_equal(series["pos"], [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]])


def test_a_number_longer_than_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 64 bits"):
        parse_example(b"\xff" * 11)
    assert varint(300) == b"\xac\x02"

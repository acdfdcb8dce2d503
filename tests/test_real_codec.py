"""The numpy codec against CycloneDDS's own serialisation of the same values, byte for byte and field by field."""

import time
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.g1 import joints
from neon_sim.real import crc
from neon_sim.real.codec import HEADER, Layout, WireError, layout, read_message
from neon_sim.real.idl import ros, unitree_go, unitree_hg
from neon_sim.real.idl.unitree_api import Request
from neon_sim.real.low_cmd import LowCmdWriter
from neon_sim.real.point_cloud import PointCloud, decode_point_cloud, encode_point_cloud
from neon_sim.real.stamped import Stamped, StampedLayout

FIXED = [
    unitree_hg.LowState,
    unitree_hg.LowCmd,
    unitree_hg.IMUState,
    unitree_hg.BmsState,
    unitree_hg.SportModeState,
    unitree_go.SportModeState,
    unitree_go.WirelessController,
    unitree_go.IMUState,
]


def random_record(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Every value of every field random: integers over their whole range, floats finite."""
    record = np.zeros((), dtype)
    fill(record, rng)
    return record


def fill(target: np.ndarray, rng: np.random.Generator) -> None:
    for name in target.dtype.names:
        part = target[name]
        if part.dtype.names:
            fill(part, rng)
        elif part.dtype.kind == "f":
            part[...] = rng.normal(0.0, 1e3, part.shape)
        else:
            info = np.iinfo(part.dtype)
            part[...] = rng.integers(info.min, info.max, part.shape, part.dtype, endpoint=True)


def plain(value: Any) -> Any:
    """A message or a record as nested lists of numbers, so that the two can be compared."""
    if is_dataclass(value):
        return [plain(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, np.ndarray) and value.dtype.names:
        if value.shape:
            return [plain(item) for item in value]
        return [plain(value[name]) for name in value.dtype.names]
    if isinstance(value, np.void):
        return [plain(value[name]) for name in value.dtype.names]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple | bytes | bytearray):
        return [plain(item) for item in value]
    return value


@pytest.mark.parametrize("data_type", FIXED, ids=lambda t: t.__idl_typename__)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=12)
def test_the_codec_and_cyclonedds_write_and_read_the_same_bytes(data_type, seed):
    message_layout = layout(data_type)
    record = random_record(message_layout.dtype, np.random.default_rng(seed))
    sample = message_layout.encode(record)
    message = data_type.deserialize(sample)
    assert plain(message) == plain(record)
    written = message.serialize()
    assert written + bytes(-len(written) % 4) == sample
    assert plain(message_layout.decode(written)) == plain(record)


@pytest.mark.parametrize(
    ("data_type", "in_memory", "on_wire"),
    [(unitree_hg.LowCmd, 1004, 1000), (unitree_hg.LowState, 2092, 2088), (unitree_hg.IMUState, 56, 54)],
)
def test_sizes_are_those_measured_on_the_wire(data_type, in_memory, on_wire):
    assert layout(data_type).dtype.itemsize == in_memory
    assert layout(data_type).size == on_wire


def test_a_value_lands_where_the_layout_says():
    record = layout(unitree_hg.LowState).zeros()
    record["motor_state"]["q"][34] = 1.0
    record["motor_state"]["mode"][0] = 0xAB
    record["tick"] = 0x01020304
    sample = layout(unitree_hg.LowState).encode(record)
    assert sample[:4] == b"\x00\x01\x00\x00"
    assert sample[4 + 12 : 4 + 16] == b"\x04\x03\x02\x01"  # version 8 bytes, modes 2, padding 2
    assert sample[4 + 70] == 0xAB  # CDR puts no padding between the int16 temperature and the first motor's mode
    assert sample[4 + 72 + 56 * 34 :][:4] == b"\x00\x00\x80\x3f"


@given(st.binary(max_size=2200))
def test_anything_but_a_whole_low_state_is_refused(noise):
    for sample in (noise, HEADER + noise):
        if len(sample) == 2092:
            continue
        with pytest.raises(WireError, match=r"unitree_hg\.msg\.dds_\.LowState_: wanted"):
            layout(unitree_hg.LowState).decode(sample)


@pytest.mark.parametrize("size", [0, 3, 4, 2087, 2089, 2092, 4000])
def test_cut_and_overlong_samples_say_how_long_they_were(size):
    with pytest.raises(WireError, match=f"wanted 2092 bytes, got {size + 4}"):
        layout(unitree_hg.LowState).decode(HEADER + bytes(size))


def test_padding_at_the_end_is_allowed_up_to_a_word():
    gamepad = layout(unitree_go.WirelessController)  # 18 bytes
    for extra in (0, 1, 2):
        assert gamepad.decode(HEADER + bytes(18 + extra))["keys"] == 0
    with pytest.raises(WireError):
        gamepad.decode(HEADER + bytes(21))


def test_big_endian_is_refused():
    with pytest.raises(WireError, match="little-endian"):
        layout(unitree_hg.LowCmd).decode(b"\x00\x00\x00\x00" + bytes(1000))


def test_a_type_without_a_fixed_size_is_refused():
    with pytest.raises(TypeError, match="no fixed size"):
        Layout(ros.PointCloud2)


def test_a_decoded_record_is_its_own():
    sample = HEADER + bytes(2088)
    state = layout(unitree_hg.LowState).decode(sample)
    state["motor_state"]["q"][:] = 1.0
    assert layout(unitree_hg.LowState).decode(sample)["motor_state"]["q"].sum() == 0.0


def test_a_cut_request_is_refused():
    with pytest.raises(WireError, match="Was the sample cut"):
        read_message(Request, HEADER + bytes(10))


def test_the_command_writer_writes_what_its_arrays_say():
    writer = LowCmdWriter(mode_machine=5)
    writer.q[:], writer.kp[:], writer.kd[:] = joints.HOME, joints.KP, joints.KD
    writer.dq[4], writer.tau[28] = 0.5, -1.5
    message = unitree_hg.LowCmd.deserialize(writer.encode())
    motors = message.motor_cmd
    assert (message.mode_pr, message.mode_machine) == (0, 5)
    assert [motor.mode for motor in motors] == [1] * 29 + [0] * 6
    np.testing.assert_array_equal([motor.q for motor in motors[:29]], joints.HOME.astype(np.float32))
    np.testing.assert_array_equal([motor.kp for motor in motors[:29]], joints.KP)
    assert (motors[4].dq, motors[28].tau, motors[29].kp) == (0.5, -1.5, 0.0)
    crc.check(layout(unitree_hg.LowCmd).decode(writer.encode()))


def test_damping_brakes_and_nothing_else():
    writer = LowCmdWriter(mode_machine=5)
    writer.q[:], writer.kp[:], writer.tau[:] = 1.0, 100.0, 5.0
    writer.damp()
    motors = layout(unitree_hg.LowCmd).decode(writer.encode())["motor_cmd"][:29]
    assert {float(value) for name in ("q", "dq", "tau", "kp") for value in motors[name]} == {0.0}
    assert set(motors["kd"]) == {8.0}
    assert set(motors["mode"]) == {1}
    writer.release()
    assert set(layout(unitree_hg.LowCmd).decode(writer.encode())["motor_cmd"]["kd"]) == {0.0}


LIVOX = np.dtype([(name, "<f4") for name in "xyz"] + [("intensity", "<f4"), ("ring", "<u2"), ("time", "<f8")])


@given(count=st.integers(0, 40), frame=st.text(max_size=12).filter(lambda s: "\0" not in s), ns=st.integers(0, 2**40))
def test_a_point_cloud_is_cyclonedds_to_the_byte(count, frame, ns):
    points = np.zeros(count, LIVOX)
    fill(points, np.random.default_rng(count))
    sample = encode_point_cloud(PointCloud(ns * 1e-9, frame, points))
    message = ros.PointCloud2.deserialize(sample)
    assert (message.width, message.height, message.point_step, message.row_step) == (count, 1, 26, 26 * count)
    assert [(f.name, f.offset, f.datatype) for f in message.fields][-2:] == [("ring", 16, 4), ("time", 18, 8)]
    assert bytes(message.data) == points.tobytes() and message.is_dense and message.header.frame_id == frame
    written = message.serialize()
    assert written + bytes(-len(written) % 4) == sample
    back = decode_point_cloud(sample)
    np.testing.assert_array_equal(back.points, points)
    assert back.time_s == pytest.approx(ns * 1e-9, abs=1e-9) and back.frame == frame


@given(cut=st.integers(0, 280))
def test_a_cut_point_cloud_is_refused(cut):
    sample = encode_point_cloud(PointCloud(1.0, "livox_frame", np.zeros(5, LIVOX)))
    size = len(sample)
    assert size > 280
    with pytest.raises(WireError, match=f"{cut} bytes cannot be read"):
        decode_point_cloud(sample[:cut])


def test_columns_that_points_cannot_have_are_named():
    with pytest.raises(ValueError, match="column 'x' is complex128"):
        encode_point_cloud(PointCloud(0.0, "", np.zeros(1, [("x", "c16")])))
    with pytest.raises(ValueError, match="structured"):
        encode_point_cloud(PointCloud(0.0, "", np.zeros((4, 3))))


STAMPED = [(ros.Imu, 1), (ros.Odometry, 2)]


@pytest.mark.parametrize(("data_type", "texts"), STAMPED)
@given(st.integers(0, 2**32), st.lists(st.text("abc/_ö", max_size=9), min_size=2, max_size=2), st.integers(0, 2**50))
@settings(max_examples=20)
def test_a_stamped_message_is_cyclonedds_to_the_byte(data_type, texts, seed, names, ns):
    stamped = StampedLayout(data_type)
    record = random_record(stamped.dtype, np.random.default_rng(seed))
    sample = stamped.encode(Stamped(ns * 1e-9, tuple(names[:texts]), record))
    message = data_type.deserialize(sample)
    assert message.serialize() == sample
    header, *rest = plain(message)
    assert header[1] == names[0]
    assert rest[texts - 1 :] == plain(record)
    back = stamped.decode(sample)
    assert back.texts == tuple(names[:texts]) and back.time_s == pytest.approx(ns * 1e-9, abs=1e-6)
    np.testing.assert_array_equal(back.record, record)
    for wrong in (sample[:-8], sample + bytes(8), sample[:17], b"", b"\0\0" + sample[2:]):
        with pytest.raises(WireError, match="cannot be read"):
            stamped.decode(wrong)


def test_a_stamped_layout_refuses_what_it_cannot_hold():
    for data_type in (ros.PointCloud2, ros.Pose, unitree_hg.LowCmd):
        with pytest.raises(TypeError):
            StampedLayout(data_type)
    stamped = StampedLayout(ros.Odometry)
    with pytest.raises(ValueError, match="has 2 texts"):
        stamped.encode(Stamped(0.0, ("odom",), stamped.zeros()))


def best_us(function, number: int, repeats: int) -> float:
    """The fastest of many short runs: what the machine does when it is not doing something else."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(number):
            function()
        times.append((time.perf_counter() - start) / number)
    return min(times) * 1e6


def test_it_is_far_faster_than_the_dataclass_path():
    """Half of what benchmarks/dds_loop.py asks for, so that a busy machine does not fail it."""
    sample = HEADER + bytes(2088)
    state_layout, writer = layout(unitree_hg.LowState), LowCmdWriter(5)
    message = unitree_hg.LowCmd.deserialize(writer.encode())
    slow_decode = best_us(lambda: unitree_hg.LowState.deserialize(sample), 2, 30)
    slow_encode = best_us(message.serialize, 2, 30)
    assert best_us(lambda: state_layout.decode(sample), 50, 60) < slow_decode / 50
    assert best_us(writer.encode, 50, 60) < slow_encode / 10

"""benchmarks/dds_loop.py and dds_soak.py: the codec's two sides send the same bytes, and small runs of the rest."""

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bridge_process import DOMAINS
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.real import crc
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_hg import LowState
from neon_sim.real.lateness import LATE_BINS, late_bin, late_quantile_us

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield module


def counts_of(*late_s: float) -> np.ndarray:
    counts = np.zeros(LATE_BINS, np.uint32)
    for value in late_s:
        counts[late_bin(value)] += 1
    return counts


def test_a_lateness_is_known_to_nine_per_cent():
    """99 ticks were 100 us late and one was 20 ms late."""
    counts = counts_of(*[100e-6] * 99, 0.02)
    assert 100.0 <= late_quantile_us(counts, 0.5) <= 109.1 and 100.0 <= late_quantile_us(counts, 0.99) <= 109.1
    assert 20_000.0 <= late_quantile_us(counts, 1.0) <= 21_820.0
    with pytest.raises(ValueError, match="No ticks"):
        late_quantile_us(counts - counts, 0.5)


@given(st.floats(-1.0, 100.0))
def test_every_lateness_has_a_bin(late_s):
    number = late_bin(late_s)
    assert 0 <= number < LATE_BINS
    if 1e-6 <= late_s < 0.9:
        assert late_s * 1e6 <= late_quantile_us(counts_of(late_s), 1.0) * (1 + 1e-9) <= late_s * 1e6 * 1.0906


def test_both_sides_of_the_codec_say_the_same(load):
    codec = load("dds_codec")
    assert codec.our_command().encode() == codec.encode_as_the_sdk(codec.sdk_command())
    record, theirs = layout(LowState).decode(codec.sample_state()), LowState.deserialize(codec.sample_state())
    crc.check(record)
    assert record["motor_state"]["q"].tolist() == [motor.q for motor in theirs.motor_state] and theirs.tick == 123_456


def test_the_codec_is_faster_than_objects(load):
    times = load("dds_codec").codec_us(rounds=3)
    assert set(times) == {"decode LowState", "encode LowCmd + CRC"}
    assert all(0.0 < 5.0 * ours < theirs < math.inf for ours, theirs in times.values())  # the targets are 100 and 20


def test_what_a_process_holds_is_compared(load):
    soak = load("dds_soak")
    before = {"memory_mb": 100.0, "files": 10, "threads": 4}
    assert soak.grown(before, before | {"memory_mb": 110.0}) == []
    after = {"memory_mb": 140.0, "files": 11, "threads": 4}
    assert soak.grown(before, after) == ["memory from 100 to 140 MB", "files from 10 to 11"]
    mine = soak.held_by(__import__("os").getpid())
    assert mine["memory_mb"] > 10.0 and mine["files"] >= 3 and mine["threads"] >= 1


@pytest.mark.slow
def test_each_fault_is_answered_and_latched(load):
    """A busy machine may let states grow old, so that their limit is loose here; the figures are the benchmark's."""
    loop, wire = load("dds_loop"), load("dds_wire")
    found = loop.state_faults(next(DOMAINS), 1, age_s=0.5)
    assert found["missed_latches"] == [] and set(found["worst_ms"]) == set(wire.FAULTS)
    assert all(0.0 < took_ms < 2000.0 for took_ms in found["worst_ms"].values())
    assert found["worst_ms"]["silent"] >= 450.0  # nothing is wrong with it before


@pytest.mark.slow
def test_holds_cuts_and_loops_are_timed(load):
    loop = load("dds_loop")
    assert all(200.0 <= held_ms < 1000.0 for held_ms in loop.stale_holds(next(DOMAINS), 2))
    assert all(50.0 <= cut_ms < 1000.0 for cut_ms in loop.link_cuts(next(DOMAINS), 1))
    times = loop.loop_times(next(DOMAINS), 2.0, load=1)
    assert 20.0 < times["loop_hz"] < 505.0 and times["step_p50_ms"] >= 15.0
    assert times["late_p50_us"] <= times["late_p99_us"] <= times["late_max_us"]
    assert 0.0 < times["control_cpu"] < 1.5

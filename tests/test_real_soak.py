"""benchmarks/dds_soak.py: what it keeps of a stop that nobody asked for; and as a process, which tells as it goes."""

import importlib
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bridge_process import DOMAINS, PATIENT_S, wait_until
from hypothesis import given
from hypothesis import strategies as st
from robot_processes import BENCHMARKS, config_for, drive

from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.lateness import LATE_BINS, late_bin
from neon_sim.real.safety_stop import Phase


@pytest.fixture(scope="module")
def sides() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("dds_sides")


@given(late_s=st.lists(st.floats(0.0, 0.9), max_size=20))
def test_ticks_later_than_20_ms_are_counted_to_9_per_cent(sides, late_s):
    counts = np.zeros(LATE_BINS, np.uint32)
    for value in late_s:
        counts[late_bin(value)] += 1
    assert sum(late >= 0.0219 for late in late_s) <= sides.late_ticks(counts) <= sum(late > 0.02 for late in late_s)


PRIORITY = """
    import os, subprocess, sys
    sys.path.insert(0, sys.argv[1])
    from dds_soak import take_priority
    got = take_priority(3)
    child = subprocess.run(["cat", "/proc/self/stat"], capture_output=True, text=True).stdout
    print(got, os.sched_getscheduler(0) == os.SCHED_FIFO, child.rpartition(")")[2].split()[37], take_priority(0))
"""


def test_a_priority_is_taken_where_it_may_be_and_inherited():
    """Field 40 of /proc/.../stat is the real-time priority (proc(5)): 3, of a child too, or 0 for who may not."""
    code = textwrap.dedent(PRIORITY)
    ran = subprocess.run([sys.executable, "-c", code, str(BENCHMARKS)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() in (["3", "True", "3", "None"], ["None", "False", "0", "None"])


def test_a_stop_that_nobody_asked_for_is_kept_with_who_was_late(sides):
    """The robot's process gets no processor until the control has stopped: SIGSTOP."""
    wire, domain = sys.modules["dds_wire"], next(DOMAINS)
    with (
        closing(wire.SimulatedRobot(domain, "--start", "released", "--gantry")) as robot,
        closing(UnitreeRobot(config_for(domain, age_s=2.0))) as control,
    ):
        side, count = sides.Side("control", control, robot), sides.Count()
        side.arm(count)
        count.false_stops.clear()  # of the machine alone
        robot.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: drive(control, 1) or control.phase is Phase.DAMPING)
        robot.process.send_signal(signal.SIGCONT)
        wait_until(lambda: robot.lateness()["max_us"] > 1e6)  # it may answer before its next tick counts
        side.again(count)
        assert control.phase is Phase.RUNNING
        kept = count.false_stops[0]
        assert kept["whose"] == "control" and kept["reason"].startswith("state age") and 0.0 < kept["minutes"] < 5.0
        assert kept["robot_late_ms"] > 1000.0 and kept["control_late_ms"] >= 0.0
        assert robot.lateness()["slow"] >= 1


def soak(tmp_path: Path, minutes: float) -> "subprocess.Popen[str]":
    """Begin one that bears a busy machine, on two domains of its own."""
    first = next(domain for domain in DOMAINS if domain + 1 == next(DOMAINS))
    command = [sys.executable, str(BENCHMARKS / "dds_soak.py"), "--minutes", str(minutes), "--age-s", "2.0"]
    command += ["--domain", str(first), "--partial", str(tmp_path / "soak.json"), "--print-only"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_soak_that_is_ended_after_a_minute_leaves_its_figures(tmp_path):
    running = soak(tmp_path, 5.0)
    wait_until((tmp_path / "soak.json").exists, 3 * PATIENT_S)
    running.send_signal(signal.SIGTERM)
    said = running.communicate(timeout=3 * PATIENT_S)[0]
    assert running.returncode == 1 and "missed none" in said and "Ended stopped by hand" in said
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["ended"] == "stopped by hand" and 1.0 <= found["minutes"] < 5.0
    assert found["faults"] == sum(found["latched"].values()) >= 1 and found["missed_latches"] == []
    assert found["false_stops"] == len(found["false_stops_told"])
    kept = {"minutes", "whose", "reason", "control_late_ms", "robot_late_ms"}
    assert all(set(stop) == kept and stop["reason"] for stop in found["false_stops_told"])
    assert set(found["ticks_late_by_20_ms"]) == {"control", "faulted control", "robot", "talking robot"}
    assert set(found["priorities"]) == {"control", "faulted control", "env", "robot"}
    assert [set(row["memory_mb"]) for row in found["series"]][0] == {"control", "faulted control", "env", "robot"}


@pytest.mark.slow
def test_a_short_soak_ends_as_planned(tmp_path):
    running = soak(tmp_path, 0.4)
    said = running.communicate(timeout=5 * PATIENT_S)[0]
    found = json.loads((tmp_path / "soak.json").read_text())
    assert "Ended as planned" in said and "missed latches" in said
    assert found["faults"] >= 1 and found["missed_latches"] == [] and 0.4 <= found["minutes"] < 3.0

"""benchmarks/dds_soak.py as a process: it tells as it goes, and a soak that is ended early leaves what it has."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bridge_process import DOMAINS, PATIENT_S, wait_until
from robot_processes import BENCHMARKS

pytestmark = pytest.mark.slow


def soak(tmp_path: Path, minutes: float) -> "subprocess.Popen[str]":
    """Begin one that bears a busy machine, on two domains of its own."""
    first = next(domain for domain in DOMAINS if domain + 1 == next(DOMAINS))
    command = [sys.executable, str(BENCHMARKS / "dds_soak.py"), "--minutes", str(minutes), "--age-s", "2.0"]
    command += ["--domain", str(first), "--partial", str(tmp_path / "soak.json"), "--print-only"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_soak_that_is_ended_after_a_minute_leaves_its_figures(tmp_path):
    running = soak(tmp_path, 5.0)
    wait_until((tmp_path / "soak.json").exists, 3 * PATIENT_S)
    running.send_signal(signal.SIGTERM)
    said = running.communicate(timeout=3 * PATIENT_S)[0]
    assert running.returncode == 1 and "missed none" in said and "Ended stopped by hand" in said
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["ended"] == "stopped by hand" and 1.0 <= found["minutes"] < 5.0
    assert found["faults"] == sum(found["latched"].values()) >= 1 and found["missed_latches"] == []
    assert [set(row["memory_mb"]) for row in found["series"]][0] == {"control", "faulted control", "env", "robot"}


def test_a_short_soak_ends_as_planned(tmp_path):
    running = soak(tmp_path, 0.4)
    said = running.communicate(timeout=5 * PATIENT_S)[0]
    found = json.loads((tmp_path / "soak.json").read_text())
    assert "Ended as planned" in said and "missed latches" in said
    assert found["faults"] >= 1 and found["missed_latches"] == [] and 0.4 <= found["minutes"] < 3.0

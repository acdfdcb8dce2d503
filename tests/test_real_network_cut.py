"""The network goes away under a running robot: a namespace of its own, whose only interface is switched off."""

import fcntl
import importlib
import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from bridge_process import DOMAINS, PATIENT_S, bridge_process, wait_until
from robot_processes import BENCHMARKS, drive, lateness_s, phases, running

from neon_sim.real.safety_stop import Phase

AGE_S = 0.3  # of a state; 0.05 on a robot, more where a test machine is shared
UNSHARE = ["unshare", "--map-root-user", "--net"]
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h


def switch_loopback(on: bool) -> None:
    """Switch `lo` of this process's own namespace on or off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP if on else 0))


def cut(log: Path) -> dict[str, object]:
    """Run a robot, cut the network, mend it, and tell what happened when (s after the cut)."""
    switch_loopback(True)
    with (
        bridge_process("--start", "released", "--gantry") as bridge,
        running(bridge.domain, log, age_s=AGE_S) as robot,
    ):
        cut_s = time.monotonic()
        switch_loopback(False)
        wait_until(lambda: robot.phase is Phase.DAMPING)
        bite = bridge.silenced()
        late_s, reasons = lateness_s(robot), robot.reasons
        bridge.tell(lateness=True)
        bridge_late_s = bridge.event("lateness")["max_us"] * 1e-6
        switch_loopback(True)
        drive(robot, 50)
        return {
            "control_s": phases(log)["damping"] - cut_s,
            "robot_s": bite["at_s"] - cut_s,
            "silence_s": bite["silence_s"],
            "late_s": late_s,
            "robot_late_s": bridge_late_s,
            "reasons": reasons,
            "phase_when_mended": robot.phase.name,
        }


def in_a_namespace(log: Path) -> dict[str, object]:
    """`cut` in a network namespace of its own; skips where this machine does not permit one."""
    try:
        tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("this machine has no unshare (util-linux)")
    if tried.returncode != 0:
        pytest.skip(f"this machine permits no network namespace: {tried.stderr.strip()}")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_real_network_cut as here; here.main(sys.argv[2])"
    ran = subprocess.run(
        [*UNSHARE, sys.executable, "-c", code, str(Path(__file__).parent), str(log)],
        stdout=subprocess.PIPE, text=True, timeout=5 * PATIENT_S,
    )  # fmt: skip
    assert ran.returncode == 0
    return json.loads(ran.stdout.splitlines()[-1])


def main(log: str) -> None:
    """What runs in the namespace."""
    print(json.dumps(cut(Path(log))))


@pytest.mark.parametrize("judged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_network_that_goes_away_damps_on_both_sides(tmp_path, judged):
    """Judged: the state's age here, the bridge's watchdog of 0.1 s there, ten ticks and each side's own lateness.

    Not judged: a machine may have let the control wait before the cut, so the bridge's own count is what is looked at.
    """
    found = in_a_namespace(tmp_path)
    print(found)
    assert str(found["reasons"][0]).startswith("state age")
    assert found["phase_when_mended"] == "DAMPING"
    assert found["silence_s"] > 0.1 and found["control_s"] < PATIENT_S and found["robot_s"] < PATIENT_S
    if judged:
        assert 0.0 < found["control_s"] < AGE_S + 0.02 + found["late_s"]
        assert 0.09 < found["robot_s"] < 0.12 + found["robot_late_s"]


# ---- what benchmarks/dds_loop.py reports of it


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("dds_cuts")


def test_where_no_namespace_is_permitted_the_cut_is_not_measured(cuts, monkeypatch):
    """Without `unshare` in the PATH; the table says so, and the worst cut is that of the kills alone."""
    monkeypatch.setenv("PATH", "")
    found = cuts.network_cuts(97, 1, 0.05)
    assert set(found) == {"not_measured"} and "unshare" in found["not_measured"]
    loop = importlib.import_module("dds_loop")
    rows = loop.cut_rows(
        {
            "network_cut": found,
            "robot_killed_ms": [51.0, 52.0],
            "control_killed_ms": [101.0],
            "high_level_stop_ms": [9.0, 7.0],
        }
    )
    told = {what: measured for what, measured, _ in rows}
    assert told["network cut to the robot's damping"].startswith("not measured: ")
    assert told["kill -9 of the robot to the control's damping"] == "52.0 ms"
    assert told["state fault on high_level to the robot's fsm 1"] == "9.0 ms"


@pytest.mark.slow
def test_the_benchmark_cuts_and_kills_at_a_limit_of_its_own(cuts):
    """A limit of 0.3 s on the age of a state: damping comes after it, and after the watchdog's 0.1 s over there."""
    found = cuts.network_cuts(next(DOMAINS), 2, AGE_S)
    if "not_measured" in found:
        pytest.skip(f"this machine permits no network namespace: {found['not_measured']}")
    assert all(1e3 * (AGE_S - 0.02) <= ms < 1e3 * PATIENT_S for ms in found["control_ms"])
    assert all(90.0 <= ms < 1e3 * PATIENT_S for ms in found["robot_ms"])
    assert len(found["control_ms"]) == len(found["robot_ms"]) == 2
    (killed_ms,) = cuts.robot_kills(next(DOMAINS), 1, AGE_S)
    assert 1e3 * (AGE_S - 0.02) <= killed_ms < 1e3 * PATIENT_S


@pytest.mark.slow
def test_the_benchmark_times_a_fault_on_the_path_of_the_robots_own_controller(cuts):
    first_ms, second_ms = cuts.high_level_stops(next(DOMAINS), 2, 2.0)
    assert 0.0 < first_ms < 2000.0 and 0.0 < second_ms < 2000.0

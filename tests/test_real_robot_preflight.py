"""Preflight: every reason not to arm a robot, in words that say what to do."""

from dataclasses import replace

import pytest

from neon_sim.g1 import joints
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_hg import LowState
from neon_sim.real.preflight import Facts, objections, preflight, report


def healthy(path: str = "low_level", mode_machine: int = 5, knee: float = 0.3) -> Facts:
    record = layout(LowState).zeros()
    record["mode_machine"] = mode_machine
    record["motor_state"]["q"][:29] = joints.HOME
    record["motor_state"]["q"][3] = knee
    released = path == "low_level"
    return Facts(
        path=path,
        record=record,
        faults=(),
        writers=1,
        mode="" if released else "ai",
        mode_error="",
        fsm=None if released else 500,
        charge=80,
        gantry=True,
        loopback=False,
    )


@pytest.mark.parametrize("path", ["low_level", "high_level"])
def test_a_healthy_robot_may_be_armed(path):
    findings = preflight(healthy(path))
    assert objections(findings) == ()
    assert [finding.name for finding in findings] == [
        "link", "state", "mode_machine", "joints", "motion service", "other writers", "battery", "gantry",
    ]  # fmt: skip
    assert report(findings).count("ok ") == 8


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(healthy(), record=None), "link: no LowState has come. Is the robot on, the cable in"),
        (replace(healthy(), faults=("tilt: 1.2 rad",)), "state: tilt: 1.2 rad"),
        (healthy(mode_machine=0), "mode_machine: 0: the robot has not booted"),
        (healthy(mode_machine=4), "mode_machine: 4: it has 23 joints, this program commands 29"),
        (replace(healthy("high_level"), fsm=None), "motion service: 'ai', but sport has not said in which fsm it is"),
        (healthy(knee=3.0), "joints: outside their range: left_knee_joint +3.00 rad"),
        (replace(healthy(), mode="ai"), "motion service: 'ai' moves the robot; two masters would fight."),
        (replace(healthy(), mode=None, mode_error="no answer"), "motion service: not known (no answer)"),
        (replace(healthy("high_level"), mode=""), "motion service: released: high_level needs it"),
        (replace(healthy("high_level"), fsm=1), "motion service: 'ai' in fsm 1; wanted 500"),
        (replace(healthy(), writers=2), "other writers: 1 more on our topic. Stop the other program"),
        (replace(healthy(), charge=19), "battery: 19 %, wanted 20. Charge it."),
        (replace(healthy(), charge=None), "battery: its charge is not known"),
        (replace(healthy(), gantry=False), "gantry: not confirmed. Hang the robot up"),
    ],
)
def test_one_thing_wrong_is_one_objection(facts, words):
    (said,) = objections(preflight(facts))
    assert said.startswith(words)


def test_a_simulation_on_loopback_needs_no_gantry_battery_or_motion_service():
    facts = replace(healthy(), gantry=False, charge=None, mode=None, mode_error="no answer", loopback=True)
    assert objections(preflight(facts)) == ()
    assert objections(preflight(replace(facts, mode_error="")))  # it may be there and was not asked yet
    assert objections(preflight(replace(facts, mode="ai")))  # but not two masters


def test_high_level_needs_no_gantry():
    assert objections(preflight(replace(healthy("high_level"), gantry=False))) == ()


def test_an_unknown_path_is_refused():
    with pytest.raises(ValueError, match="low_level"):
        preflight(replace(healthy(), path="middle"))


@pytest.mark.parametrize(("machine", "words"), [(5, "5, 29 joints"), (11, "newer boards"), (99, "not seen before")])
def test_what_a_machines_number_says(machine, words):
    found = {finding.name: finding for finding in preflight(healthy(mode_machine=machine))}["mode_machine"]
    assert found.good and words in found.words

"""What must be true before a robot may be armed, looked at one by one and said in words."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.real.command_paths import PATHS
from neon_sim.real.sport import Fsm

LOWEST_CHARGE: Final = 20  # per cent: the vendor's terminations.hpp
_WALKING: Final = (int(Fsm.WALK), 501, 801)  # states in which the robot's own controller keeps it up (arm_gestures)
_JOINTS_23: Final = 4  # mode_machine of the G1 with 23 joints, unitree_mujoco's G1Bridge
_JOINTS_29: Final = 5
_SEEN_MACHINES: Final = (10, 11, 12, 15, 16)  # on newer boards; how many joints they have is not published
_HOW_TO_RELEASE: Final = (
    "Hang the robot in its gantry, then call robot.release_mode() or press L2+R2 on the remote control (the head light "
    "turns yellow)."
)


@dataclass(frozen=True)
class Facts:
    """What is known about a robot before it moves. None: could not be found out."""

    path: str
    record: np.ndarray | None  # newest LowState
    faults: tuple[str, ...]  # of the state
    writers: int  # on the path's topic, ours among them
    mode: str | None  # of motion_switcher; "" = released
    mode_error: str  # why mode is None
    fsm: int | None  # of sport; asked on high_level only
    charge: int | None  # per cent
    gantry: bool  # a person says that the robot hangs in its gantry, or stands where it may fall
    loopback: bool  # nothing but a simulation can be there


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    words: str  # what was found, and what to do if it is not good

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def preflight(facts: Facts) -> tuple[Finding, ...]:
    """Look at everything; a robot may be armed when all findings are good."""
    if facts.path not in PATHS:
        raise ValueError(f"path must be one of {PATHS}, got {facts.path!r}.")
    findings = [_link(facts)]
    if facts.record is not None:
        findings += [_state(facts), _machine(facts.record), _pose(facts.record)]
    return (*findings, _motion_service(facts), _writers(facts), _battery(facts), _gantry(facts))


def objections(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """What stands against arming, in words."""
    return tuple(f"{finding.name}: {finding.words}" for finding in findings if not finding.good)


def report(findings: tuple[Finding, ...]) -> str:
    """A table for a terminal."""
    return "\n".join(f"{'ok ' if f.good else 'NO '} {f.name:16} {f.words}" for f in findings)


def _link(facts: Facts) -> Finding:
    if facts.record is None:
        words = "no LowState has come. Is the robot on, the cable in, interface and domain (0 on a robot) right?"
        return Finding("link", False, words)
    return Finding("link", True, "states come")


def _state(facts: Facts) -> Finding:
    return Finding("state", not facts.faults, "; ".join(facts.faults) or "nothing is wrong with it")


def _machine(record: np.ndarray) -> Finding:
    machine = int(record["mode_machine"])
    if machine == 0:
        return Finding("mode_machine", False, "0: the robot has not booted, or this is no robot. Wait, or restart it.")
    if machine == _JOINTS_23:
        words = "it has 23 joints, this program commands 29: waist roll and pitch, wrist pitch and yaw are not there."
        return Finding("mode_machine", False, f"{machine}: {words}")
    if machine == _JOINTS_29:
        return Finding("mode_machine", True, f"{machine}, 29 joints")
    seen = "seen on newer boards" if machine in _SEEN_MACHINES else "not seen before"
    return Finding("mode_machine", True, f"{machine}, {seen}; it is echoed. Make sure that the robot has 29 joints.")


def _pose(record: np.ndarray) -> Finding:
    angle = record["motor_state"]["q"][: joints.NUM_JOINTS]
    outside = [
        f"{joints.JOINT_NAMES[i]} {angle[i]:+.2f} rad"
        for i in np.flatnonzero((angle < joints.LOWER - 0.02) | (angle > joints.UPPER + 0.02))
    ]
    words = f"outside their range: {', '.join(outside)}. Move them by hand, or calibrate." if outside else "in range"
    return Finding("joints", not outside, words)


def _motion_service(facts: Facts) -> Finding:
    name = "motion service"
    if facts.mode is None and facts.mode_error and facts.path == "low_level" and facts.loopback:
        return Finding(name, True, "nobody answers; a simulation without one (unitree_mujoco) has nothing to release")
    if facts.mode is None:
        return Finding(name, False, f"not known ({facts.mode_error or 'it was not asked yet'})")
    if facts.path == "low_level":
        if facts.mode:
            return Finding(name, False, f"{facts.mode!r} moves the robot; two masters would fight. {_HOW_TO_RELEASE}")
        return Finding(name, True, "released")
    if not facts.mode:
        return Finding(name, False, "released: high_level needs it. Select a mode, or restart the robot.")
    if facts.fsm is None:
        words = "sport has not said in which fsm it is, or was asked to damp and has not said that it does"
        return Finding(name, False, f"{facts.mode!r}, but {words}")
    if facts.fsm not in _WALKING:
        return Finding(name, False, f"{facts.mode!r} in fsm {facts.fsm}; wanted {_WALKING[0]}. Start it by the remote.")
    return Finding(name, True, f"{facts.mode!r} in fsm {facts.fsm}")


def _writers(facts: Facts) -> Finding:
    others = facts.writers - 1
    words = f"{others} more on our topic. Stop the other program: two of them make the joints shake."
    return Finding("other writers", others <= 0, words if others > 0 else "none")


def _battery(facts: Facts) -> Finding:
    if facts.charge is None and facts.loopback:
        return Finding("battery", True, "not known, and not needed: this is a simulation on loopback")
    if facts.charge is None:
        return Finding("battery", False, "its charge is not known: no message on rt/lf/bmsstate")
    good = facts.charge >= LOWEST_CHARGE
    return Finding("battery", good, f"{facts.charge} %" + ("" if good else f", wanted {LOWEST_CHARGE}. Charge it."))


def _gantry(facts: Facts) -> Finding:
    if facts.loopback:
        return Finding("gantry", True, "not needed: this is a simulation on loopback")
    if facts.path == "high_level" or facts.gantry:
        return Finding("gantry", True, "confirmed" if facts.gantry else "not needed: its own controller stands")
    words = "not confirmed. Hang the robot up, clear the floor, take the remote control, then arm(gantry=True)."
    return Finding("gantry", False, words)

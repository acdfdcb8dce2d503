"""The two sides of `dds_soak.py`: a control process and its robot each, what is done to them, and what happened."""

# mypy: disable-error-code="import-not-found"
# (real/ is neon_sim.real only when installed, and mypy looks in neon_sim/)
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dds_stops import ANSWER_S, arm, drive
from dds_wire import FAULTS, NEVER, SLOW_S, SimulatedRobot, TalkingRobot

from neon_sim.real.errors import ControlProcessError, NotArmedError
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.lateness import late_bin
from neon_sim.real.safety_stop import Phase


@dataclass
class Count:
    """What has happened so far."""

    begin_s: float = field(default_factory=time.monotonic)
    faults: int = 0
    missed: list[str] = field(default_factory=list)
    false_stops: list[dict[str, Any]] = field(default_factory=list)  # that nobody asked for: when, whose, why
    stalls: int = 0  # half a second without a control step
    worst_ms: float = 0.0
    latched: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))  # by fault, as it should be


@dataclass(frozen=True)
class Side:
    """A control process and the robot that it has."""

    name: str
    control: UnitreeRobot
    robot: SimulatedRobot | TalkingRobot

    def arm(self, count: Count) -> None:
        """Arm it; what stops it meanwhile is kept."""
        for reason in arm(self.control):
            self.stopped(count, reason)

    def again(self, count: Count) -> None:
        """Arm it, after a stop that nobody asked for."""
        self.stopped(count, "; ".join(self.control.reasons))
        self.arm(count)

    def stopped(self, count: Count, reason: str) -> None:
        """Keep a stop, and the worst lateness of both that can explain it: of the last second or two, and of the
        robot's last 5000 ticks."""
        count.false_stops.append(
            {
                "minutes": (time.monotonic() - count.begin_s) / 60.0,
                "whose": self.name,
                "reason": reason,
                "control_late_ms": float(self.control.safety()["late_ms"]),
                "robot_late_ms": 1e-3 * self.robot.lateness()["max_us"],
            }
        )


def one_fault(talker: TalkingRobot, faulted: Side, steady: Side, fault: str, count: Count) -> None:
    """Spoil the states, watch the latch, heal and arm again; the other robot is driven all the while."""
    talker.spoil(fault)
    answered_s, spoilt_s, others = NEVER, NEVER, 0
    deadline_s = time.monotonic() + ANSWER_S
    while answered_s == NEVER and time.monotonic() < deadline_s:
        both(faulted, steady, 1, count)
        spoilt_s, answered_s, _ = talker.answer()
    both(faulted, steady, 25, count)
    others = talker.answer()[2]
    count.faults += 1
    if answered_s < NEVER:
        count.worst_ms = max(count.worst_ms, 1e3 * (answered_s - spoilt_s))
    if answered_s == NEVER or others or faulted.control.phase is not Phase.DAMPING or not refuses(faulted.control):
        count.missed.append(fault)
    else:
        count.latched[fault] += 1
    talker.spoil("")
    both(faulted, steady, 15, count)
    faulted.arm(count)


def refuses(robot: UnitreeRobot) -> bool:
    """True if a stopped robot does not begin an episode."""
    try:
        robot.reset(np.random.default_rng(0))
    except NotArmedError:
        return True
    return False


def both(faulted: Side, steady: Side, steps: int, count: Count) -> None:
    """Drive both; the steady one is armed again when the machine has stopped it, which is kept."""
    for _ in range(steps):
        if steady.control.phase is not Phase.RUNNING:
            steady.again(count)
        for client in (faulted.control, steady.control):
            try:
                drive(client, 1)
            except ControlProcessError:
                if client._client.process.poll() is not None:
                    raise
                count.stalls += 1


def late_ticks(counts: np.ndarray) -> int:
    """How many ticks were later than 20 ms, to 9 %. counts: (160,) as `late_bin` sorts them."""
    return int(counts[late_bin(SLOW_S) + 1 :].sum())

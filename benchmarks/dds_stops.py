"""How soon each fault is answered: the part of `dds_loop.py` that `dds_soak.py` needs too."""

# mypy: disable-error-code="import-not-found"
# (real/ is neon_sim.real only when installed, and mypy looks in neon_sim/)
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from dds_wire import FAULTS, NEVER, TalkingRobot

from neon_sim.g1 import joints
from neon_sim.real.errors import NotArmedError, RobotError
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.robot_config import RobotConfig, sim_bridge
from neon_sim.real.safety_log import read_events
from neon_sim.real.safety_stop import Phase, StopConfig
from neon_sim.real.state_faults import StateLimits
from neon_sim.robot import RobotCommand

ARMS = np.isin(np.arange(joints.NUM_JOINTS), joints.GROUPS["arms"])
GANTRY = ("--start", "released", "--gantry")
SILENCE_MS = 1e3 * StopConfig().silence_s
AGE_S = StateLimits().age_s
PATIENT_S = 2.0  # an age of states that does not stop a robot which is looked at for something else
ANSWER_S = 5.0  # a fault that is not answered by then was missed
ARM_TRIES = 20


def config_for(domain: int, age_s: float, log: Path | None = None, silence_s: float = 5.0) -> RobotConfig:
    """A simulated robot whose states may be so old, and whose env may be silent for so long."""
    config = sim_bridge(domain)
    limits = replace(config.control.limits, age_s=age_s, joint_speed=40.0)  # it hangs by the pelvis and kicks
    control = replace(config.control, limits=limits, stop=replace(config.control.stop, silence_s=silence_s))
    return replace(config, control=control, log=log, wait_s=60.0)


def command() -> RobotCommand:
    """Stand, arms at home."""
    return RobotCommand(joints.HOME, ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)


def drive(robot: UnitreeRobot, steps: int) -> None:
    """Give so many commands."""
    for _ in range(steps):
        robot.write(command())
        robot.advance()


def arm(robot: UnitreeRobot, steps: int = 15, prepare: Callable[[], None] | None = None) -> list[str]:
    """Arm and drive until commands are followed. prepare: what comes before each arming.

    Returns:
        Why it did not come to that, in words, for each time at which the machine alone stopped the robot again.

    Raises:
        NotArmedError: it stops every time.
    """
    reasons: list[str] = []
    while len(reasons) < ARM_TRIES:
        if prepare is not None:
            prepare()
        try:
            robot.arm(gantry=True)
            drive(robot, steps)
        except RobotError as error:  # stopped again, or the machine gave the control no time for half a second
            reasons.append(str(error))
            continue
        if robot.phase is Phase.RUNNING:
            return reasons
        reasons.append("; ".join(robot.reasons))
    raise NotArmedError(reasons[-1:], f"measure: it was stopped {ARM_TRIES} times")


def state_faults(domain: int, repeats: int, age_s: float) -> dict[str, Any]:
    """From the first faulty state on the wire to the first damping command on it: worst ms per fault."""
    worst = dict.fromkeys(FAULTS, 0.0)
    missed: list[str] = []
    false_stops = 0
    with closing(TalkingRobot(domain, age_s)) as talker, closing(UnitreeRobot(config_for(domain, age_s))) as robot:
        for fault in FAULTS * repeats:
            talker.spoil("")
            time.sleep(0.3)
            false_stops += len(arm(robot))
            talker.spoil(fault)
            spoilt_s = damped_s = NEVER
            deadline_s = time.monotonic() + ANSWER_S
            while damped_s == NEVER and time.monotonic() < deadline_s:
                drive(robot, 1)
                spoilt_s, damped_s, _ = talker.answer()
            drive(robot, 10)
            others = talker.answer()[2]
            if damped_s == NEVER or others or robot.phase is not Phase.DAMPING:
                missed.append(fault)
            if damped_s < NEVER:
                worst[fault] = max(worst[fault], 1e3 * (damped_s - spoilt_s))
    return {"worst_ms": worst, "missed_latches": missed, "false_stops": false_stops}


def stale_holds(domain: int, repeats: int) -> list[float]:
    """From the last command to the hold, ms each; the robot stands again in between."""
    held: list[float] = []
    with tempfile.TemporaryDirectory() as folder, closing(TalkingRobot(domain, AGE_S)):
        log = Path(folder)
        with closing(UnitreeRobot(config_for(domain, PATIENT_S, log, silence_s=1e-3 * SILENCE_MS))) as robot:
            while len(held) < repeats:
                arm(robot)
                before = len(holds(log))
                last_s = time.monotonic()
                robot.write(command())
                time.sleep(0.6)
                took_ms = [1e3 * (held_s - last_s) for held_s in holds(log)[before:][:1]]
                held += [
                    ms for ms in took_ms if ms >= SILENCE_MS
                ]  # less: this process was late, and it was held before
    return held


def holds(log: Path) -> list[float]:
    """When the arms were held because the env was silent, by a log of stops."""
    return [event["time_s"] for event in read_events(log / "stops.jsonl") if event.get("phase") == "holding"]

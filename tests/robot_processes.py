"""Robots in their gantry with a control process of their own, and what tests of several processes do with them."""

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bridge_process import DOMAINS, PATIENT_S, wait_until

from neon_sim.g1 import joints
from neon_sim.real.errors import ControlProcessError, NotArmedError
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.robot_config import RobotConfig, sim_bridge
from neon_sim.real.safety_log import read_events
from neon_sim.real.safety_stop import Phase
from neon_sim.robot import RobotCommand

ARMS = np.isin(np.arange(29), joints.GROUPS["arms"])
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def config_for(domain: int, log: Path | None = None, age_s: float = 2.0, **stop: float) -> RobotConfig:
    """A simulated robot that hangs by the pelvis and kicks; it bears a machine that lets it wait.

    age_s: limit on a state's age. stop: of `StopConfig`; an env may be silent for a minute by default.
    """
    config = sim_bridge(domain)
    stops = replace(config.control.stop, **{"silence_s": PATIENT_S, **stop})
    limits = replace(config.control.limits, age_s=age_s, joint_speed=40.0)
    control = replace(config.control, limits=limits, stop=stops, stall_s=PATIENT_S)
    return replace(config, control=control, log=log, wait_s=PATIENT_S)


def command(elbow: float = 0.0) -> RobotCommand:
    """Stand, the left elbow moved by so much (rad)."""
    target = joints.HOME.copy()
    target[18] += elbow
    return RobotCommand(target, ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)


def drive(robot: UnitreeRobot, steps: int) -> None:
    """Move the elbow for so many steps; a control that got no processor for half a second is waited for again."""
    for step in range(steps):
        robot.write(command(0.3 * np.sin(0.05 * step)))
        try:
            robot.advance()
        except ControlProcessError:
            if robot._client.process.poll() is not None:
                raise


def run(robot: UnitreeRobot) -> None:
    """Arm and drive until commands are followed; what the machine alone has stopped is armed again."""

    def runs() -> bool:
        try:
            robot.arm(gantry=True)
            robot.reset(np.random.default_rng(0))
        except NotArmedError:  # a state grew old meanwhile, or discovery has not seen a writer leave
            return False
        except ControlProcessError:
            if robot._client.process.poll() is not None:
                raise
            return False  # it got no processor for half a second
        drive(robot, 5)
        return robot.phase is Phase.RUNNING

    wait_until(runs)


@contextmanager
def running(domain: int, log: Path | None = None, age_s: float = 2.0, **stop: float) -> Iterator[UnitreeRobot]:
    """A robot that follows commands; see `config_for`."""
    with closing(UnitreeRobot(config_for(domain, log, age_s, **stop))) as robot:
        run(robot)
        yield robot


@contextmanager
def talking(age_s: float = 2.0) -> Iterator[Any]:
    """`dds_wire.TalkingRobot`: it only talks, in a process of its own, and its states can be spoilt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        wire: ModuleType = importlib.import_module("dds_wire")
        with closing(wire.TalkingRobot(next(DOMAINS), age_s)) as robot:
            yield robot


def phases(log: Path) -> dict[str, float]:
    """When each phase began by the control process's own log, the last time."""
    events = read_events(log / "stops.jsonl") if (log / "stops.jsonl").exists() else []
    return {event["phase"]: event["time_s"] for event in events}


def lateness_s(robot: UnitreeRobot) -> float:
    """The worst lateness that the control process saw of itself in the last second or two."""
    return 1e-3 * robot.safety()["late_ms"]


def hog(seconds: float) -> Callable[[], None]:
    """Work that does not let go of the interpreter for so many seconds of a processor: one call into C."""
    begin_s, count = time.thread_time(), 300_000
    sum(range(count))
    items = round(count * seconds / (time.thread_time() - begin_s))
    return lambda: print(f"the interpreter was held for {sum(range(items)) and seconds:g} s of a processor")


def drive_beside(work: Callable[[], None], robot: UnitreeRobot) -> tuple[float, float]:
    """Drive while another thread of this process works.

    Returns:
        When the last command left before the longest gap between two, s, and how long that was, s.
    """
    thread, times = threading.Thread(target=work), [time.monotonic()]
    robot.write(command())
    thread.start()
    more = 5  # afterwards, and one by one: on a busy machine five steps together may take as long as the work
    while thread.is_alive() or (more := more - 1) >= 0:
        drive(robot, 1)
        times.append(time.monotonic())
    gaps = np.diff(times)
    longest = int(gaps.argmax())
    return times[longest], float(gaps[longest])


def process_is_alive(pid: int) -> bool:
    """False for one that has ended and that nobody has waited for, too (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

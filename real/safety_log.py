"""What happened, one JSON line each: commands that were sent, what was cut off them, stops and their reasons.

    python -m neon_sim.real.safety_log runs/real/commands.jsonl

prints the stops and plays the commands of the last run again on a simulated robot.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from neon_sim.g1 import joints
from neon_sim.real.safety_stop import STOPPED
from neon_sim.robot import Robot, RobotCommand, RobotState


class SafetyLog:
    """A file that grows by one line per event. Each line reaches the system at once: a crash loses none of them.

    Attributes:
        error: why nothing is written any more, in words; "" while all is well. A full disk is no reason to let go of a
            robot.
    """

    def __init__(self, path: Path | None) -> None:
        """path: its folder is made, and an older file is added to; None keeps no log."""
        self.error = ""
        self._file: TextIOWrapper | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  until close

    def write(self, event: str, time_s: float, **values: Any) -> None:
        """Add one line; arrays become lists."""
        if self._file is None:
            return
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        try:
            self._file.write(json.dumps({"event": event, "time_s": round(time_s, 6), **plain}) + "\n")
        except OSError as error:
            self.error = f"the log {self._file.name} ends here: {error}"
            self.close()

    def command(self, time_s: float, command: RobotCommand) -> None:
        """Add what was asked of the robot for one control period."""
        if self._file is not None:
            self.write("command", time_s, **{name: getattr(command, name) for name in _COMMAND})

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:  # what could not be written cannot be flushed either
                self.error = self.error or f"the log {file.name} lacks its end: {error}"


_COMMAND = ("joint_target", "owned_mask", "kp", "kd", "velocity", "height")
_STOPPED = tuple(phase.name.lower() for phase in STOPPED)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Every event of a log, oldest first. A last line that was cut off by a crash is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    for line in lines[:-1]:
        yield json.loads(line)


def last_run(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events from the last time on that a person armed the robot, up to the stop and with it.

    Runs are added to the same file, and what was asked of a robot after its stop was never done.
    """
    run: list[dict[str, Any]] = []
    stopped = False
    for event in events:
        if event["event"] == "arm":
            run, stopped = [], False
        if not stopped:
            run.append(event)
        stopped = stopped or event["event"] in ("disarm", "halt") or event.get("phase") in _STOPPED
    return run


def commands(path: Path) -> list[RobotCommand]:
    """The commands of a log's last run, one per control period: its episodes and the ways home between them."""
    return [
        RobotCommand(
            np.array(row["joint_target"]),
            np.array(row["owned_mask"], dtype=bool),
            np.array(row["kp"]),
            np.array(row["kd"]),
            np.array(row["velocity"]),
            float(row["height"]),
        )
        for row in last_run(read_events(path))
        if row["event"] == "command"
    ]


def replay(log: list[RobotCommand], robot: Robot, rng: np.random.Generator) -> list[RobotState]:
    """Give a robot the commands of a log after a reset; its state after each."""
    robot.reset(rng)
    states = []
    for command in log:
        robot.write(command)
        robot.advance()
        states.append(robot.read())
    return states


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the stops of a log, then what a simulated robot makes of the last run's commands."""
    from neon_sim.sim.model import build_spec
    from neon_sim.sim.sim_robot import SimRobot

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="the commands.jsonl of a robot's runs")
    path: Path = parser.parse_args(arguments).log
    if not path.is_file():
        parser.error(f"{path} is no file. real/run.py writes commands.jsonl into its --out (runs/real by default).")
    events = list(read_events(path))
    for event in events:
        if event["event"] != "command":
            print(json.dumps(event))
    log = commands(path)
    robot = SimRobot(build_spec(), {})
    for number, state in enumerate(replay(log, robot, np.random.default_rng(0))):
        error = np.abs(log[number].joint_target - state.joint_pos)[log[number].owned_mask]
        tilt = float(np.arccos(np.clip(-state.gravity_b[2], -1.0, 1.0)))
        if number % 50 == 0 and error.size:
            print(f"{state.time_s:7.2f} s  largest tracking error {error.max():.3f} rad  tilt {tilt:.3f} rad")
    robot.close()
    runs = sum(event["event"] == "arm" for event in events)
    print(f"{len(log)} commands of the last run, {runs} times armed, {joints.NUM_JOINTS} joints.")


if __name__ == "__main__":
    main()

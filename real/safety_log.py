"""What happened, one JSON line each: commands that were sent, what was cut off them, stops and their reasons.

    python -m neon_sim.real.safety_log runs/real/commands.jsonl

prints the stops and plays the commands again on a simulated robot.
"""

import json
import sys
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from neon_sim.g1 import joints
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


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Every event of a log, oldest first. A last line that was cut off by a crash is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    for line in lines[:-1]:
        yield json.loads(line)


def commands(path: Path) -> list[RobotCommand]:
    """The commands of a log, one per control period."""
    rows = [event for event in read_events(path) if event["event"] == "command"]
    return [
        RobotCommand(
            np.array(row["joint_target"]),
            np.array(row["owned_mask"], dtype=bool),
            np.array(row["kp"]),
            np.array(row["kd"]),
            np.array(row["velocity"]),
            float(row["height"]),
        )
        for row in rows
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


def main() -> None:
    """Print the stops of a log, then what a simulated robot makes of its commands."""
    from neon_sim.sim.model import build_spec
    from neon_sim.sim.sim_robot import SimRobot

    path = Path(sys.argv[1])
    for event in read_events(path):
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
    print(f"{len(log)} commands, {joints.NUM_JOINTS} joints.")


if __name__ == "__main__":
    main()

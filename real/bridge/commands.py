"""What comes in on rt/lowcmd, rt/arm_sdk and rt/user_lowcmd: each command checked as the robot checks it."""

from collections import Counter

import numpy as np

from neon_sim.real import crc
from neon_sim.real.codec import WireError, layout
from neon_sim.real.idl.unitree_hg import LowCmd
from neon_sim.real.transport import Link

QUEUE = 16  # commands that wait; in real time only the newest counts
_FLOATS = ("q", "dq", "tau", "kp", "kd")


class CommandReader:
    """One topic of LowCmd. Counts what it takes and what it refuses, by reason.

    Attributes:
        accepted: how many commands were good. refused: reason -> how many.
        last_s: when the newest good one was taken, on the caller's clock; None before the first.
    """

    def __init__(self, link: Link, topic: str, mode_machine: int) -> None:
        self.topic = topic
        self._mode_machine = mode_machine
        self._layout = layout(LowCmd)
        self._reader = link.reader(topic, LowCmd, QUEUE, reliable=True)
        self.accepted = 0
        self.refused: Counter[str] = Counter()
        self.last_s: float | None = None

    def take(self, now_s: float) -> list[np.ndarray]:
        """Return the good commands (records of LowCmd) that came since the last call, oldest first."""
        good = []
        for sample in self._reader.take():
            command, objection = self._check(sample)
            if objection:
                self.refused[objection] += 1
            else:
                good.append(command)
        if good:
            self.accepted += len(good)
            self.last_s = now_s
        return good

    def ignore(self, reason: str) -> None:
        """Throw away what came: somebody else has the motors."""
        self.refused[reason] += len(self._reader.take())
        self.last_s = None

    def wait(self, timeout_s: float) -> bool:
        """Sleep until a command is there or the time is over; True if one is."""
        return self._reader.wait(timeout_s)

    def silent_for(self, now_s: float) -> float:
        """Seconds since the newest good command; infinite before the first."""
        return float("inf") if self.last_s is None else now_s - self.last_s

    def writers(self) -> int:
        """How many clients write to this topic."""
        return self._reader.writers()

    def _check(self, sample: bytes) -> tuple[np.ndarray, str]:
        """The command, and what is wrong with it, "" if nothing."""
        command = self._layout.zeros()
        try:
            command = self._layout.decode(sample)
            crc.check(command)
        except crc.CrcError:
            return command, "crc"
        except WireError:
            return command, "malformed"
        if command["mode_machine"] != self._mode_machine:
            return command, "mode_machine"
        if command["mode_pr"] != 0:
            return command, "mode_pr"  # motors A and B of ankles and waist are not simulated
        motors = command["motor_cmd"]
        finite = all(np.isfinite(motors[name]).all() for name in _FLOATS)
        return command, "" if finite else "not_finite"

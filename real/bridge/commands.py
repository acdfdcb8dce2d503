"""What comes in on rt/lowcmd, rt/arm_sdk and rt/user_lowcmd: each command checked as the robot checks it."""

from collections import Counter

import numpy as np

from neon_sim.real import crc
from neon_sim.real.bridge.motors import numbers
from neon_sim.real.codec import WireError, layout
from neon_sim.real.idl.unitree_hg import LowCmd
from neon_sim.real.transport import Link

QUEUE = 16  # commands that wait; in real time only the newest counts
_PITCH_ROLL, _A_B = 0, 1  # mode_pr: what the ankles' and the waist's numbers mean, joints or the motors behind them


class CommandReader:
    """One topic of LowCmd. Counts what it takes and what it refuses, by reason.

    The motors A and B of ankles and waist are not simulated: a command for them, as the vendor's low-level example
    sends from its sixth second on, is taken as one for pitch and roll.

    Attributes:
        accepted: how many commands were good. a_b: how many of them were meant for motors A and B.
        refused: reason -> how many.
        last_s: when the newest good one was taken, on the caller's clock; None before the first.
    """

    def __init__(self, link: Link, topic: str, mode_machine: int) -> None:
        self.topic = topic
        self._mode_machine = mode_machine
        self._layout = layout(LowCmd)
        self._reader = link.reader(topic, LowCmd, QUEUE, reliable=True)
        self.accepted = self.a_b = 0
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
                self.a_b += int(command["mode_pr"]) == _A_B
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
        try:
            command = self._layout.decode(sample)
        except WireError:
            return self._layout.zeros(), "malformed"
        try:
            crc.check(command)
        except crc.CrcError:
            return command, "crc"
        if command["mode_machine"] != self._mode_machine:
            return command, "mode_machine"
        if command["mode_pr"] not in (_PITCH_ROLL, _A_B):
            return command, "mode_pr"
        return command, "" if np.isfinite(numbers(command)).all() else "not_finite"

"""The process that has the robot: 500 times a second a state in and a command out, whatever the env's process does.

It is a process of its own because a busy Python thread beside it would take the interpreter for 5 ms at a time
(measured), and because it must outlive an env that crashes. Started by `ProcessClient`; the env and it share one page
of memory and nothing else.
"""

import gc
import os
import pickle
import signal
import sys
import time
from contextlib import ExitStack
from types import FrameType
from typing import Final

import numpy as np

from neon_sim.real.command_paths import RELEASE_S
from neon_sim.real.control_core import ControlCore
from neon_sim.real.control_records import COMMAND, ORDER, STATUS, WORDS, Order
from neon_sim.real.lateness import late_bin
from neon_sim.real.robot_config import RobotConfig
from neon_sim.real.robot_port import RobotPort
from neon_sim.real.safety_log import SafetyLog
from neon_sim.real.safety_stop import Phase
from neon_sim.real.shared_memory import SharedMemory

BOXES: Final = (COMMAND, ORDER, STATUS, WORDS)
ORPHAN_S: Final = 30.0  # how long an orphan damps its robot; what a G1 does when nobody writes is not known
_LAST_DAMPING_S: Final = RELEASE_S + 0.5  # damping, or weight 0, before a wanted end
_LOOK_EVERY: Final = 5  # ticks; a second writer is seen within 10 ms of its discovery
_LATE_WINDOW_S: Final = 1.0


class ControlLoop:
    """The loop and its parts; `run` returns when it is told to end, or when its env is long gone."""

    def __init__(self, config: RobotConfig, memory: SharedMemory, parent: int) -> None:
        self._config, self._memory, self._parent = config, memory, parent
        self._commands, self._orders, self._status, self._words = memory.boxes
        self.core = ControlCore(config.control)
        self.port = RobotPort(config)
        self._log = SafetyLog(None if config.log is None else config.log / "stops.jsonl")
        self._ends = False
        self._signal = 0
        self._orphaned = False
        self._seen_command = self._seen_order = 0
        self._writers = 1
        self._charge: int | None = None
        self._phase = self.core.stop.phase
        self._late_s, self._late_before_s, self._window_s = 0.0, 0.0, 0.0
        status = self.core.status(time.monotonic())  # always the same record: what this loop adds to it stays
        self._late_ms, self._late_counts = status["late_ms"], status["late_counts"]
        self._answered, self._refused = status["answered"], status["refused"]
        self._text: bytes | None = None
        self._record = np.zeros((), WORDS)

    def end(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: damp at the next tick, and end soon."""
        self._signal = signum

    def run(self) -> None:
        """Keep absolute deadlines: what is late is not made up for by a burst of messages."""
        tick_s = self._config.control.tick_s
        due_s = time.monotonic()
        ticks = 0
        while not self._over(time.monotonic()):
            now_s = time.monotonic()
            self._note_lateness(now_s, now_s - due_s)
            self.tick(now_s, ticks)
            ticks += 1
            due_s = max(due_s + tick_s, time.monotonic() - tick_s)
            time.sleep(max(0.0, due_s - time.monotonic()))

    def tick(self, now_s: float, ticks: int) -> None:
        """One round: read, decide, send, tell."""
        self.port.take_states(self.core, now_s)
        self._read_env(now_s)
        if self._signal and not self._ends:
            self.core.halt(now_s, f"signal {self._signal}")
            self._ends = True
        if ticks % _LOOK_EVERY == 0:
            self._writers, self._charge = self.port.writers(), self.port.services.charge
            self._orphaned = os.getppid() != self._parent
        self.port.send(self.core.tick(now_s, self._writers, self._orphaned, self._charge))
        self._tell(now_s)
        self._log_phase(now_s)

    def close(self) -> None:
        """Damp once more whatever was armed, then leave the network, even if nothing can be sent any more."""
        with ExitStack() as last:
            last.callback(self._log.close)
            last.callback(self.port.close)
            moved = self.core.stop.phase not in (Phase.UNARMED, Phase.DAMPING)  # something went wrong in this process
            self.core.halt(time.monotonic(), "the control process ends")
            self._log_phase(time.monotonic())
            end_s = time.monotonic() + (_LAST_DAMPING_S if moved else 10 * self._config.control.tick_s)
            while time.monotonic() < end_s:
                self.port.send(self.core.tick(time.monotonic()))
                time.sleep(self._config.control.tick_s)

    def _tell(self, now_s: float) -> None:
        """Words first: who sees a phase can read why."""
        text = self.core.words()
        if text is not self._text:
            self._text = text
            self._record["text"] = text
            self._words.write(self._record)
        self._late_ms[()] = 1e3 * max(self._late_s, self._late_before_s)
        self._status.write(self.core.status(now_s))

    def _read_env(self, now_s: float) -> None:
        """Take the env's newest order and command. The order first: the pause that the env has written before it, so
        that its silence while a person arms is no fault, is then seen as well."""
        order = self._newest_order()
        count = self._commands.count  # before it is read: a newer one comes in turn
        if count != self._seen_command:
            command = self._commands.read()
            if command is not None:
                self._seen_command = count
                self.core.obey(command)
        if order is not None and int(order["number"]) != int(self._answered):
            self._carry_out(order, now_s)

    def _newest_order(self) -> np.ndarray | None:
        count = self._orders.count
        if count == self._seen_order:
            return None
        order = self._orders.read()
        if order is not None:
            self._seen_order = count
        return order

    def _carry_out(self, order: np.ndarray, now_s: float) -> None:
        asked = Order(int(order["order"]))
        self._refused[()] = not self.port.carry_out(asked, self.core, now_s, bool(order["gantry"]))
        self._ends = self._ends or asked is Order.QUIT
        self._answered[()] = order["number"]

    def _over(self, now_s: float) -> bool:
        stop = self.core.stop
        if stop.phase is Phase.UNARMED:
            return self._ends or self._orphaned
        if stop.phase is not Phase.DAMPING:
            return False
        wait_s = _LAST_DAMPING_S if self._ends else ORPHAN_S if self._orphaned else np.inf
        return now_s - stop.since_s >= wait_s

    def _note_lateness(self, now_s: float, late_s: float) -> None:
        if now_s >= self._window_s + _LATE_WINDOW_S:
            self._late_before_s, self._late_s, self._window_s = self._late_s, 0.0, now_s
        self._late_s = max(self._late_s, late_s)
        self._late_counts[late_bin(late_s)] += 1

    def _log_phase(self, now_s: float) -> None:
        if self.core.stop.phase is not self._phase:
            self._phase = self.core.stop.phase
            self._log.write("phase", now_s, phase=self._phase.name.lower(), reasons=list(self.core.stop.reasons))


def main() -> None:
    """Run with memory and settings from the parent: descriptor and parent's id as arguments, settings on stdin."""
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    config: RobotConfig = pickle.load(sys.stdin.buffer)  # from our own parent
    if config.priority is not None:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(config.priority))
    loop = ControlLoop(config, SharedMemory(BOXES, fd), parent)
    signal.signal(signal.SIGTERM, loop.end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the env's: it disarms
    gc.freeze()  # nothing that was loaded is looked through again
    try:
        loop.run()
    finally:
        loop.close()


if __name__ == "__main__":
    main()

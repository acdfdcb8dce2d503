"""What `dds_loop.py` and `dds_soak.py` measure against: a robot that only talks, a simulated one, busy neighbours.

Each is a process of its own, so that it cannot make the measured one late by more than the machine itself does. All
processes of a machine share `time.monotonic`.
"""

# mypy: disable-error-code="import-not-found"
# (real/ is neon_sim.real only when installed, and mypy looks in neon_sim/)
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from neon_sim.g1 import joints
from neon_sim.real import crc
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_hg import LowCmd, LowState
from neon_sim.real.low_cmd import DAMPING_KD
from neon_sim.real.transport import Link, LinkConfig

TICK_S = 0.002
TOLD_S = 5.0  # what the simulated robot has not told by then did not happen
SLOW_S = 0.02  # a tick that is later counts as slow
KEPT = 5000  # ticks whose lateness is remembered, as the simulated robot does
NEVER = float("inf")
_BUSY = "import os\nos.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\nwhile True: pass"


def _nan(record: np.ndarray) -> None:
    record["motor_state"]["q"][3] = np.nan


def _tick_back(record: np.ndarray) -> None:
    record["tick"] -= 100


def _hot(record: np.ndarray) -> None:
    record["motor_state"]["temperature"][5] = 25, 121


def _hot_casing(record: np.ndarray) -> None:
    record["motor_state"]["temperature"][5] = 86, 25


def _fast(record: np.ndarray) -> None:
    record["motor_state"]["dq"][18] = 41.0


def _beyond(record: np.ndarray) -> None:
    record["motor_state"]["q"][18] = 3.2


def _tilted(record: np.ndarray) -> None:
    record["imu_state"]["quaternion"] = np.cos(0.6), np.sin(0.6), 0.0, 0.0


IN_RECORD = {
    "nan": _nan,
    "tick back": _tick_back,
    "hot": _hot,
    "hot casing": _hot_casing,
    "fast": _fast,
    "beyond": _beyond,
    "tilted": _tilted,
}
ALTERNATING = ("tick back",)  # in every second state: a clock that is late for good is late, not out of order
FAULTS = (*IN_RECORD, "bad crc", "silent", "closed", "frozen", "delayed", "second writer")


class Talker:
    """Healthy states at 500 Hz until an order spoils them, and an ear on rt/lowcmd. Runs in its own process."""

    def __init__(self, domain: int, line: Connection, delay_s: float) -> None:
        """delay_s: by which states are late in the fault `delayed`."""
        self._delay_s = delay_s
        self._line, self._link = line, Link(LinkConfig(domain))
        self._states, self._ear = self._link.writer("rt/lowstate", LowState), self._link.reader("rt/lowcmd", LowCmd, 8)
        self._second: Any = None
        self._closed = self._odd = False
        self._record = layout(LowState).zeros()
        self._record["mode_machine"], self._record["imu_state"]["quaternion"][0] = 5, 1.0
        self._record["motor_state"]["q"][: joints.NUM_JOINTS] = joints.HOME
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._fault = ""
        self._spoilt_s = self._damped_s = NEVER
        self._late_s: deque[float] = deque([0.0], maxlen=KEPT)
        self._slow = 0
        self._others = 0  # commands after the first damping that were not damping

    def run(self) -> None:
        """Until the line is closed."""
        start_s = due_s = time.monotonic()
        while self._obey():
            now_s = time.monotonic()
            self._late_s.append(now_s - due_s)
            self._slow += now_s - due_s > SLOW_S
            for sample in self._samples(1000 + round(1e3 * (now_s - start_s)), now_s):
                self._states.write(sample)
            self._listen()
            due_s = max(due_s + TICK_S, now_s)
            time.sleep(max(0.0, due_s - time.monotonic()))
        self._link.close()

    def _obey(self) -> bool:
        if not self._line.poll():
            return True
        try:
            order = self._line.recv()
        except EOFError:
            return False
        if order == "answer":
            self._line.send((self._spoilt_s, self._damped_s, self._others))
        elif order == "lateness":
            self._line.send({"max_us": 1e6 * max(self._late_s), "slow": self._slow})
        else:
            self._fault, self._spoilt_s, self._damped_s, self._others = order, NEVER, NEVER, 0
            self._odd = False
            self._second = self._link.writer("rt/lowcmd", LowCmd) if order == "second writer" else None
            self._leave(order == "closed")
        return True

    def _leave(self, closed: bool) -> None:
        """Leave the topic of states, or come back to it."""
        if closed and not self._closed:
            self._states.close()
        elif self._closed and not closed:
            self._states = self._link.writer("rt/lowstate", LowState)
        self._closed = closed

    def _samples(self, tick: int, now_s: float) -> list[bytes]:
        """What leaves now, spoilt as ordered."""
        fault, record = self._fault, np.ndarray((), self._record.dtype, bytearray(self._record.tobytes()))
        record["tick"] = tick
        self._odd = not self._odd
        if fault in IN_RECORD and (self._odd or fault not in ALTERNATING):
            IN_RECORD[fault](record)
        crc.seal(record)
        if fault == "bad crc":
            record["crc"] ^= 1
        self._waiting.append((now_s, layout(LowState).encode(record)))
        if fault:
            self._spoilt_s = min(self._spoilt_s, now_s)
        if fault in ("silent", "closed"):
            return []
        if fault == "frozen":  # the last one again, tick and all
            return [self._waiting[0][1]]
        late_s = self._delay_s if fault == "delayed" else 0.0
        due = []
        while self._waiting and self._waiting[0][0] <= now_s - late_s:
            due.append(self._waiting.popleft()[1])
        return due[-1:] if not late_s else due

    def _listen(self) -> None:
        for sample in self._ear.take():
            if self._spoilt_s == NEVER:
                continue
            motors = layout(LowCmd).decode(sample)["motor_cmd"][: joints.NUM_JOINTS]
            if not motors["kp"].any() and (motors["kd"] == DAMPING_KD).all():
                self._damped_s = min(self._damped_s, time.monotonic())
            elif self._damped_s < NEVER:
                self._others += 1


def talk(domain: int, line: Connection, delay_s: float) -> None:
    """What the process of `TalkingRobot` runs; it ends with the line, and not by Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Talker(domain, line, delay_s).run()


class TalkingRobot:
    """A `Talker` from outside."""

    def __init__(self, domain: int, age_s: float) -> None:
        """age_s: limit on a state's age; the fault `delayed` is twice of it."""
        context = multiprocessing.get_context("spawn")
        self.domain = domain
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=talk, args=(domain, theirs, 2.0 * age_s), daemon=True)
        self._process.start()
        theirs.close()

    def spoil(self, fault: str) -> None:
        """Let a fault of `FAULTS` begin; "" heals."""
        self._line.send(fault)

    def answer(self) -> tuple[float, float, int]:
        """When the fault began, when damping was first heard (infinite: not yet), what else was heard since."""
        self._line.send("answer")
        return self._line.recv()

    def lateness(self) -> dict[str, float]:
        """How late its last 5000 states were at most (us), and how many since the start were later than 20 ms."""
        self._line.send("lateness")
        return self._line.recv()

    def close(self) -> None:
        """End it."""
        self._line.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()


class SimulatedRobot:
    """`python -m neon_sim.real.bridge` and the events that it tells of.

    Raises:
        RuntimeError: it did not start.
    """

    def __init__(self, domain: int, *arguments: str) -> None:
        command = [sys.executable, "-m", "neon_sim.real.bridge", "--domain", str(domain), *arguments]
        pipe = subprocess.PIPE  # a session of its own: Ctrl-C is for who measures, and who measures ends it
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        self.events: list[dict[str, Any]] = []
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise RuntimeError("The simulated robot did not start; what it printed stands above.")
        self._ears = threading.Thread(target=self._hear, daemon=True)
        self._ears.start()

    def order(self, **orders: Any) -> None:
        """Give orders, such as hang=False."""
        assert self.process.stdin is not None
        print(json.dumps(orders), file=self.process.stdin, flush=True)

    def told_s(self, name: str, after_s: float, **details: Any) -> float:
        """When it first told of an event with such details later than that; waited for.

        Raises:
            TimeoutError: it did not tell of one.
        """
        return float(self._told(name, after_s, details)["at_s"])

    def lateness(self) -> dict[str, float]:
        """What it says of its own ticks: see `neon_sim.real.bridge.pace.Lateness`. TimeoutError: it says nothing."""
        before = len(self.events)
        self.order(lateness=True)
        return self._told("lateness", 0.0, {}, before)

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20.0)
        self._ears.join(5.0)

    def _told(self, name: str, after_s: float, details: dict[str, Any], first: int = 0) -> dict[str, Any]:
        deadline_s = time.monotonic() + TOLD_S
        while time.monotonic() < deadline_s:
            for event in self.events[first:]:
                if event["event"] == name and event.get("at_s", NEVER) > after_s and details.items() <= event.items():
                    return event
            time.sleep(0.002)
        raise TimeoutError(f"The simulated robot did not tell of {name!r} in {TOLD_S:g} s.")

    def _hear(self) -> None:
        assert self.process.stdout is not None
        self.events.extend(json.loads(line) for line in self.process.stdout)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that never rest, while this lasts; ordinary ones, whatever priority who measures has."""
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used so far, of all its threads (Linux)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

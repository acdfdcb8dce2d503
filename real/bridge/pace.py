"""Real time: a loop that keeps absolute deadlines, and how late it was at each."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

_KEPT: Final = 5000  # deadlines; ten seconds at 500 Hz
SLOW_S: Final = 0.02  # a control step
_DEBT_S: Final = 0.1  # a loop that is later than this lets the lost time go, instead of running after it


@dataclass(frozen=True)
class Lateness:
    """How late the last deadlines were met, and how much time was given up for lost."""

    p50_us: float
    p99_us: float
    max_us: float
    lost_s: float  # since the start; the simulation is so far behind the clock
    slow: int  # since the start: deadlines that were met more than `SLOW_S` late


class Pace:
    """The deadlines of a loop with a fixed period."""

    def __init__(self, period_s: float, now_s: float) -> None:
        self.period_s = period_s
        self._due_s = now_s + period_s
        self._late_s: deque[float] = deque(maxlen=_KEPT)
        self._lost_s, self._slow = 0.0, 0

    def wait(self) -> float:
        """Sleep until the next deadline and return the time then (`time.monotonic`, s)."""
        left_s = self._due_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
        now_s = time.monotonic()
        self.met(now_s)
        return now_s

    def met(self, now_s: float) -> None:
        """Take note that the deadline was met at `now_s`, and set the next."""
        late_s = now_s - self._due_s
        self._late_s.append(late_s)
        self._due_s += self.period_s
        self._slow += late_s > SLOW_S
        if late_s > _DEBT_S:
            self._lost_s += late_s
            self._due_s = now_s + self.period_s

    def lateness(self) -> Lateness:
        """Report on the last 5000 deadlines."""
        late_us = np.array(self._late_s or [0.0]) * 1e6
        p50, p99 = np.percentile(late_us, [50, 99])
        return Lateness(float(p50), float(p99), float(late_us.max()), self._lost_s, self._slow)

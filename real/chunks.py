"""Actions while the policy thinks: a thread beside the one that keeps the robot's pace."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np

EXECUTE: Final = 8  # actions of a chunk that are carried out before the next is asked for; the rest covers the wait


class Chunks:
    """The policy's answers, one action at a time; it thinks in a thread while the chunk before is carried out.

    What was decided too late to be carried out is skipped. A policy that is slower than its chunk repeats the last
    action: the robot holds still, and the control does not take the env for dead.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._thread = ThreadPoolExecutor(1)
        self._future: Future[np.ndarray] | None = None
        self._waiting: list[tuple[dict[str, np.ndarray], float]] = []
        self._chunk, self._used, self._age = np.empty((0, 0)), 0, 0

    def begin(self, obs: dict[str, np.ndarray], now_s: float) -> None:
        """Take the first observation and wait for the first chunk: the robot stands meanwhile."""
        self._policy.reset()
        self._policy.observe(obs, now_s)
        self._chunk, self._used = self._policy.act()[0], 0

    def observe(self, obs: dict[str, np.ndarray], now_s: float) -> None:
        """Pass on an observation, as soon as the policy does not think."""
        self._waiting.append((obs, now_s))
        if self._future is None:
            for waiting in self._waiting:
                self._policy.observe(*waiting)
            self._waiting.clear()

    def next(self) -> np.ndarray:
        """The action (A,) for this step."""
        if self._future is not None and self._future.done():
            self._chunk, self._used, self._future = self._future.result()[0], self._age, None
        if self._future is None and self._used >= EXECUTE:
            self._future, self._age = self._thread.submit(self._policy.act), 0
        action = self._chunk[min(self._used, len(self._chunk) - 1)]
        self._used += 1
        self._age += 1
        return action

    def close(self) -> None:
        """Let the last thought end."""
        self._thread.shutdown()

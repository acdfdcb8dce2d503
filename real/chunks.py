"""Actions while the policy thinks: a thread beside the one that keeps the robot's pace."""

from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Final

import numpy as np

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.inference.policy import Policy

EXECUTE: Final = 8  # actions of a chunk that are carried out before the next is asked for; the rest covers the wait
STAND: Final = 10  # steps, 0.2 s, that a robot stands after the last action of a chunk before nothing is sent any more
_LAST_THOUGHT_S: Final = 2.0


class Chunks:
    """The policy's answers, one action at a time; it thinks in a thread while the chunk before is carried out.

    What was decided too late to be carried out is skipped. A policy that is slower than its chunk lets the robot stand:
    the last action goes on with its velocity at zero. If it still has not answered `STAND` steps later, it is `silent`:
    nothing may be sent then, so that the control takes it for what it is, an env that hangs, and holds the robot.

    Args:
        policy: asked by one thread at a time.
        space: of its actions; says which entries are a velocity.
        waits: let time stand still until each chunk is there, as a simulation in lock-step can.
    """

    def __init__(self, policy: Policy, space: G1ActionSpace, waits: bool = False) -> None:
        self._policy, self._waits = policy, waits
        self._velocity = space.groups.get("locomotion", slice(0, 0))
        self._thread = ThreadPool(1)  # a daemon, unlike an executor's: a policy that hangs keeps nobody from leaving
        self._thought: AsyncResult[np.ndarray] | None = None
        self._waiting: list[tuple[dict[str, np.ndarray], float]] = []
        self._chunk, self._used, self._age = np.empty((0, 0)), 0, 0

    @property
    def silent(self) -> bool:
        """True when the action of this step must not be sent: the policy has been late for too long."""
        return self._used - len(self._chunk) > STAND

    def begin(self, obs: dict[str, np.ndarray], now_s: float) -> None:
        """Take the first observation and wait for the first chunk: the robot stands meanwhile."""
        self._policy.reset()
        self._policy.observe(obs, now_s)
        self._chunk, self._used = self._thread.apply_async(self._policy.act).get()[0], 0

    def observe(self, obs: dict[str, np.ndarray], now_s: float) -> None:
        """Pass on an observation, as soon as the policy does not think."""
        self._waiting.append((obs, now_s))
        if self._thought is None:
            for waiting in self._waiting:
                self._policy.observe(*waiting)
            self._waiting.clear()

    def next(self) -> np.ndarray:
        """The action (A,) for this step; look at `silent` before it is sent. Raises what the policy raised."""
        self._take_answer()
        if self._thought is None and self._used >= min(EXECUTE, len(self._chunk) // 2):
            self._thought, self._age = self._thread.apply_async(self._policy.act), 0
            if self._waits:
                self._thought.wait()
                self._take_answer()
        action = self._chunk[min(self._used, len(self._chunk) - 1)].copy()
        if self._used >= len(self._chunk):
            action[self._velocity] = 0.0
        self._used += 1
        self._age += 1
        return action

    def close(self) -> None:
        """Let the last thought end; one that does not is left behind."""
        if self._thought is not None:
            self._thought.wait(_LAST_THOUGHT_S)
        self._thread.terminate()

    def _take_answer(self) -> None:
        if self._thought is not None and self._thought.ready():
            self._chunk, self._used, self._thought = self._thought.get()[0], self._age, None

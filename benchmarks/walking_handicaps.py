"""What stands between a walker and its robot in harder worlds: targets that come late, encoders that are off."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from neon_sim.robot import RobotState


class Delayed:
    """A walker whose targets reach the motors some control periods late."""

    def __init__(self, walker: Any, steps: int) -> None:
        self.walker, self.steps = walker, steps
        self.max_velocity = walker.max_velocity
        self._queue: deque[np.ndarray] = deque()

    def step(
        self,
        state: RobotState,
        command: np.ndarray,
        owned_mask: np.ndarray,
        external_targets: np.ndarray,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        """The targets (29,) rad that the walker gave `steps` calls ago; the first ones until there are such."""
        targets = self.walker.step(state, command, owned_mask, external_targets, residual)
        self._queue.extend([targets] * (self.steps + 1 - len(self._queue)))
        return self._queue.popleft()

    def reset(self) -> None:
        """Forget what is under way."""
        self.walker.reset()
        self._queue.clear()

    def get_state(self) -> dict[str, Any]:
        """The walker's state and what is under way."""
        return {"walker": self.walker.get_state(), "queue": [targets.copy() for targets in self._queue]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned."""
        self.walker.set_state(state["walker"])
        self._queue = deque(targets.copy() for targets in state["queue"])


class Misread:
    """A walker of a robot whose encoders are off, each by an angle of its own.

    Motors follow their encoders, so the joints end up off by as much the other way: reading = angle + offset.
    """

    def __init__(self, walker: Any, offset: np.ndarray) -> None:
        self.walker, self.offset = walker, offset  # (29,) rad
        self.max_velocity = walker.max_velocity

    def step(
        self,
        state: RobotState,
        command: np.ndarray,
        owned_mask: np.ndarray,
        external_targets: np.ndarray,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        """The angles (29,) rad at which encoders would read what the walker wants."""
        read = replace(state, joint_pos=state.joint_pos + self.offset, joint_target=state.joint_target + self.offset)
        return self.walker.step(read, command, owned_mask, external_targets, residual) - self.offset

    def reset(self) -> None:
        """Forget the past; the encoders stay off."""
        self.walker.reset()

    def get_state(self) -> dict[str, Any]:
        """The walker's."""
        return self.walker.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned."""
        self.walker.set_state(state)

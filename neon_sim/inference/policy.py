"""What a policy is to the loop that runs it: it observes every step and answers with chunks of 16 actions."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Policy(Protocol):
    """Anything that acts. `B` environments are one batch; a single environment is B = 1."""

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the past of the given environments (all by default)."""

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Take in one observation. Called at every control step, so it must be cheap."""

    def act(self) -> np.ndarray:
        """Return the next chunk (B, 16, A), actions in [-1, 1]; as many of them as are to be done before the next."""


class ClipBuffer:
    """The last seconds of one environment's frames, from which a clip at a fixed frame rate is cut.

    Args:
        seconds: s of frames that are kept.
        fps: frames per second of the clip.
    """

    def __init__(self, seconds: float = 4.0, fps: float = 4.0) -> None:
        self.seconds, self.fps = seconds, fps
        self._frames: deque[tuple[float, np.ndarray]] = deque()

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()

    def add(self, frame: np.ndarray, now_s: float) -> None:
        """Keep a frame (H, W, 3) uint8; the array must not be written to afterwards."""
        self._frames.append((now_s, frame))
        while self._frames[0][0] < now_s - self.seconds - 1e-9:
            self._frames.popleft()

    def clip(self, length: int) -> np.ndarray:
        """Frames (length, H, W, 3), oldest first, the newest last, each the nearest to its time on the fps grid.

        Where the past is shorter than the clip, its oldest frame is repeated.
        """
        if not self._frames:
            raise ValueError("The clip buffer is empty: call observe() with a camera frame before act().")
        times = np.array([time_s for time_s, _ in self._frames])
        wanted = times[-1] - np.arange(length - 1, -1, -1) / self.fps
        nearest = np.abs(times[None, :] - wanted[:, None]).argmin(axis=1)
        return np.stack([self._frames[i][1] for i in nearest])

    def get_state(self) -> dict[str, Any]:
        """The kept frames and their times."""
        return {"frames": [(time_s, frame.copy()) for time_s, frame in self._frames]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._frames = deque((time_s, frame.copy()) for time_s, frame in state["frames"])

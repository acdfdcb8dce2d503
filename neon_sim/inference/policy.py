"""What a policy is to the loop that runs it: it observes every step and answers with chunks of 16 actions."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np

ENGINES: Final = ("auto", "eager", "compile", "cudagraph", "onnx")  # how networks are run: `neon_sim.inference.engines`


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


class SoundBuffer:
    """The last seconds of one environment's sound, put together from the microphone's frames, which overlap.

    Args:
        seconds: s that are kept and heard at once; before the first frame, and where none reaches, it is silent.
        rate_hz: samples a second.
        microphones: whose frames lie one after the other, (microphones * S,), and so does the sound.
    """

    def __init__(self, seconds: float, rate_hz: int = 16_000, microphones: int = 1) -> None:
        self.rate_hz = rate_hz
        self._sound = np.zeros((microphones, round(seconds * rate_hz)), np.float32)
        self._frame: np.ndarray | None = None  # the newest
        self._time_s = 0.0  # when that came

    def clear(self) -> None:
        """Forget everything."""
        self._sound = np.zeros_like(self._sound)
        self._frame, self._time_s = None, 0.0

    def add(self, frame: np.ndarray, now_s: float) -> None:
        """Take in a frame (microphones * S,) whose newest sample is now; one that is still the last is nothing new."""
        microphones, length = self._sound.shape
        if self._frame is not None:
            if np.array_equal(frame, self._frame):
                return
            passed = min(round((now_s - self._time_s) * self.rate_hz), length)
            self._sound = np.concatenate([self._sound[:, passed:], np.zeros((microphones, passed), np.float32)], axis=1)
        self._frame, self._time_s = frame.copy(), now_s
        newest = frame.reshape(microphones, -1)[:, -length:]
        self._sound[:, length - newest.shape[1] :] = newest

    def sound(self) -> np.ndarray:
        """(microphones * seconds * rate_hz,) float32, of each the newest sample last; the caller's own."""
        return self._sound.flatten()

    def get_state(self) -> dict[str, Any]:
        """The sound, and the newest frame with its time."""
        frame = None if self._frame is None else self._frame.copy()
        return {"sound": self.sound(), "frame": frame, "time_s": self._time_s}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        frame = state["frame"]
        self._sound = state["sound"].reshape(self._sound.shape).copy()
        self._time_s = float(state["time_s"])
        self._frame = None if frame is None else frame.copy()

"""What a person sees of the simulation: pictures from a following camera, or a live window."""

import time
import warnings
from typing import Any, Protocol

import mujoco
import numpy as np

from neon_sim.sensors.gl_renderer import GLRenderer, make_renderer

_PICTURE_HEIGHT, _PICTURE_WIDTH = 480, 640
_LONGEST_WAIT_S = 0.1


class View(Protocol):
    """Something that shows the present state."""

    def show(self) -> np.ndarray | None:
        """Draw now; return the picture if there is one."""

    def close(self) -> None:
        """Free the window or the renderer."""


class PictureView:
    """`render_mode="rgb_array"`: (480, 640, 3) uint8 from the tracking camera."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._model, self._data = model, data
        self._renderer = make_renderer(model, _PICTURE_HEIGHT, _PICTURE_WIDTH)
        if isinstance(self._renderer, GLRenderer):
            self._renderer.draw_sky()

    def show(self) -> np.ndarray:
        """Render one picture."""
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        return self._renderer.rgb(self._data, "tracking")

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()


class WindowView:
    """`render_mode="human"`: MuJoCo's own passive viewer, in real time."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        _require_display()
        import mujoco.viewer  # opens glfw: only when a window is wanted

        self._data = data
        self._viewer: Any = mujoco.viewer.launch_passive(model, data)
        self._start_s = np.inf  # of the clock on the wall, where simulated time was 0

    def show(self) -> None:
        """Copy the state into the window, then wait until the clock has caught up with the simulation."""
        self._viewer.sync()
        ahead_s = self._start_s + self._data.time - time.monotonic()
        if 0.0 <= ahead_s < _LONGEST_WAIT_S:
            time.sleep(ahead_s)
        else:  # the first picture, a new episode, or a machine too slow for real time
            self._start_s = time.monotonic() - self._data.time

    def close(self) -> None:
        """Close the window."""
        self._viewer.close()


def _require_display() -> None:
    """Raise RuntimeError if no window can be opened; MuJoCo's viewer would end the whole process instead."""
    import glfw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glfw warns of what is raised below
        started = glfw.init()  # and never terminated: a camera may draw through it
    if not started:
        raise RuntimeError('No window can be opened: this machine has no display. Use render_mode="rgb_array".')


def open_view(model: mujoco.MjModel, data: mujoco.MjData, render_mode: str) -> View:
    """Open the view for a gymnasium render mode, "rgb_array" or "human"."""
    return WindowView(model, data) if render_mode == "human" else PictureView(model, data)

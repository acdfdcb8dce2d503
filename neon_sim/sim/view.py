"""What a person sees of the simulation: pictures from a following camera, or a live window."""

from typing import Any, Protocol

import mujoco
import numpy as np

from neon_sim.sensors.gl_renderer import GLRenderer, make_renderer

_PICTURE_HEIGHT, _PICTURE_WIDTH = 480, 640


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
    """`render_mode="human"`: MuJoCo's own passive viewer."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        import mujoco.viewer  # opens glfw: only when a window is wanted

        try:
            self._viewer: Any = mujoco.viewer.launch_passive(model, data)
        except RuntimeError as error:
            raise RuntimeError(f'No window could be opened ({error}). Use render_mode="rgb_array".') from error

    def show(self) -> None:
        """Copy the state into the window."""
        self._viewer.sync()

    def close(self) -> None:
        """Close the window."""
        self._viewer.close()


def open_view(model: mujoco.MjModel, data: mujoco.MjData, render_mode: str) -> View:
    """Open the view for a gymnasium render mode, "rgb_array" or "human"."""
    return WindowView(model, data) if render_mode == "human" else PictureView(model, data)

"""Segmentation: which thing each pixel belongs to, in few classes that stay the same in every episode of a scene."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import gymnasium
import mujoco
import numpy as np

from neon_sim.sensors.camera import Camera, CameraConfig

NOTHING, SCENE, ROBOT, FIRST_OBJECT = 0, 1, 2, 3  # classes; what belongs to the world itself is scene
MAX_CLASS: Final = 255


@dataclass(frozen=True)
class SegmentationConfig:
    """Settings of the segmentation camera."""

    view: CameraConfig = field(default_factory=CameraConfig)  # mount, size, rate; its `kind` is not read

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self.view.rate_hz

    @property
    def latency_s(self) -> float:
        """s from the instant a frame is taken to the computer."""
        return self.view.latency_s

    def space(self) -> gymnasium.spaces.Box:
        """(H, W, 1) uint8: the class of every pixel."""
        return gymnasium.spaces.Box(0, MAX_CLASS, (self.view.height, self.view.width, 1), np.uint8)

    def build(self, model: mujoco.MjModel) -> "SegmentationCamera":
        """Make the camera. Raises ValueError if the model has no camera of that name."""
        return SegmentationCamera(self, model)


def geom_classes(model: mujoco.MjModel, own_body: int) -> np.ndarray:
    """Class of every geom and, last, of none: (ngeom + 1,) uint8, so that geom id -1 finds its class too.

    own_body: any body of the robot. Every other tree of bodies is an object, numbered from 3 as the model lists them;
    from the 253rd on they share 255.
    """
    root = model.body_rootid
    own_root = int(root[own_body])
    objects = [body for body in range(1, model.nbody) if root[body] == body and body != own_root]
    of_body = np.full(model.nbody, SCENE)
    of_body[objects] = np.minimum(np.arange(len(objects)) + FIRST_OBJECT, MAX_CLASS)
    if own_root > 0:  # a camera on the world itself belongs to no robot
        of_body[own_root] = ROBOT
    return np.append(of_body[root[model.geom_bodyid]], NOTHING).astype(np.uint8)


class SegmentationCamera:
    """Takes pictures of classes. `classes` names them."""

    def __init__(self, config: SegmentationConfig, model: mujoco.MjModel) -> None:
        self.config, self._model = config, model
        self._camera = Camera(replace(config.view, kind="segmentation"), model)
        self._class_of_geom = geom_classes(model, int(model.cam_bodyid[self._camera.index]))

    @property
    def rate_hz(self) -> float:
        """Frames per second of simulated time."""
        return self.config.rate_hz

    @property
    def classes(self) -> dict[str, int]:
        """Name -> class: "nothing", "scene", "robot", and each object that can be seen by its body's name."""
        model, named = self._model, {"nothing": NOTHING, "scene": SCENE, "robot": ROBOT}
        for geom, number in enumerate(self._class_of_geom[:-1].tolist()):
            if number >= FIRST_OBJECT:
                named[model.body(int(model.body_rootid[model.geom_bodyid[geom]])).name] = number
        return named

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the camera's pose, if it varies."""
        self._camera.reset(rng)

    def capture(self, data: mujoco.MjData, time_s: float) -> np.ndarray:
        """Take the picture: (H, W, 1) uint8."""
        return np.take(self._class_of_geom, self._camera.capture(data, time_s), mode="wrap")[
            ..., None
        ]  # -1 is the last

    def geom_ids(self, data: mujoco.MjData) -> np.ndarray:
        """The picture in MuJoCo's geom ids, (H, W) int32, -1 where nothing is seen. It disturbs no frame."""
        return self._camera.capture(data, data.time)

    def get_state(self) -> dict[str, Any]:
        """What the camera drew."""
        return self._camera.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of `get_state`."""
        self._camera.set_state(state)

    def close(self) -> None:
        """Let go of the renderer. A later capture would start a new one."""
        self._camera.close()

"""Features: what a LeRobot data set says of each of its columns (`features` of meta/info.json)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.action_space import ControlMode, G1ActionSpace

VISUAL = ("video", "image")
_CHANNELS = (1, 3, 4)  # that a picture may have
# Columns that the format itself adds to every data set.
BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
_PALM = ("x", "y", "z", "qw", "qx", "qy", "qz")
_XYZ = ("x", "y", "z")
_COMMAND = ("vx", "vy", "yaw_rate", "height")


@dataclass(frozen=True)
class Feature:
    """One column. dtype: numpy's name, or "video", "image", "string". shape: of one step, (1,) for a number.

    names: one per entry of the last axis, or None. info: what the format says of videos, and of depth maps.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    info: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in info.json."""
        written: dict[str, Any] = {"dtype": self.dtype, "shape": list(self.shape)}
        written["names"] = None if self.names is None else list(self.names)
        return written if self.info is None else written | {"info": dict(self.info)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Feature":
        """From info.json. Names come as a list, as lists by group of motors, or not at all."""
        names = given.get("names")
        if isinstance(names, Mapping):
            names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
        flat = None if names is None else tuple(str(name) for name in names)
        return cls(str(given["dtype"]), tuple(int(n) for n in given["shape"]), flat, given.get("info"))

    @property
    def is_depth(self) -> bool:
        """Pictures of 16-bit distances."""
        return bool((self.info or {}).get("is_depth_map", False))


def video_size(feature: Feature) -> tuple[int, int]:
    """Height and width of a "video" or "image"; data sets write the channels first or last, and mostly say so."""
    first, last = feature.shape[0], feature.shape[-1]
    said = feature.names[0] if feature.names else None
    channels_first = first in _CHANNELS and last not in _CHANNELS if said is None else said.startswith("channel")
    return (feature.shape[1], feature.shape[2]) if channels_first else (feature.shape[0], feature.shape[1])


def bookkeeping_features() -> dict[str, Feature]:
    """The features of the format's own columns."""
    return {name: Feature(dtype, (1,)) for name, dtype in BOOKKEEPING.items()}


def features_of(columns: Mapping[str, np.ndarray], fps: int, use_videos: bool) -> dict[str, Feature]:
    """Describe columns (T, ...) as `neon_sim.data.lerobot.columns.to_columns` makes them, bookkeeping last."""
    features = {name: _feature_of(name, values, fps, use_videos) for name, values in columns.items()}
    return features | bookkeeping_features()


def _feature_of(name: str, values: np.ndarray, fps: int, use_videos: bool) -> Feature:
    shape = values.shape[1:] or (1,)
    axes = ("height", "width", "channels")
    if is_picture(name, values):
        return Feature("video", shape, axes, _video_info(shape, fps)) if use_videos else Feature("image", shape, axes)
    if is_gray(values):
        return Feature("image", shape, axes)
    if is_depth(name, values):
        return Feature("image", (*shape, 1), axes, {"is_depth_map": True, "depth_unit": "mm"})
    if values.dtype.kind == "U":
        return Feature("string", (1,))
    return Feature(values.dtype.name, shape, _entry_names(name, shape))


def is_picture(name: str, values: np.ndarray) -> bool:
    """(T, H, W, 3) uint8: a camera's colours."""
    return values.dtype == np.uint8 and values.ndim == 4 and values.shape[-1] == 3


def is_gray(values: np.ndarray) -> bool:
    """(T, H, W, 1) uint8: levels of depth, or classes."""
    return values.dtype == np.uint8 and values.ndim == 4 and values.shape[-1] == 1


def is_depth(name: str, values: np.ndarray) -> bool:
    """(T, H, W) m of a depth camera; told by its name, because other sensors give fields of numbers as well."""
    return values.dtype.kind == "f" and values.ndim == 3 and name.rpartition(".")[2].endswith("depth")


def _video_info(shape: tuple[int, ...], fps: int) -> dict[str, Any]:
    return {
        "video.height": shape[0],
        "video.width": shape[1],
        "video.channels": 3,
        "video.codec": "h264",
        "video.fps": fps,
        "video.is_depth_map": False,
        "has_audio": False,
    }


def _entry_names(name: str, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    known: dict[str, tuple[str, ...]] = {
        "observation.state": tuple(f"{j}.{part}" for part in ("pos", "vel", "torque") for j in joints.JOINT_NAMES),
        "observation.tracking_error": joints.JOINT_NAMES,
        "observation.gyro": _XYZ,
        "observation.gravity": _XYZ,
        "observation.velocity_command": _COMMAND[:3],
        "observation.command": _COMMAND,
        "observation.eef": tuple(f"{hand}.{part}" for hand in ("left", "right") for part in _PALM),
    }
    if name in ("action", "info.expert_action"):
        spaces = [G1ActionSpace(mode) for mode in ControlMode]
        known[name] = next((space.names for space in spaces if (space.dim,) == shape), ())
    names = known.get(name)
    return names if names is not None and shape == (len(names),) else None

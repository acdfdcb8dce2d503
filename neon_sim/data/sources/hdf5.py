"""Type "hdf5": ACT's files (one an episode) and robomimic's (many demonstrations in one).

| layout | read |
|---|---|
| ACT | /action (T, n), /observations/qpos (T, n) rad, /observations/images/CAMERA (T, H, W, 3) or padded JPEGs |
| robomimic | /data/demo_K: actions (T, 7), obs/robot0_eef_pos (T, 3) m, _eef_quat (T, 4) xyzw, obs/CAMERA_image |

ACT files say what their n columns are in the attribute "joint_names"; the option `names` says it where they do not.
They run at 50 Hz unless the attribute or the option "fps" says otherwise. A robomimic arm's path is followed by one of
the G1's arms (its actions are a controller's targets in the robot's base frame and say less than the path). With
`use_relative_actions`, the action column of either is seven relative steps.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from neon_sim.data.action_mapper import ActionMapper, MappingReport
from neon_sim.data.listed_episodes import ListedEpisodes, find_files, options_of, require
from neon_sim.data.mapped_episode import (
    DEFAULT_MODE,
    G1Motion,
    make_mapper,
    mapped_motion,
    motion_episode,
    small_pictures,
)
from neon_sim.data.relative_to_arms import ArmConfig, arm_motion, state_motion
from neon_sim.data.source import DataSourceConfig, EpisodeSource, Keys, is_wanted
from neon_sim.episode import NeonEpisode
from neon_sim.g1.geometry import quat_to_euler

try:
    import h5py
except ImportError as error:
    raise ImportError("HDF5 files need h5py. Install it: pip install 'neon-sim[data]'") from error

_ACT_RATE = 50.0  # Hz: the ACT recordings' step is 20 ms


@dataclass(frozen=True)
class Hdf5Options:
    """names, rename: see `ActionMapper`. camera: one of the file's; None is the first. instruction: where none is said.

    approach: "z" is how robosuite's grippers point.
    """

    control_mode: str = DEFAULT_MODE
    names: Sequence[str] | None = None
    rename: Mapping[str, str | None] = field(default_factory=dict)
    camera: str | None = None
    fps: float | None = None
    instruction: str = ""
    hand: str = "right"
    approach: str = "z"
    tolerance: float = 0.05  # m


@dataclass(frozen=True)
class Demo:
    """One episode: a file and the group in it ("/" in ACT's files)."""

    path: Path
    group: str

    def __str__(self) -> str:
        return f"{self.path}:{self.group}"


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a file or a folder of *.hdf5 files; options: see `Hdf5Options`.

    Raises FileNotFoundError if there are none, ValueError if no file has one of the layouts; among files that
    have, such a file is one bad episode.
    """
    options = options_of(config, Hdf5Options)
    paths = find_files(config, "*.hdf5")
    found = {path: _demos(path) for path in paths}
    if not any(found.values()):
        raise ValueError(_odd(paths[0]))
    demos = [demo for path in paths for demo in found[path] or [Demo(path, "/")]]
    measure, read = partial(_measure, options=options), partial(_read, config=config, options=options)
    first = next(demos[0] for demos in found.values() if demos)
    return ListedEpisodes(demos, measure, read, partial(_report, first, config, options))


def _demos(path: Path) -> list[Demo]:
    """Episodes of a file; none if it has another layout."""
    try:
        with h5py.File(path) as file:
            if "action" in file and "observations" in file:
                return [Demo(path, "/")]
            if "data" in file:
                names = sorted(file["data"], key=lambda name: (len(name), name))  # demo_2 before demo_10
                return [Demo(path, f"/data/{name}") for name in names]
            return []
    except OSError:
        return [Demo(path, "/")]  # one bad episode, which says so when it is asked for


def _odd(path: Path) -> str:
    with h5py.File(path) as file:
        return (
            f"{path} has the groups {sorted(file)}; ACT's files have 'action' and 'observations', robomimic's have "
            "'data' with demonstrations in it."
        )


def _report(demo: Demo, config: DataSourceConfig, options: Hdf5Options) -> MappingReport:
    if config.use_relative_actions or demo.group != "/":
        return _arm(options).report
    with h5py.File(demo.path) as file:
        return _mapper(file, options).report


def _arm(options: Hdf5Options) -> ArmConfig:
    return ArmConfig(options.hand, options.approach, options.tolerance)


def _mapper(file: Any, options: Hdf5Options) -> ActionMapper:
    names = options.names or [_text(name) for name in file.attrs.get("joint_names", ())]
    if not names:
        width = file["action"].shape[-1]
        raise ValueError(f"{file.filename} does not say what the {width} columns of 'action' are: give options names.")
    return make_mapper(names, options.rename, f"'action' of {file.filename}")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _rate(file: Any, options: Hdf5Options) -> float:
    if options.fps is not None:
        return options.fps
    if "fps" in file.attrs:
        return float(file.attrs["fps"])
    if "data" not in file:
        return _ACT_RATE
    said = json.loads(file["data"].attrs.get("env_args", "{}")).get("env_kwargs", {}).get("control_freq")
    if said is None:
        raise ValueError("env_args of 'data' has no control_freq: say options={'fps': ...}")
    return float(said)


def _measure(demo: Demo, options: Hdf5Options) -> tuple[int, float]:
    with h5py.File(demo.path) as file:
        group = file[demo.group]
        name = "action" if demo.group == "/" else "actions"
        steps = len(require(group, name, demo.path))
        return steps - _between(group), _rate(file, options)


def _between(group: Any) -> int:
    """1 where steps lie between recorded poses."""
    return int("obs" in group and "robot0_eef_pos" in group["obs"])


def _read(demo: Demo, keys: Keys, config: DataSourceConfig, options: Hdf5Options) -> NeonEpisode:
    with h5py.File(demo.path) as file:
        group, rate_hz = file[demo.group], _rate(file, options)
        is_act = demo.group == "/"
        actions = np.asarray(require(group, "action" if is_act else "actions", demo.path), np.float64)
        rest: dict[str, Any] = {"instruction": _words(file, group, options), "success": False}
        seen = _pictures(group, options, len(actions) - _between(group)) if is_wanted("camera", keys) else {}
        rest["observations"] = seen
        if config.use_relative_actions:
            actions = actions[: len(actions) - _between(group)]
            motion = arm_motion(actions, config.action_scaler, rate_hz, _arm(options), **rest)
        elif is_act:
            mapper = _mapper(file, options)
            state = np.asarray(require(group["observations"], "qpos", demo.path), np.float64)
            target, joint_pos, velocity = mapped_motion(actions, mapper, state, mapper)
            motion = G1Motion(target, joint_pos, rate_hz, velocity, **rest)
        else:
            motion = state_motion(_gripper_states(group, actions, demo), rate_hz, _arm(options), **rest)
    return motion_episode(motion, options.control_mode)


def _gripper_states(group: Any, actions: np.ndarray, demo: Demo) -> np.ndarray:
    """(T, 7); the gripper is the command's, from robosuite's [-1, 1] (1 closes) to [0, 1] (1 is open)."""
    seen = require(group, "obs", demo)
    pos = np.asarray(require(seen, "robot0_eef_pos", demo), np.float64)
    quat_xyzw = np.asarray(require(seen, "robot0_eef_quat", demo), np.float64)
    euler = quat_to_euler(np.roll(quat_xyzw, 1, axis=-1))
    return np.concatenate([pos, euler, 0.5 * (1.0 - actions[:, -1:])], axis=1)


def _pictures(group: Any, options: Hdf5Options, steps: int) -> dict[str, np.ndarray]:
    is_act = "observations" in group
    place = group["observations"].get("images", {}) if is_act else group.get("obs", {})
    cameras = [name for name in place if is_act or name.endswith("_image")]
    if not cameras and options.camera is None:
        return {}
    camera = options.camera or cameras[0]
    stored = require(place, camera, f"{group.file.filename}:{place.name if cameras else group.name}")
    if len(stored) < steps:
        raise ValueError(f"{camera!r} has {len(stored)} pictures for {steps} actions")
    if stored.ndim == 2:  # compressed, padded with zeros to one length
        pictures = [np.asarray(Image.open(io.BytesIO(row.tobytes())).convert("RGB")) for row in stored[:steps]]
        return {"camera": small_pictures(pictures)}
    return {"camera": small_pictures(stored[:steps])}


def _words(file: Any, group: Any, options: Hdf5Options) -> str:
    for place in (group, file):
        for name in ("language_instruction", "instruction"):
            if name in place.attrs:
                return _text(place.attrs[name])
    return options.instruction

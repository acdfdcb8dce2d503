"""Type "oxe": Open X-Embodiment data sets, RLDS episodes in TFRecord shards, without TensorFlow.

The layout read here is what TFDS writes: `*.tfrecord-00000-of-00001` files whose records are one tf.train.Example an
episode; a per-step field is flattened over the steps and called steps/NAME (steps/observation/state). Pictures are PNG
or JPEG bytes. The gripper's recorded path is followed (option `state`, by default steps/observation/state: x, y, z,
roll, pitch, yaw in the first six entries, the gripper in the last). With `use_relative_actions`, steps/action is seven
relative steps; with the option `names`, it is joint targets.

The files do not say how fast they were recorded, so the option `fps` has to. Nor do they say how long an episode is: a
record is read once to find out.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from neon_sim.data.action_mapper import MappingReport
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
from neon_sim.data.tf_example import Value, parse_example
from neon_sim.data.tfrecord import Record, list_records, read_record
from neon_sim.episode import NeonEpisode
from neon_sim.g1.geometry import quat_to_euler

_WORDS = ("language_instruction", "observation/natural_language_instruction", "observation/language_instruction")
_POSES = {"euler": 6, "quat_wxyz": 7, "quat_xyzw": 7}  # how a pose is written -> entries


@dataclass(frozen=True)
class OxeOptions:
    """fps: steps per second, which the data set's page says. action, state, camera: names of fields behind "steps/".

    pose: how the state's orientation is written. names, rename: where the action is joint targets.
    """

    fps: float
    control_mode: str = DEFAULT_MODE
    action: str = "action"
    state: str = "observation/state"
    pose: str = "euler"
    camera: str | None = None
    names: Sequence[str] | None = None
    rename: Mapping[str, str | None] = field(default_factory=dict)
    hand: str = "right"
    approach: str = "x"
    tolerance: float = 0.05  # m


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a data set's folder or one of its files; options: see `OxeOptions`, `fps` must be given.

    Raises FileNotFoundError if there is no shard, ValueError for a missing `fps`.
    """
    if "fps" not in config.options:
        raise ValueError(f"Data source {config.name!r}: RLDS files do not say their rate. Give options={{'fps': ...}}.")
    options = options_of(config, OxeOptions)
    if options.pose not in _POSES:
        raise ValueError(f"The option 'pose' is one of {sorted(_POSES)}, got {options.pose!r}.")
    records = [record for path in find_files(config, "*.tfrecord*") for record in _whole_records(path)]
    steps_between = options.names is None and not config.use_relative_actions
    measure = partial(_measure, options=options, between=steps_between)
    arm = ArmConfig(options.hand, options.approach, options.tolerance)
    read = partial(_read, config=config, options=options, arm=arm)
    return ListedEpisodes(records, measure, read, partial(_report, options, arm))


def _report(options: OxeOptions, arm: ArmConfig) -> MappingReport:
    return arm.report if options.names is None else make_mapper(options.names, options.rename).report


def _whole_records(path: Path) -> Iterator[Record]:
    """The records of a shard; what is cut off is one bad episode, which says so when it is asked for."""
    number = 0
    try:
        for record in list_records(path):
            number = record.number + 1
            yield record
    except ValueError:
        yield Record(path, number, 0, 0)


def _bytes(record: Record) -> bytes:
    if not record.offset:
        list(list_records(record.path))  # says what is wrong
    return read_record(record)


def _steps(features: Mapping[str, Value], record: Record) -> int:
    return len(require(features, "steps/is_first", record))


def _measure(record: Record, options: OxeOptions, between: bool) -> tuple[int, float]:
    return max(0, _steps(parse_example(_bytes(record)), record) - between), options.fps


def _read(record: Record, keys: Keys, config: DataSourceConfig, options: OxeOptions, arm: ArmConfig) -> NeonEpisode:
    features = parse_example(_bytes(record))
    steps = _steps(features, record)
    seen = _pictures(features, record, options, steps) if is_wanted("camera", keys) else {}
    rest: dict[str, Any] = {"instruction": _words(features), "observations": seen}
    if config.use_relative_actions:
        actions = _numbers(features, options.action, record, steps)
        motion = arm_motion(actions, config.action_scaler, options.fps, arm, **rest)
    elif options.names is not None:
        mapper = make_mapper(options.names, options.rename, str(record))
        actions = _numbers(features, options.action, record, steps)
        target, joint_pos, velocity = mapped_motion(actions, mapper, None, None)
        motion = G1Motion(target, joint_pos, options.fps, velocity, **rest)
    else:
        rest["observations"] = {name: values[:-1] for name, values in seen.items()}
        motion = state_motion(_gripper_states(features, record, options, steps), options.fps, arm, **rest)
    return motion_episode(motion, options.control_mode)


def _numbers(features: Mapping[str, Value], name: str, record: Record, steps: int) -> np.ndarray:
    """A per-step field as (T, n)."""
    values = require(features, f"steps/{name}", record)
    if not isinstance(values, np.ndarray) or not steps or len(values) % steps:
        raise ValueError(f"steps/{name} holds {len(values)} values for {steps} steps")
    return values.reshape(steps, -1).astype(np.float64)


def _gripper_states(features: Mapping[str, Value], record: Record, options: OxeOptions, steps: int) -> np.ndarray:
    found = _numbers(features, options.state, record, steps)
    width = _POSES[options.pose]
    if found.shape[1] < width:
        raise ValueError(f"steps/{options.state} has {found.shape[1]} entries, a pose as {options.pose!r} has {width}")
    turn = found[:, 3:width]
    if options.pose != "euler":
        turn = quat_to_euler(np.roll(turn, 1, axis=1) if options.pose == "quat_xyzw" else turn)
    gripper = found[:, -1:] if found.shape[1] > width else np.zeros((steps, 1))
    return np.concatenate([found[:, :3], turn, gripper], axis=1)


def _pictures(features: Mapping[str, Value], record: Record, options: OxeOptions, steps: int) -> dict[str, np.ndarray]:
    name = options.camera
    if name is None:
        images = sorted(key for key, value in features.items() if "image" in key and isinstance(value, list))
        if not images:
            return {}
        name = images[0].removeprefix("steps/")
    encoded = require(features, f"steps/{name}", record)
    if len(encoded) != steps:
        raise ValueError(f"steps/{name} holds {len(encoded)} pictures for {steps} steps")
    return {"camera": small_pictures([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded])}


def _words(features: Mapping[str, Value]) -> str:
    for name in _WORDS:
        values = features.get(f"steps/{name}")
        if isinstance(values, list) and values:
            return values[0].decode("utf-8", "replace")
    return ""

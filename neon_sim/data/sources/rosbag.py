"""Type "rosbag": ROS 2 bags in MCAP files, one an episode.

| topic | becomes |
|---|---|
| sensor_msgs/JointState whose topic says "command" or "target" | the action; without one, the next measured posture |
| sensor_msgs/JointState | the state, by the names in its messages |
| geometry_msgs/Twist | the commanded velocity |
| sensor_msgs/CompressedImage, sensor_msgs/Image (rgb8, bgr8) | the camera |
| std_msgs/String | the instruction (the first message) |

Topics that have messages are told by their type, and by the options where there are several. Time is the log's; joints
are interpolated on a 50 Hz grid over the whole recording, everything else keeps its last message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.data.listed_episodes import RATE_HZ, ListedEpisodes, find_files, options_of
from neon_sim.data.mapped_episode import DEFAULT_MODE, REST, G1Motion, make_mapper, motion_episode, small_pictures
from neon_sim.data.ros_messages import DECODERS, JointState, decode
from neon_sim.data.source import DataSourceConfig, EpisodeSource, Keys, is_wanted
from neon_sim.episode import NeonEpisode
from neon_sim.names import nearest

try:
    from mcap.exceptions import McapError
    from mcap.reader import make_reader
    from zstandard import ZstdError  # comes with mcap, which does not wrap it
except ImportError as error:
    raise ImportError("MCAP files need mcap. Install it: pip install 'neon-sim[data]'") from error

_JOINTS: Final = "sensor_msgs/msg/JointState"
_IMAGES: Final = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
_COMMANDS: Final = ("command", "target", "cmd", "action")  # parts of the topics that say what should be


@dataclass(frozen=True)
class BagOptions:
    """Topics, where their types leave a choice; rename: joint in the messages -> G1 name, None drops it."""

    control_mode: str = DEFAULT_MODE
    state: str | None = None
    action: str | None = None
    camera: str | None = None
    velocity: str | None = None
    words: str | None = None
    instruction: str = ""  # where no topic says one
    rename: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Topics:
    state: str
    action: str | None
    camera: str | None
    velocity: str | None
    words: str | None


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a file or a folder of *.mcap; options: see `BagOptions`. Raises FileNotFoundError if there are none."""
    options = options_of(config, BagOptions)
    return ListedEpisodes(find_files(config, "*.mcap"), _measure, partial(_read, options=options))


def _summary(reader: Any) -> Any:
    try:
        summary = reader.get_summary()
    except McapError as error:
        raise ValueError(f"no readable MCAP file: {type(error).__name__} {error}") from error
    if summary is None or summary.statistics is None:
        raise ValueError("the file has no summary: its recording was cut off. Repair it with `mcap recover`.")
    return summary


def _measure(path: Path) -> tuple[int, float]:
    with open(path, "rb") as file:
        return len(_grid(_summary(make_reader(file)))), RATE_HZ


def _grid(summary: Any) -> np.ndarray:
    """Times (T,) s from the first message to the last."""
    begin, end = summary.statistics.message_start_time * 1e-9, summary.statistics.message_end_time * 1e-9
    if not summary.statistics.message_count:
        return np.zeros(0)
    return begin + np.arange(int((end - begin) * RATE_HZ + 1e-6) + 1) / RATE_HZ


def _pick_topics(summary: Any, options: BagOptions) -> _Topics:
    kinds = {
        channel.topic: getattr(summary.schemas.get(channel.schema_id), "name", "")
        for channel in summary.channels.values()
        if summary.statistics.channel_message_counts.get(channel.id) and channel.message_encoding == "cdr"
    }
    for topic in (options.state, options.action, options.camera, options.velocity, options.words):
        if topic is not None and kinds.get(topic) not in DECODERS:
            raise nearest("topic", topic, [name for name, kind in kinds.items() if kind in DECODERS])
    of_joints = [topic for topic, kind in kinds.items() if kind == _JOINTS]
    told = [topic for topic in of_joints if any(part in topic for part in _COMMANDS)]
    felt = [topic for topic in of_joints if topic not in told and topic != options.action]
    state, action = options.state or _only(felt), options.action or _only(told)
    if state is None:
        raise ValueError(f"one topic of {_JOINTS} should say the state; the topics are {kinds}. Name it: options state")
    others = {
        name: given or _only([topic for topic, kind in kinds.items() if kind in wanted])
        for name, given, wanted in (
            ("camera", options.camera, _IMAGES),
            ("velocity", options.velocity, ("geometry_msgs/msg/Twist",)),
            ("words", options.words, ("std_msgs/msg/String",)),
        )
    }
    return _Topics(state, action, **others)


def _only(topics: list[str]) -> str | None:
    if len(topics) > 1:
        raise ValueError(f"{topics} are of one type: say in the options which one is meant")
    return topics[0] if topics else None


def _read(path: Path, keys: Keys, options: BagOptions) -> NeonEpisode:
    with open(path, "rb") as file:
        reader = make_reader(file)
        summary = _summary(reader)
        topics, grid = _pick_topics(summary, options), _grid(summary)
        if not is_wanted("camera", keys):
            topics = replace(topics, camera=None)
        wanted = [topic for topic in vars(topics).values() if topic is not None]
        logs: dict[str, list[tuple[float, Any]]] = {topic: [] for topic in wanted}
        try:
            for schema, channel, message in reader.iter_messages(topics=wanted):
                kind = schema.name if schema is not None else ""
                value = decode(kind, message.data)
                value = small_pictures([value])[0] if kind in _IMAGES else value
                logs[channel.topic].append((message.log_time * 1e-9, value))
        except (McapError, ZstdError) as error:
            raise ValueError(f"damaged MCAP file: {type(error).__name__} {error}") from error
    joint_pos = _on_grid(logs[topics.state], grid, options, topics.state)
    target = np.concatenate([joint_pos[1:], joint_pos[-1:]])
    if topics.action is not None:
        target = _on_grid(logs[topics.action], grid, options, topics.action)
    velocity = None if topics.velocity is None else _held(logs[topics.velocity], grid)
    seen = {} if topics.camera is None else {"camera": _held(logs[topics.camera], grid)}
    words = logs[topics.words][0][1] if topics.words and logs[topics.words] else options.instruction
    motion = G1Motion(target, joint_pos, RATE_HZ, velocity, instruction=words, observations=seen)
    return motion_episode(motion, options.control_mode)


def _on_grid(log: list[tuple[float, JointState]], grid: np.ndarray, options: BagOptions, topic: str) -> np.ndarray:
    """Joint angles (T, 29) rad at the grid's times, straight between messages."""
    if not log:
        raise ValueError(f"topic {topic!r} has no message")
    names = log[0][1].names
    for time_s, message in log:
        if message.names != names or len(message.position) != len(names):
            raise ValueError(f"{topic!r}: {len(message.position)} angles for {message.names} at {time_s:.3f} s")
    rename = {name: to for name, to in options.rename.items() if name in names}
    mapper = make_mapper(names, rename, f"topic {topic!r}")
    times, angles = np.array([time_s for time_s, _ in log]), np.stack([message.position for _, message in log])
    columns = [np.interp(grid, times, column) for column in angles.T]
    return mapper(np.stack(columns, axis=1), REST)[:, :29]


def _held(log: list[tuple[float, np.ndarray]], grid: np.ndarray) -> np.ndarray:
    """The last value before each time of the grid, the first one before there was any."""
    if not log:
        raise ValueError("a topic of the bag has no message: name another one in the options")
    times = np.array([time_s for time_s, _ in log])
    rows = np.clip(np.searchsorted(times, grid + 1e-9, side="right") - 1, 0, len(log) - 1)
    return np.stack([value for _, value in log])[rows]

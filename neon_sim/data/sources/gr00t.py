"""Type "gr00t": LeRobot folders with GR00T's meta/modality.json, which says what the slices of a column are.

    {"state": {"left_arm": {"start": 0, "end": 7}, ...}, "action": {...}, "video": {...}, "annotation": {...}}

A group whose columns have names of G1 joints is mapped by them; otherwise left_arm, right_arm, waist, left_leg and
right_leg of the right width are taken joint by joint, in the G1's order, or in the Fourier GR1's where info.json says
that the robot is one. Everything else (hands, neck) is dropped.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from neon_sim.data.action_mapper import ActionMapper
from neon_sim.data.foreign_lerobot import ForeignLeRobot, LeRobotLayout, LeRobotOptions, read_names
from neon_sim.data.lerobot.info import DatasetInfo, read_info
from neon_sim.data.listed_episodes import options_of, read_json, require
from neon_sim.data.source import DataSourceConfig, EpisodeSource
from neon_sim.g1 import joints

MODALITY: Final = "meta/modality.json"
_GROUPS: Final = ("left_leg", "right_leg", "waist", "left_arm", "right_arm")
_DEFAULT_KEY: Final = {"state": "observation.state", "action": "action"}
# The Fourier GR1's order within its groups, as the joints that the G1 has too.
_GR1_ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_yaw", "wrist_roll", "wrist_pitch")
_GR1_LEG = ("hip_roll", "hip_yaw", "hip_pitch", "knee", "ankle_pitch", "ankle_roll")
_GR1: Final = {
    "waist": ("waist_yaw", "waist_pitch", "waist_roll"),
    **{f"{side}_arm": tuple(f"{side}_{name}" for name in _GR1_ARM) for side in ("left", "right")},
    **{f"{side}_leg": tuple(f"{side}_{name}" for name in _GR1_LEG) for side in ("left", "right")},
}
_G1: Final = {group: tuple(joints.JOINT_NAMES[joint] for joint in joints.GROUPS[group]) for group in _GROUPS}


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a folder; options: see `LeRobotOptions`. Raises ValueError for slices that do not fit their columns."""
    return open_modality_folder(config)


def open_modality_folder(config: DataSourceConfig, trust_state: bool = True) -> ForeignLeRobot:
    """The same for any source that has such folders; trust_state=False leaves the state column unread."""
    folder = Path(config.path)
    info = read_info(folder)
    if not (folder / MODALITY).exists():
        raise FileNotFoundError(f"{folder} has no {MODALITY}. Open it with type='lerobot' if it is a LeRobot folder.")
    modality = read_json(folder / MODALITY)
    names, columns = {}, {}
    for kind in ("action", "state") if trust_state else ("action",):
        groups = require(modality, kind, folder / MODALITY)
        columns[kind] = tuple(dict.fromkeys(_key(kind, group) for group in groups.values()))
        for column in columns[kind]:
            names[column] = _names(column, kind, groups, info, folder)
    layout = LeRobotLayout(
        columns["action"], columns.get("state", ("observation.state",)), names, trust_state=trust_state
    )
    return ForeignLeRobot(config, options_of(config, LeRobotOptions), layout)


def _key(kind: str, group: Mapping[str, Any]) -> str:
    return str(group.get("original_key") or _DEFAULT_KEY[kind])


def _names(column: str, kind: str, groups: Mapping[str, Any], info: DatasetInfo, folder: Path) -> list[str]:
    """A name for each entry of a column: info.json's where it names a G1 joint, the group's joint, or group and number.

    Raises ValueError for a column that is not there or a slice that lies beyond it.
    """
    if column not in info.features:
        raise ValueError(f"{folder / MODALITY} names {column!r}, but meta/info.json has {sorted(info.features)}.")
    width = info.features[column].shape[-1]
    said = read_names(folder).get(column) or []
    if len(said) == width and len(set(said)) == width and ActionMapper(said).report.mapped:
        return said
    names = [f"{column}[{number}]" for number in range(width)]
    orders = _GR1 if (info.robot_type or "").lower().startswith("gr1") else _G1
    for group, place in groups.items():
        if _key(kind, place) != column:
            continue
        start, end = int(require(place, "start", folder / MODALITY)), int(require(place, "end", folder / MODALITY))
        if not 0 <= start < end <= width:
            raise ValueError(f"{folder / MODALITY}: {kind} {group!r} is {start} to {end}, {column!r} has {width}.")
        order = orders.get(group, ())
        if len(order) == end - start:
            names[start:end] = order
        else:
            names[start:end] = [f"{group}.{number}" for number in range(end - start)]
    return names

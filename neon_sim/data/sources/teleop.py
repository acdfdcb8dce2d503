"""Type "teleop": the G1 teleoperation stream at 20 Hz: 43 joints, both palms, LiDAR and audio where recorded.

The layout read here is a LeRobot folder with observation.state and action (or action.wbc) of 43 entries: left leg 6,
right leg 6, waist 3, left arm 7, left hand 7, right arm 7, right hand 7, in rad; observation.eef_state (14), both wrist
poses; and, where present, teleop.navigate_command (vx, vy, yaw rate). Hands have no place on the stock robot (D9). The
palms of an episode are those of its joints by kinematics, so that they mean the same in every source.
"""

from pathlib import Path
from typing import Final

from neon_sim.data.foreign_lerobot import ForeignLeRobot, LeRobotLayout, LeRobotOptions
from neon_sim.data.lerobot.info import read_info
from neon_sim.data.listed_episodes import options_of, require
from neon_sim.data.source import DataSourceConfig, EpisodeSource
from neon_sim.g1 import joints
from neon_sim.g1.action_space import VELOCITY_NAMES

RATE: Final = 20.0  # Hz, of the stream
EEF: Final = ("observation.eef_state", 14)
_COMMAND: Final = "teleop.navigate_command"
_HAND: Final = tuple(
    f"{finger}_{n}" for finger, count in (("thumb", 3), ("middle", 2), ("index", 2)) for n in range(count)
)
_ORDER: Final = ("left_leg", "right_leg", "waist", "left_arm", "left_hand", "right_arm", "right_hand")


def stream_names() -> list[str]:
    """The 43 names in the stream's order."""
    names: list[str] = []
    for group in _ORDER:
        if group.endswith("hand"):
            names += [f"{group}_{finger}" for finger in _HAND]
        else:
            names += [joints.JOINT_NAMES[joint] for joint in joints.GROUPS[group]]
    return names


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a folder; options: see `LeRobotOptions`.

    Raises ValueError for another rate, or columns of other widths, naming the column and what was found.
    """
    folder = Path(config.path)
    info = read_info(folder)
    if info.fps != RATE:
        raise ValueError(f"{folder}: a teleop stream has {RATE:g} Hz, found fps {info.fps:g}. Open it as 'lerobot'.")
    action = "action.wbc" if "action.wbc" in info.features else "action"
    names = stream_names()
    for column, width in ((action, len(names)), ("observation.state", len(names)), EEF):
        found = require(info.features, column, folder / "meta/info.json").shape
        if found != (width,):
            raise ValueError(f"{folder}: {column!r} of a teleop stream has {width} entries, found the shape {found}.")
    layout = LeRobotLayout(
        action=(action, _COMMAND),
        names={action: names, "observation.state": names, _COMMAND: VELOCITY_NAMES},
    )
    return ForeignLeRobot(config, options_of(config, LeRobotOptions), layout)

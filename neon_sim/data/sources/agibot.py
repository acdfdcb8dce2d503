"""Type "agibot": AgiBot World episodes as LeRobot folders.

The layout read here is the common conversion: actions.joint.position (14: left arm 1-7, right arm 1-7, rad; 16 with
both grippers behind), actions.effector.position, actions.head.position, actions.waist.position, and the same below
observation.states; or, where it has none of these, one `action` column with names, as type "lerobot" reads it.

An AgiBot arm has seven joints as the G1's has, but other links: its i-th joint goes to the G1's i-th. Head and waist
move along axes that the G1 has not (a neck, a lift), and are dropped.
"""

from pathlib import Path

from neon_sim.data.foreign_lerobot import ForeignLeRobot, LeRobotLayout, LeRobotOptions
from neon_sim.data.lerobot.info import read_info
from neon_sim.data.listed_episodes import options_of
from neon_sim.data.source import DataSourceConfig, EpisodeSource
from neon_sim.g1 import joints

_PARTS = ("joint", "effector", "head", "waist")
_ARMS = {
    f"{side}_arm_joint{number + 1}": joints.JOINT_NAMES[joint]
    for side in ("left", "right")
    for number, joint in enumerate(joints.GROUPS[f"{side}_arm"])
}


def _columns(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{part}.position" for part in _PARTS)


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a folder; options: see `LeRobotOptions`. Raises ValueError for arms that have not seven joints each."""
    options, info = options_of(config, LeRobotOptions), read_info(Path(config.path))
    actions, states = _columns("actions"), _columns("observation.states")
    if actions[0] not in info.features:
        return ForeignLeRobot(config, options)
    arms = (*_ARMS, "left_gripper", "right_gripper")
    names = {}
    for column in (actions[0], states[0]):
        if column not in info.features:
            continue
        width = info.features[column].shape[-1]
        if width not in (len(_ARMS), len(arms)):
            raise ValueError(f"{config.path}: {column!r} of an AgiBot has 14 or 16 entries, found {width}.")
        names[column] = arms[:width]
    return ForeignLeRobot(config, options, LeRobotLayout(actions, states, names, _ARMS))

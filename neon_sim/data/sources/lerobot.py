"""Type "lerobot": any LeRobot folder, v2.0 to v3.0: ours, another robot's joints, or a gripper's poses."""

from neon_sim.data.foreign_lerobot import ForeignLeRobot, LeRobotOptions
from neon_sim.data.listed_episodes import options_of
from neon_sim.data.source import DataSourceConfig, EpisodeSource


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a LeRobot folder; options: see `LeRobotOptions`. Raises what `ForeignLeRobot` raises."""
    return ForeignLeRobot(config, options_of(config, LeRobotOptions))

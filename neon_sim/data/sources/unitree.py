"""Type "unitree": LeRobot folders of the Unitree G1 with Unitree's names (kLeftShoulderPitch, ..., kLeftGripper).

The layout read here is a LeRobot folder whose `names` are Unitree's motor constants, a list in a list or flat. Hands
and grippers have no place on the stock robot and stand in the report as dropped (D9).
"""

from neon_sim.data.foreign_lerobot import ForeignLeRobot, LeRobotOptions, read_names
from neon_sim.data.listed_episodes import options_of
from neon_sim.data.source import DataSourceConfig, EpisodeSource


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a folder; options: see `LeRobotOptions`. Raises ValueError if its motors are not named Unitree's way."""
    source = ForeignLeRobot(config, options_of(config, LeRobotOptions))
    names = read_names(source.reader.folder).get("action", [])
    if not any(name.startswith(("kLeft", "kRight", "kWaist")) for name in names):
        raise ValueError(
            f"{source.reader.folder}: 'action' of a unitree source is named like kLeftShoulderPitch, found {names}. "
            "Open it with type='lerobot'."
        )
    return source

"""Data sources by type: a new one is one file with `open_source(config)` and one line here."""

import importlib
from typing import Final

from neon_sim.data.source import DataSourceConfig, EpisodeSource
from neon_sim.names import nearest

SOURCES: Final = {  # type -> module in this folder, imported when it is asked for
    "lerobot": "lerobot",
    "agibot": "agibot",
    "dreamgen": "dreamgen",
    "cosmos_dreamgen": "cosmos_dreamgen",
    "oxe": "oxe",
    "voice_commands": "voice_commands",
    "stereo4d": "stereo4d",
    "gr00t": "gr00t",
    "bones": "bones",
    "kimodo": "kimodo",
    "neon_sim": "neon_episodes",
    "unitree": "unitree",
    "rosbag": "rosbag",
    "hdf5": "hdf5",
    "teleop": "teleop",
}


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open a source.

    Raises:
        ValueError: no such type, or what lies at the path is not of that type.
        FileNotFoundError: nothing lies there.
        ImportError: its format needs an extra; the message carries the pip line.
    """
    if config.type not in SOURCES:
        raise nearest("data source type", config.type, SOURCES)
    module = importlib.import_module(f"neon_sim.data.sources.{SOURCES[config.type]}")
    source: EpisodeSource = module.open_source(config)
    return source

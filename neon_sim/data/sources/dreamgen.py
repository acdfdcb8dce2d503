"""Type "dreamgen": GR00T-Dreams episodes, videos that a world model made and actions that an IDM read off them.

The layout read here is what the inverse-dynamics step writes: a LeRobot folder with meta/modality.json, or a folder
with several of them below it. Nobody measured a state there (the column is a filler), so each action counts as reached
when the next is given.
"""

from dataclasses import replace
from pathlib import Path

from neon_sim.data.lerobot.info import INFO
from neon_sim.data.listed_episodes import JoinedEpisodes
from neon_sim.data.source import DataSourceConfig, EpisodeSource
from neon_sim.data.sources.gr00t import open_modality_folder


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """Open the folder or all folders below it; options: see `LeRobotOptions`.

    Raises FileNotFoundError if there is none.
    """
    folder = Path(config.path)
    folders = [folder] if (folder / INFO).exists() else sorted(path.parents[1] for path in folder.glob(f"*/**/{INFO}"))
    if not folders:
        raise FileNotFoundError(f"Data source {config.name!r}: no LeRobot folder in {folder}. Run the IDM step first.")
    return JoinedEpisodes([open_modality_folder(replace(config, path=str(one)), trust_state=False) for one in folders])

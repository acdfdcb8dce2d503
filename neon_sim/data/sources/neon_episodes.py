"""Type "neon_sim": what was recorded here, as a LeRobot folder or as a folder of `NeonEpisode.save`'s files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from neon_sim.data.listed_episodes import ListedEpisodes, options_of
from neon_sim.data.source import BadEpisodeError, DataSourceConfig, EpisodeSource, Keys
from neon_sim.episode import NeonEpisode

_LEROBOT_INFO: Final = "meta/info.json"


@dataclass(frozen=True)
class _NoOptions:
    """Our own episodes say everything themselves."""


def _measure(path: Path) -> tuple[int, float]:
    try:
        with np.load(path, allow_pickle=False) as stored:  # the smallest arrays: the others stay packed
            return len(stored["rewards"]), float(json.loads(str(stored["meta"]))["rate_hz"])
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise BadEpisodeError(f"{path} is not a readable episode: {error}.") from error


def _read(path: Path, keys: Keys) -> NeonEpisode:
    return NeonEpisode.load(path, keys)


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """The episodes below `config.path`, in the order of their names. Raises FileNotFoundError if there are none."""
    folder = Path(config.path)
    if (folder / _LEROBOT_INFO).exists():
        from neon_sim.data.sources.lerobot import open_source as open_lerobot  # needs the extra "data", .npz does not

        return open_lerobot(config)
    options_of(config, _NoOptions)
    paths = sorted(path for path in folder.glob("**/*.npz") if not path.name.startswith("."))
    if not paths:
        raise FileNotFoundError(f"Data source {config.name!r}: no episode (*.npz) in {folder}. Record some first.")
    return ListedEpisodes(paths, _measure, _read)

"""Type "neon_sim": a folder of episodes that `NeonEpisode.save` wrote, in the order of their names."""

from pathlib import Path

import numpy as np

from neon_sim.data.source import BadEpisodeError, DataSourceConfig, EpisodeSource
from neon_sim.episode import NeonEpisode


class NeonEpisodes:
    """One `.npz` file an episode."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._steps: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def steps(self, index: int) -> int:
        """Length of one episode, without unpacking it."""
        if index not in self._steps:
            self._steps[index] = self._read_length(index)
        return self._steps[index]

    def _read_length(self, index: int) -> int:
        try:
            with np.load(self.paths[index], allow_pickle=False) as stored:
                return len(stored["rewards"])  # the smallest array: the others stay packed
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise BadEpisodeError(f"{self.paths[index]} is not a readable episode: {error}.") from error

    def episode(self, index: int) -> NeonEpisode:
        """Read one file."""
        try:
            return NeonEpisode.load(self.paths[index])
        except ValueError as error:
            raise BadEpisodeError(str(error)) from error


def open_source(config: DataSourceConfig) -> EpisodeSource:
    """The episodes below `config.path`. Raises FileNotFoundError if there are none."""
    folder = Path(config.path)
    paths = sorted(path for path in folder.glob("**/*.npz") if not path.name.startswith("."))
    if not paths:
        raise FileNotFoundError(f"Data source {config.name!r}: no episode (*.npz) in {folder}. Record some first.")
    return NeonEpisodes(paths)

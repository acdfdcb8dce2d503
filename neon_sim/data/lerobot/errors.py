"""What is wrong with a data set, said with its file and its episode."""

import os

from neon_sim.data import source


class BadEpisodeError(source.BadEpisodeError):
    """One episode that cannot be used. file: where the trouble is. episode: its number. kind: the trouble in short."""

    def __init__(self, file: str | os.PathLike[str], episode: int, kind: str, detail: str) -> None:
        super().__init__(f"{os.fspath(file)}, episode {episode}: {kind}: {detail}")
        self.file, self.episode, self.kind = os.fspath(file), episode, kind

"""The shards that a data set was recorded in, one LeRobot folder each: what is there, and how they go."""

import os
import shutil
from pathlib import Path

from neon_sim.data.lerobot.episodes import EPISODES_V2
from neon_sim.data.lerobot.info import INFO, read_info
from neon_sim.data.lerobot.whole_file import whole_lines


def recorded_counts(folder: Path) -> dict[str, int]:
    """Episodes of each shard in a folder, told by their metadata."""
    return {str(path): len(whole_lines(path / EPISODES_V2)) for path in folder.glob("shard_*")}


def is_all_there(out: Path, episodes: int, version: str) -> bool:
    """Whether the data set that is asked for is there, and the shards that made it are gone: nothing is left to do.

    Raises ValueError where other episodes are there without their shards: a merge of new ones would replace them.
    """
    dataset = out.resolve() / "dataset"
    if not (dataset / INFO).exists():
        return False
    info = read_info(dataset)
    if info.total_episodes <= sum(recorded_counts(out.resolve() / "shards").values()):
        return False
    if (info.total_episodes, info.version) == (episodes, version):
        return True
    raise ValueError(
        f"{dataset} holds {info.total_episodes} episodes ({info.version}) and the shards that made them are gone, so "
        f"{episodes} ({version}) would be recorded anew and replace them. Choose another --out."
    )


def discard(folder: Path) -> None:
    """Remove the shards. They lose their name first: half of them, after a kill, would pass for all that there was."""
    gone = folder.with_name(f".{folder.name}.discarded")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        os.replace(folder, gone)
        shutil.rmtree(gone)

"""One policy for all tasks that need no walking: which they are, and where their recordings lie."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from neon_sim.data.data_soup import DataSoupConfig
from neon_sim.data.source import DataSourceConfig
from neon_sim.names import nearest

# In every one of them the expert commands arms and velocity alone (look_at turns on the spot), so that one arms_only
# policy can do what all the experts do; the walker has legs and waist.
STANDING: Final = ("reach", "track", "press", "lift_box", "wave", "look_at", "follow_voice", "stand")
_STAY: Final = "stand upright"  # what every other task's policy must not do


def other_words(task: str) -> str:
    """Words of training that ask for something else than `task`: to stand there, or, where that is the task, to act."""
    return "raise both hands" if task == "stand" else _STAY


def standing_soup(folder: str, tasks: Sequence[str] = STANDING) -> DataSoupConfig:
    """Equal shares of what `agents/collect.py --task standing` wrote to a folder: FOLDER/TASK/dataset for each task.

    Raises ValueError for a task that needs walking or does not exist, naming the nearest of `STANDING`.
    """
    for task in tasks:
        if task not in STANDING:
            raise nearest("task without walking", task, STANDING)
    sources = [DataSourceConfig(task, "neon_sim", str(Path(folder) / task / "dataset")) for task in tasks]
    return DataSoupConfig(sources, visit=8, memory_mb=4096.0)

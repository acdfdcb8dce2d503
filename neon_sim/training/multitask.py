"""One policy for all tasks that need no walking: which they are, and where their recordings lie."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.data.source import DataSourceConfig
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.names import nearest
from neon_sim.training.train_config import TrainConfig
from neon_sim.training.train_parts import window_config

# In every one of them the expert commands arms and velocity alone (look_at turns on the spot), so that one arms_only
# policy can do what all the experts do; the walker has legs and waist.
STANDING: Final = ("reach", "track", "press", "lift_box", "wave", "look_at", "follow_voice", "stand")


def share_of_steps(config: TrainConfig, whole: TrainConfig, processes: int = 1) -> int | None:
    """Optimiser steps for some tasks of a mixture: each is trained as long as it is in the training on all of them.

    config, whole: of the training on some and of that on all. None where there is nothing to share: it is all of them,
    or the recordings of one are not there.
    """
    assert config.data is not None and whole.data is not None
    some, tasks = len(config.data.sources), len(whole.data.sources)
    if some == tasks:
        return None
    try:
        samples = len(DataSoup(whole.data, G1ActionSpace(whole.model.control_mode), window_config(whole)))
    except FileNotFoundError:
        return None
    steps = -(-config.epochs * samples // (whole.batch_size * whole.gradient_accumulation * processes))
    return max(1, round(steps * some / tasks))


def standing_soup(folder: str, tasks: Sequence[str] = STANDING) -> DataSoupConfig:
    """Equal shares of what `agents/collect.py --task standing` wrote to a folder: FOLDER/TASK/dataset for each task.

    Raises ValueError for a task that needs walking or does not exist, naming the nearest of `STANDING`.
    """
    for task in tasks:
        if task not in STANDING:
            raise nearest("task without walking", task, STANDING)
    sources = [DataSourceConfig(task, "neon_sim", str(Path(folder) / task / "dataset")) for task in tasks]
    return DataSoupConfig(sources, visit=1)

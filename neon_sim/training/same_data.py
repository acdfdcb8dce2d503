"""A run goes on with the data that it was begun with: with others, every sample after it would be another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neon_sim.data.data_stamp import DataStamp, stamp_of
from neon_sim.training.train_config import TrainConfig

_MOVES = "Put them back to go on (--skip-bad leaves out what cannot be read), or train in another folder."


def stamps_of(config: TrainConfig) -> dict[str, DataStamp]:
    """What lies at the path of each source, by its name."""
    assert config.data is not None
    return {source.name: stamp_of(Path(source.path), config.folder) for source in config.data.sources}


def require_same_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError if a run would go on with other data than it was begun with.

    before, now: "data", `DataSoup.counts`, and "files", `DataStamp.told` by source; older states lack one or both.
    With other numbers other episodes would be held back; the files are told by names, sizes and a few of their bytes,
    so that a copy of the same ones will do.
    """
    for part, compare in (("data", _require_counts), ("files", _require_files)):
        if part in before:
            for name in sorted(before[part].keys() | now[part].keys()):
                compare(name, before[part].get(name, {}), now[part].get(name, {}))


def _require_counts(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    sizes = [
        f"{counts.get('episodes', 0):g} episodes ({counts.get('samples', 0):g} samples)" for counts in (before, now)
    ]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"The data of {name!r} have changed since this run began: {sizes[0]} to learn from then, {sizes[1]} now. "
            f"{_MOVES}"
        )


def _require_files(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if before != now:
        sizes = [f"{files.get('files', 0)} files ({files.get('size', 0)} bytes)" for files in (before, now)]
        other = "as many with other names or contents" if sizes[0] == sizes[1] else sizes[1]
        raise ValueError(
            f"The files of {name!r} have changed since this run began: {sizes[0]} then, {other} now. Were they "
            f"recorded anew? {_MOVES}"
        )

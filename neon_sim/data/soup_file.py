"""A data soup as a JSON file: what is mixed in one run, written down once and given to any script.

    {"sources": [
        {"name": "reach", "type": "neon_sim", "path": "runs/data/reach/dataset", "weight": 2.0},
        {"name": "bridge", "type": "oxe", "path": "data/bridge", "options": {"fps": 5.0}}],
     "validation_share": 0.05, "skip_bad": true}

The keys are the fields of `DataSoupConfig` and, in "sources", of `DataSourceConfig`.
"""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from neon_sim.data.data_soup import DataSoupConfig
from neon_sim.data.listed_episodes import read_json
from neon_sim.data.source import DataSourceConfig
from neon_sim.names import nearest


def read_soup(path: str | os.PathLike[str]) -> DataSoupConfig:
    """Read a soup; relative paths in it are relative to the working directory, as on a command line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a JSON object, an unknown key (naming the nearest), or a value that makes no sense.
    """
    where = os.fspath(path)
    if not Path(where).is_file():
        raise FileNotFoundError(f"There is no soup file {where}.")
    given = dict(read_json(where))
    sources = given.pop("sources", None)
    if not isinstance(sources, list) or not all(isinstance(one, dict) for one in sources):
        raise ValueError(f'{where} should have "sources", a list of objects with name, type and path.')
    _require_known(given, DataSoupConfig, where)
    return DataSoupConfig([_source(one, where) for one in sources], **given)


def read_options(text: str) -> dict[str, Any]:
    """Options of a data source from a JSON object, such as '{"fps": 5.0}'. Raises ValueError for anything else."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ValueError(f"Source options should be a JSON object, and {text!r} is not JSON: {error}.") from error
    if not isinstance(given, dict):
        raise ValueError(f"Source options should be a JSON object, such as '{{\"fps\": 5.0}}', got {text!r}.")
    return given


def add_relative_flag(parser: argparse.ArgumentParser) -> None:
    """Add --relative-actions, which whatever reads a data set of another robot's understands alike."""
    told = "its actions are seven relative steps of a gripper (DataSourceConfig.use_relative_actions)"
    parser.add_argument("--relative-actions", action="store_true", help=told)


def _source(given: Mapping[str, Any], where: str) -> DataSourceConfig:
    _require_known(given, DataSourceConfig, where)
    missing = [name for name in ("name", "type", "path") if name not in given]
    if missing:
        raise ValueError(f"{where}: a source wants name, type and path; {', '.join(missing)} missing in {dict(given)}.")
    return DataSourceConfig(**given)


def _require_known(given: Mapping[str, Any], kind: type, where: str) -> None:
    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            raise nearest(f"key of {kind.__name__} in {where}", name, known)

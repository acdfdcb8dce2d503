"""Finished parts of a long benchmark: each is kept with its settings, and with the day and commit of its making."""

import datetime
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from report import replace_file


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back; what it does not know is written as `str` has it."""
    copied: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return copied


def make_or_read(path: Path, settings: Mapping[str, Any], begun_at: str, make: Callable[[], Any]) -> dict[str, Any]:
    """A part that an earlier run kept, or the one that `make` makes now, which is kept.

    Args:
        path: where it lies, a JSON file.
        settings: all that its figures depend on.
        begun_at: commit that is measured.
        make: gives what JSON can hold.

    Returns:
        settings, date (ISO), commit and made.

    Raises:
        ValueError: what is kept was made with other settings.
    """
    if not path.exists():
        part = {"settings": plain(settings), "date": datetime.date.today().isoformat(), "commit": begun_at}
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(part | {"made": make()}) + "\n")
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if kept["settings"] != plain(settings):
        raise ValueError(f"{path} was made with other settings than this run's. Choose another folder, or delete it.")
    return kept


def provenance(parts: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """The newest day and all commits of some parts, for a report; a run that only reads them makes them no younger."""
    found = list(parts)
    return max(part["date"] for part in found), ", ".join(sorted({part["commit"] for part in found}))

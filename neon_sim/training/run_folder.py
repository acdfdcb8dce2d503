"""A run's folder belongs to one set of settings: what was made with others is not taken up by mistake."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARKER = "settings.json"
_ANOTHER = "Choose another --out (--output of scripts/train_neon.py)."


def check_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Look whether a folder can be taken for a run, and write nothing.

    Raises:
        ValueError: it holds a run with other settings, or things that no run of ours left there, or is no folder.
    """
    _require_no_file(folder)
    marker = folder / MARKER
    if marker.exists():
        if marker.read_text() != _text(settings):
            raise ValueError(f"{folder} was begun with other settings: {marker.read_text()}{_ANOTHER}")
    elif folder.exists() and any(entry != _partial(folder) for entry in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run of this script. {_ANOTHER}")


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Take a folder for a run, new or to go on with. Raises as `check_folder`."""
    check_folder(folder, settings)
    if not (folder / MARKER).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _partial(folder).write_text(_text(settings))
        _partial(folder).replace(folder / MARKER)


def begin_folder(folder: Path, resume: bool, settings: str) -> None:
    """Start afresh in a folder, or go on with a run of the same settings. Only what a run left there is ever cleared.

    Raises:
        ValueError: there is nothing to go on with, it was begun with other settings, or no run of ours made the folder.
    """
    _require_no_file(folder)
    marker = folder / MARKER
    if resume:
        if not marker.exists():
            raise ValueError(f"{folder} holds no run to resume. Start one without --resume.")
        if marker.read_text() != settings:
            raise ValueError(f"{folder} was begun with other settings. Use the same flags, or start without --resume.")
        return
    if folder.exists() and any(folder.iterdir()):
        if not marker.exists():
            raise ValueError(f"{folder} is not empty and holds no earlier run of this script. Choose another --out.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(settings)


def _require_no_file(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file, and runs have folders. {_ANOTHER}")


def _text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2, sort_keys=True, default=str) + "\n"


def _partial(folder: Path) -> Path:
    """Left alone in the folder by who was killed while claiming it."""
    return folder / (MARKER + ".partial")

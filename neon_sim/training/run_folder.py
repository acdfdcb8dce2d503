"""A run's folder belongs to one set of settings: what was made with others is not taken up by mistake."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARKER = "settings.json"
_ANOTHER = "Choose another --out (--output of scripts/train_neon.py)."


def check_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Look whether a folder can be taken for a run, and write nothing.

    Raises:
        ValueError: it holds a run with other settings, or things that no run of ours left there.
    """
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


def _text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2, sort_keys=True, default=str) + "\n"


def _partial(folder: Path) -> Path:
    """Left alone in the folder by who was killed while claiming it."""
    return folder / (MARKER + ".partial")

"""A run's folder belongs to one set of settings: what was made with others is not taken up by mistake."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARKER = "settings.json"
_ANOTHER = "Choose another --out (--output of scripts/train_neon.py)."


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Take a folder for a run, new or to go on with.

    Raises:
        ValueError: it holds a run with other settings, or things that no run of ours left there.
    """
    text = json.dumps(settings, indent=2, sort_keys=True, default=str) + "\n"
    marker = folder / MARKER
    if marker.exists():
        if marker.read_text() != text:
            raise ValueError(f"{folder} was begun with other settings: {marker.read_text()}{_ANOTHER}")
        return
    partial = marker.with_name(MARKER + ".partial")  # left alone in the folder by who was killed right here
    if folder.exists() and any(entry != partial for entry in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run of this script. {_ANOTHER}")
    folder.mkdir(parents=True, exist_ok=True)
    partial.write_text(text)
    partial.replace(marker)

"""What the parts of a long run came to: a JSON file each, with its day and commit, read again where the run goes on."""

import datetime
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

_OWN: Final = ("date", "commit")


def kept(path: Path, work: Callable[[], Mapping[str, Any]], commit: str) -> dict[str, Any]:
    """The outcome that `path` holds; where there is no file yet, what `work` returns, written there in one move.

    Args:
        path: a JSON file; its folder is made.
        work: plain numbers, strings, lists and dicts; called only where there is no file.
        commit: of the code that is running now.
    """
    if not path.exists():
        found = {"date": datetime.date.today().isoformat(), "commit": commit, **work()}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(found) + "\n", encoding="utf-8")
        partial.replace(path)
    read = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in read.items() if name not in _OWN}


def made_when(paths: Iterable[Path]) -> dict[str, str]:
    """{"date": day of the newest of these outcomes, ISO; "commit": the commits that they are of, comma between}.

    A later run, which only reads them, makes them neither younger nor its own.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    commits = dict.fromkeys(one["commit"] for one in sorted(found, key=lambda one: one["date"]))
    return {"date": max(one["date"] for one in found), "commit": ", ".join(commits)}

"""Outcomes are made once, and stay as old as they are."""

import datetime
import json
from pathlib import Path

import pytest

from neon_sim.eval.outcomes import kept, made_when


def test_an_outcome_is_made_once_and_keeps_its_day_and_commit(tmp_path: Path) -> None:
    path = tmp_path / "trials" / "one.json"
    assert kept(path, lambda: {"loss": 0.5}, "abc") == {"loss": 0.5}
    assert kept(path, lambda: {"loss": 9.0}, "def") == {"loss": 0.5}
    assert made_when([path]) == {"date": datetime.date.today().isoformat(), "commit": "abc"}


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        kept(tmp_path / "one.json", lambda: {"loss": 1 / 0}, "abc")
    assert list(tmp_path.iterdir()) == []


def test_several_are_as_young_as_the_newest_and_name_each_commit_once(tmp_path: Path) -> None:
    days = {"a": ("2026-11-03", "new"), "b": ("2026-11-02", "old"), "c": ("2026-11-03", "new")}
    for name, (date, commit) in days.items():
        (tmp_path / name).write_text(json.dumps({"date": date, "commit": commit}))
    assert made_when(tmp_path / name for name in days) == {"date": "2026-11-03", "commit": "old, new"}

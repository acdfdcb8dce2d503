"""benchmarks/heavy_heads.py and shards.py: heads trained once and looked at; parts that know where they are from."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
import heavy_heads
import report
import shards

from neon_sim.model.neon_vla import NeonVLA

SIZES = heavy_heads.Sizes(2, {"draft": 3, "flow": 3, "dit": 3}, judged=1, least=0.8)


def test_a_part_keeps_its_settings_day_and_commit(tmp_path: Path) -> None:
    path, settings = tmp_path / "parts" / "a.json", {"tolerance": 0.1, "seeds": (1, 2)}
    first = shards.make_or_read(path, settings, "abc", lambda: [1, 2])
    again = shards.make_or_read(path, settings, "def", lambda: pytest.fail("made twice"))
    assert first == again and first["made"] == [1, 2] and first["settings"]["seeds"] == [1, 2]
    with pytest.raises(ValueError, match=r"a.json was made with other settings"):
        shards.make_or_read(path, settings | {"tolerance": 0.2}, "abc", lambda: [])
    old = {"date": "2026-01-02", "commit": "def"}
    assert shards.provenance([old, {"date": "2026-01-01", "commit": "abc"}]) == ("2026-01-02", "abc, def")


def test_heads_are_trained_once_and_must_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy_heads, "ENV", {**heavy_heads.ENV, "max_steps": 24})

    def prepare(names: tuple[str, ...], go_on: bool) -> dict[str, dict[str, Any]]:
        return heavy_heads.prepare(tmp_path / "heads", names, SIZES, 1, go_on)

    with pytest.raises(ValueError, match=r"draft reached less than 80 % of the nominal.*--weak-heads"):
        prepare(("draft",), False)
    draft = tmp_path / "heads" / "draft" / "training.json"
    written = draft.stat().st_mtime_ns
    found = prepare(("draft", "flow"), True)
    assert draft.stat().st_mtime_ns == written and set(found) == {"draft", "flow"}
    assert found["draft"]["made"]["held_back_mse"] > 0.0 and found["flow"]["settings"]["training"]["updates"] == 3
    assert found["draft"]["nominal"]["settings"]["seeds"] == [100] and found["draft"]["nominal"]["made"] == [False]
    assert NeonVLA.from_pretrained(tmp_path / "heads" / "flow").action_head.samples
    longer = heavy_heads.Sizes(2, {"draft": 4}, judged=1)
    with pytest.raises(ValueError, match="training.json was made with other settings"):
        heavy_heads.prepare(tmp_path / "heads", ("draft",), longer, 1, True)
    with pytest.raises(ValueError, match="begun with other settings"):
        heavy_heads.prepare(tmp_path / "heads", ("draft",), heavy_heads.Sizes(3), 1, True)


def test_a_report_is_as_old_as_its_parts(tmp_path: Path) -> None:
    (tmp_path / "RESULTS.md").write_text("# Results\n")
    parts = [{"date": "2026-01-02", "commit": "def"}, {"date": "2026-01-01", "commit": "abc"}]
    date, commits = shards.provenance(parts)
    path = report.write_report("heads", {}, ["a"], [["1"]], date, tmp_path, measured_at=commits)
    written = json.loads(path.read_text())
    assert (written["date"], written["commit"]) == ("2026-01-02", "abc, def")
    assert "2026-01-02, commit abc, def," in (tmp_path / "RESULTS.md").read_text()

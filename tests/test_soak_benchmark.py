"""The soak's benchmark: rows by hand, and a folder in which all is done is not soaked again."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from neon_sim.cells import TASKS
from neon_sim.g1.action_space import ControlMode

ROOT = Path(__file__).resolve().parents[1]


def _benchmark(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """benchmarks/soak.py as names, not run."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "soak.py"), run_name="benchmark"))


def _write(folder: Path, task: str, mode: str, end_mb: float = 204.0) -> None:
    record = {"task": task, "mode": mode, "steps": 7, "episodes": 2, "diverged": 1, "warm_mb": 200.0, "end_mb": end_mb}
    (folder / f"{task}-{mode}.json").write_text(json.dumps({**record, "cpu_s": 0.5}))


def test_rows_add_up_and_show_the_world_that_grew_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task, mode, end_mb in (
        ("reach", "arms_only", 201.0),
        ("reach", "whole_body", 206.0),
        ("stand", "arms_only", 200.0),
    ):
        _write(tmp_path, task, mode, end_mb)
    script = _benchmark(monkeypatch)
    assert script.rows_of(script.read(tmp_path)) == [
        ["stand", "7", "2", "1", "200 to 200 at worst"],
        ["reach", "14", "4", "2", "200 to 206 at worst"],
        ["all", "21", "6", "3", "200 to 206 at worst"],
    ]


def test_what_is_done_is_not_soaked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for task in TASKS:
        for mode in ControlMode:
            _write(tmp_path, task, str(mode))
    steps = 7 * len(TASKS) * len(ControlMode)
    monkeypatch.setattr(sys, "argv", ["soak.py", "--steps", str(steps), "--workers", "1", "--out", str(tmp_path)])
    before = (ROOT / "RESULTS.md").read_bytes()
    _benchmark(monkeypatch).main()
    said = capfd.readouterr().out
    assert "33 skipped" in said and f"| all | {steps} | 66 | 33 | 200 to 204 at worst |" in said
    assert "not for this trial" in said and (ROOT / "RESULTS.md").read_bytes() == before


def test_worlds_that_have_left_nothing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = _benchmark(monkeypatch)
    assert len(script.lacking(script.read(tmp_path))) == 33
    for task in TASKS:
        for mode in ("arms_only", "whole_body"):
            _write(tmp_path, task, mode)
    assert script.lacking(script.read(tmp_path)) == [f"{task} in upper_body" for task in TASKS]

"""What trained world models know, in RESULTS.md: rows by hand, other tasks' rows stay, nothing is written by halves."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import world_models as benchmark
from report import ROOT

PROBES = {"palms": {"r2": 0.914}, "joint_vel": {"r2": 0.364}, "tilt": {"r2": 0.99}, "ball_left": {"r2": None}}


def _report(task: str = "reach", **other: Any) -> dict[str, Any]:
    violated = {"pairs": 40, "normal": 2.0, "violated": 6.0, "effect_size": 0.5, "p_value": 0.0001}
    unseen = {"pairs": 1, "normal": None, "violated": None, "effect_size": None, "p_value": None}
    return {
        "task": task,
        "rollout": {"model": [0.012, 0, 0, 0, 0.0572], "no_change": [0.158, 0, 0, 0, 0.931]},
        "probes": {"with proprio": {"mlp": PROBES | {"ball_ahead": {"r2": 0.318}}}},
        "reset_probe": {"r2_ball_left": 0.51},
        "expectation": {
            "teleported": violated,
            "vanished": unseen,
            "recoloured": violated | {"pairs": 38, "p_value": 0.02, "violated": 5.0},
        },
        "ranks": {"plans": 64, "problems": 18, "undefined": 2, "median": 0.753, "quartiles": [0.728, 0.845]},
        "base_pose": "Of the base pose, the tilt is probed.",
        "run": {"training": {"size": "xs", "patch_size": 16, "grid": 4}},
        "parameters": {"total": 1_711_680},
        "provenance": {
            "date": "2026-01-02", "commit": "abc1234", "seed": 5, "command": "python agents/train_world_model.py",
            "data": {"moments": 70150}, "hours": {"training": 0.5, "report": 0.25},
            "machine": {"gpu": None, "cpu": "A CPU", "cores": 2},
        },
    } | other  # fmt: skip


def _folder(path: Path, report: dict[str, Any]) -> Path:
    path.mkdir(parents=True)
    (path / "report.json").write_text(json.dumps(report))
    (path / "report.png").write_bytes(b"picture of " + report["task"].encode())
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "RESULTS.md").write_text(
        "# Results\n\n## Known\n<!-- world_models:begin -->\nold\n<!-- world_models:end -->\n"
    )
    return tmp_path


def _run(monkeypatch: pytest.MonkeyPatch, root: Path, *flags: object) -> None:
    monkeypatch.setattr(sys, "argv", ["world_models.py", "--root", str(root), *map(str, flags)])
    benchmark.main()


def test_a_row_by_hand() -> None:
    row = dict(zip(benchmark.HEADER, benchmark.row_of(_report()), strict=True))
    assert row == {
        "task": "reach",
        "model": "xs, 1.71 M, 16 px, 4 x 4 places",
        "moments": "70150",
        "0.1 s ahead": "0.012 / 0.16",
        "0.5 s ahead": "0.057 / 0.93",
        "palms": "0.91",
        "joint velocities": "0.36",
        "tilt": "0.99",
        "objects, all moments": "ball left -, ball ahead 0.32",
        "objects, first moment": "ball left 0.51",
        "moved / gone / painted, x": "3.0 / - / 2.5 (p 0.02, 38 to 40 episodes)",
        "order of plans": "0.75 [0.73, 0.84], 18 problems, 2 more undefined, 64 plans each",
    }
    assert benchmark.source_of(_report()) == (
        "reach: 2026-01-02, commit abc1234, A CPU, 2 cores, 0.75 h, seed 5, `python agents/train_world_model.py`; "
        "`benchmarks/results/world_model_reach.json`, [picture](docs/world_model_reach.png)"
    )


def test_what_was_not_measured_is_said() -> None:
    report = _report(ranks=None, run={"training": {"size": "xs", "patch_size": None}}, reset_probe={})
    del report["probes"]["with proprio"]["mlp"]["tilt"]
    report["expectation"] = dict.fromkeys(report["expectation"], report["expectation"]["vanished"])
    row = dict(zip(benchmark.HEADER, benchmark.row_of(report), strict=True))
    assert row["order of plans"] == "not measured" and row["tilt"] == "" and row["objects, first moment"] == ""
    assert row["model"] == "xs, 1.71 M, 8 px, class token" and row["moved / gone / painted, x"] == "not shown twice"


def test_reports_pictures_and_section_are_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in ("push_box", "navigate"):
        _folder(root / "runs" / f"world_model_{task}", _report(task))
    _run(monkeypatch, root)  # those that there are
    assert (root / "docs" / "world_model_navigate.png").read_bytes() == b"picture of navigate"
    assert json.loads((root / "benchmarks" / "results" / "world_model_push_box.json").read_text()) == _report(
        "push_box"
    )
    page = (root / "RESULTS.md").read_text()
    assert "old" not in page and page.index("| navigate |") < page.index("| push_box |")  # the usual order
    assert page.count("Of the base pose, the tilt is probed.") == 1
    newer = _folder(root / "elsewhere", _report("push_box", parameters={"total": 2_000_000}))
    _run(monkeypatch, root, "--models", newer)
    page = (root / "RESULTS.md").read_text()
    assert "| push_box | xs, 2.00 M" in page and "| navigate | xs, 1.71 M" in page  # the other's row stays
    _run(monkeypatch, root, "--models", root / "runs" / "world_model_push_box", "--print-only")
    assert (root / "RESULTS.md").read_text() == page


def test_what_is_no_report_is_refused_before_anything_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (root / "RESULTS.md").read_text()
    with pytest.raises(SystemExit, match=r"No report in .*--models FOLDER"):
        _run(monkeypatch, root)
    good = _folder(root / "good", _report())
    (root / "good" / "world_model").mkdir()
    with pytest.raises(SystemExit, match=r"has no report.json. Give the --out"):
        _run(monkeypatch, root, "--models", good, root / "good" / "world_model")
    again = _folder(root / "again", _report())
    with pytest.raises(SystemExit, match="are both of reach"):
        _run(monkeypatch, root, "--models", good, again)
    with pytest.raises(SystemExit, match="is of task 'dance'"):
        _run(monkeypatch, root, "--models", _folder(root / "other", _report("dance")))
    (root / "RESULTS.md").write_text("<!-- world_models:begin -->\n")
    with pytest.raises(SystemExit, match="must hold"):
        _run(monkeypatch, root, "--models", good)
    assert not (root / "benchmarks").exists() and not (root / "docs").exists() and "old" in before


def test_the_reports_that_are_there_make_a_section() -> None:
    reports = benchmark.kept(ROOT)
    assert set(reports) == {"navigate", "reach", "push_box"}
    section = benchmark.section_of(reports)
    assert all(f"| {task} | " in section and f"- {task}: " in section for task in reports)

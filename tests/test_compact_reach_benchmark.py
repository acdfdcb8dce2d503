"""benchmarks/compact_reach.py and distilled_planner.py: figures by hand, on a training and episodes that are there."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from test_train import tiny_training
from tiny_data import tiny_episode

from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.eval.neonbench_play import BenchEpisode, Player
from neon_sim.eval.neonbench_report import BenchResults
from neon_sim.training.train import NeonTrainer

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def script(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


def played(labels: dict[str, str], cpu_s: float = 0.5) -> BenchResults:
    """Episodes of reach; a word of one letter an episode says who won it: "wl" a win, then a loss."""
    players = tuple(Player(label, label) for label in labels)
    results = {
        (label, "reach", "nominal"): [BenchEpisode(30 + i, c == "w", False, 9, cpu_s) for i, c in enumerate(word)]
        for label, word in labels.items()
    }
    return BenchResults(players, ("reach",), ("nominal",), 4, results)


def test_a_training_and_its_data_say_what_they_took(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = script(monkeypatch, "compact_reach")
    config = tiny_training(tmp_path, max_steps=2, gradient_accumulation=1)
    trainer = NeonTrainer(config, progress=False)
    trainer.save()
    with pytest.raises(ValueError, match="There is no training in"):
        module.training_of(tmp_path / "run")
    stats = trainer.train()
    training = module.training_of(tmp_path / "run")
    assert training["steps"] == 2 and training["ended"] and 0.0 < training["minutes"] <= stats["seconds"] / 60.0
    assert training["best_loss"] == pytest.approx(stats["best_loss"])
    with LeRobotWriter(tmp_path / "reach" / "dataset") as writer:
        writer.add(tiny_episode(0))
    with pytest.raises(ValueError, match="does not say how long it took"):
        module.collecting_of(tmp_path / "reach")
    (tmp_path / "reach" / "collected.json").write_text('{"seconds": 90.0}')
    collecting = module.collecting_of(tmp_path / "reach")
    assert collecting == {"episodes": 1, "minutes": 1.5}
    figures = module.figures_of(played({"best": "wwwl", "expert": "wwww"}), {**training, "minutes": 29.9}, collecting)
    rows = module.rows_of(figures)
    assert rows[0][0] == "success, seeds 30 to 33" and "75.0 %" in rows[0][1] and rows[0][2] == "85 %: missed"
    assert rows[1] == ["training, 2 steps", "29.9 min", "under 30 min: met"] and rows[2][1] == "1.5 min"
    json.dumps(figures, allow_nan=False)


def test_a_head_is_compared_with_its_planner_in_the_same_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = script(monkeypatch, "distilled_planner")
    figures = module.figures_of(played({"expert": "wwww", "planner": "wwll", "head": "wwwl"}), "reach", "cem")
    assert figures["planner"] == {"successes": 2, "episodes": 4} and figures["seeds"] == [30, 33]
    assert figures["head_against_planner"]["points"] == pytest.approx(25.0)
    row: list[Any] = module.row_of(figures)
    assert len(row) == len(module.HEADER) and row[0] == "reach, cem" and "50.0 %" in row[2] and "75.0 %" in row[3]
    assert row[4].startswith("+25.0 [") and row[5] == "0.50, 0.50"
    monkeypatch.setattr(sys, "argv", ["distilled_planner.py", "--policy", "nowhere", "--planner", "cen"])
    with pytest.raises(SystemExit, match="Did you mean 'cem'"):
        module.main()

"""agents/evaluate.py: recorded episodes and the live env by the same command, as JSON, Markdown and pictures."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_data import tiny_episode
from tiny_neon import tiny_model

from neon_sim.data.lerobot import LeRobotWriter

SCRIPT = Path(__file__).resolve().parents[1] / "agents" / "evaluate.py"


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *flags: str) -> dict[str, Any]:
    """The script in this process; what it wrote as JSON."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *flags, "--workers", "1", "--out", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    figures: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return figures


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy of two senses."""
    folder = tmp_path_factory.mktemp("policy")
    tiny_model(folder / "backbone", use_lidar=False, use_audio=False).save_pretrained(folder / "heads")
    return folder / "heads"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three LeRobot episodes; all that moves is the first joint of each, and that is held where it is."""
    folder = tmp_path_factory.mktemp("data") / "set"
    with LeRobotWriter(folder, "v3.0") as writer:
        for seed in range(3):
            writer.add(tiny_episode(seed, steps=32))
    return folder


def test_recorded_episodes_and_the_live_env_in_one_go(
    policy: Path,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--policy", str(policy), "--dataset", str(dataset), "--trajs", "2", "--plot"]
    flags += ["--tasks", "wave", "--cells", "nominal", "--episodes", "1", "--no-references"]
    found = run(monkeypatch, tmp_path, *flags)
    assert set(found) == {"offline", "neonbench"}

    offline = found["offline"]
    levels = [tiny_episode(seed).actions[0, 0] for seed in range(2)]
    assert (offline["trajectories"], offline["chunks"]) == (2, 4)  # 32 steps are two chunks
    assert offline["zero"]["total"] == pytest.approx(np.mean(np.square(levels)) / 17, rel=1e-5)
    assert offline["zero"]["arms"] == pytest.approx(np.mean(np.square(levels)) / 14, rel=1e-5)
    assert offline["random"]["total"] > offline["zero"]["total"] > 0.0  # uniform actions: 1/3 more
    gain = 1.0 - offline["mse"]["total"] / offline["zero"]["total"]
    assert offline["improvement_over_zero"]["total"] == pytest.approx(gain)

    bench = found["neonbench"]
    assert [(row["policy"], row["task"], row["cell"], row["episodes"]) for row in bench["results"]] == [
        ("heads", "wave", "nominal", 1)
    ]
    page, said = (tmp_path / "evaluation.md").read_text(), capsys.readouterr().out
    for words in (f"| total | {offline['mse']['total']:.5f} |", "2 episodes, 4 chunks of", "# NeonBench", "| wave |"):
        assert words in page and words in said
    for name in ("offline", "neonbench", "trajectory_0", "trajectory_1"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 200
    assert not (tmp_path / "trajectory_2.png").exists() and not (tmp_path / "reach.png").exists()

    played = {path: path.stat().st_mtime_ns for path in (tmp_path / "episodes").rglob("*.json")}
    assert len(played) == 1
    assert run(monkeypatch, tmp_path, *flags[:4], *flags[-7:])["neonbench"] == bench  # nothing is played again
    assert {path: path.stat().st_mtime_ns for path in played} == played


def test_reach_is_what_it_plays_unless_asked_for_something_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = run(monkeypatch, tmp_path, "--policy", "expert", "--episodes", "1", "--no-references")
    assert found["policy"]["success"] == "100.0 % [20.7, 100.0] (1/1)" and list(found) == ["policy"]
    assert "| policy | 100.0 % [20.7, 100.0] (1/1) |" in (tmp_path / "evaluation.md").read_text()
    with Image.open(tmp_path / "reach.png") as picture:
        assert min(picture.size) > 200
    (path,) = (tmp_path / "reach").rglob("*.json")
    played = path.read_bytes()
    path.write_bytes(played.replace(b'"success": true', b'"success": false'))  # what is there is taken as it is
    again = run(monkeypatch, tmp_path, "--policy", "expert", "--episodes", "1", "--no-references")
    assert again["policy"]["successes"] == 0
    path.unlink()
    assert run(monkeypatch, tmp_path, "--policy", "expert", "--episodes", "1", "--no-references") == found
    assert path.read_bytes() == played


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--policy", "expert", "--dataset", "somewhere"), "'expert' is none. Give its folder"),
        (("--plot",), "name them with --dataset"),
        (("--episodes", "0"), "must be at least 1, got 0 and 10"),
        (("--tasks", "recah"), "Unknown task 'recah'. Did you mean 'reach'"),
        (("--tasks", "reach", "--cells", "nominel"), "Unknown cell 'nominel'. Did you mean 'nominal'"),
        (("--dataset", "nowhere"), "nowhere"),
        (("--policy", "exprt"), "nor is it a folder"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_anything_is_written(
    flags: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, tmp_path / "out", *flags)
    assert message in capsys.readouterr().err + str(caught.value.code)
    assert not (tmp_path / "out").exists()

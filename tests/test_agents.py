"""The scripts in agents/: each explains itself, refuses what it does not know, and runs its parts as it says."""

import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tiny_neon import tiny_model

from neon_sim.eval.evaluate import EpisodeResult
from neon_sim.eval.self_learning import pool_cells
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.protection import NoneConfig, OnlineEWCConfig

AGENTS = Path(__file__).resolve().parents[1] / "agents"
SCRIPTS = sorted(path.name for path in AGENTS.glob("*.py"))
WITH_PRESETS = (
    "ablate.py", "plan.py", "pretrain.py", "self_learn.py", "train_backbone.py", "train_ear.py",
    "train_push_t.py", "train_world_model.py",
)  # fmt: skip


def _run(monkeypatch: pytest.MonkeyPatch, script: str, *flags: str) -> None:
    monkeypatch.setattr(sys, "argv", [script, *flags])
    runpy.run_path(str(AGENTS / script), run_name="__main__")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"agents_{name}", AGENTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_explains_itself(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        _run(monkeypatch, script, "--help")
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"python agents/{script}" in text and "--out" in text  # an example line, and where things go


def test_a_script_runs_from_a_shell_outside_the_checkout(tmp_path: Path) -> None:
    command = [sys.executable, str(AGENTS / "evaluate.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--policy" in done.stdout and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", WITH_PRESETS)
def test_an_unknown_preset_names_the_nearest_before_anything_is_written(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        _run(monkeypatch, script, "--preset", "tinny", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_task_names_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="Unknown task 'recah'. Did you mean 'reach'"):
        _run(monkeypatch, "play.py", "--policy", "zero", "--task", "recah", "--out", str(tmp_path / "out"))


def test_a_policy_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags = ("--episodes", "1", "--no-references", "--workers", "1", "--out", str(tmp_path / "out"))
    with pytest.raises(SystemExit, match="nor is it a folder.*nowhere'. Valid: expert"):
        _run(monkeypatch, "evaluate.py", "--policy", str(tmp_path / "nowhere"), *flags)


def test_evaluate_prints_and_writes_the_same_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--episodes", "2", "--no-references", "--workers", "1", "--out", str(tmp_path / "out"))
    _run(monkeypatch, "evaluate.py", "--policy", "expert", *flags)
    table = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert table["policy"]["episodes"] == 2 and table["policy"]["successes"] == 2 and table["policy"]["falls"] == 0
    assert table["policy"]["success"] in capsys.readouterr().out


def test_the_arms_differ_in_what_their_names_say_and_in_nothing_else() -> None:
    script = _load("self_learn")
    preset = script.PRESETS["default"]
    frozen_in_time = {arm: script.learner_config(preset, arm, 3) for arm in script.LEARNING_ARMS}
    naive, ewc, lr0 = (frozen_in_time[arm] for arm in ("naive", "ewc", "lr0"))
    assert naive.seed == ewc.seed == lr0.seed == 3

    def differing(one: Any, other: Any) -> set[str]:
        return {name for name in one.__dataclass_fields__ if getattr(one, name) != getattr(other, name)}

    assert differing(naive, ewc) == {"protection"} and naive.protection == NoneConfig()
    assert ewc.protection == OnlineEWCConfig()
    assert differing(naive, lr0) == {"learning_rate"} and lr0.learning_rate == 0.0


def test_what_is_usual_is_known_before_the_robot_breaks() -> None:
    for preset in _load("self_learn").PRESETS.values():
        chunks = preset.life.healthy_episodes * preset.life.steps // 16
        assert preset.drift.group * preset.drift.baseline <= chunks


def test_a_policy_that_cannot_learn_is_said_and_the_run_before_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_text("of an earlier run")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SystemExit, match="config.json"):
        _run(monkeypatch, "self_learn.py", "--policy", str(tmp_path / "nothing"), "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "settings.json").read_text() == "of an earlier run"


@pytest.mark.parametrize("name", ["default", "tiny", "full"])
def test_no_seed_is_judged_that_was_lived_or_trained_on(name: str, tmp_path: Path) -> None:
    script = _load("self_learn")
    preset = script.PRESETS[name]
    jobs = script.evaluation_jobs(preset, "policy", tmp_path)
    assert len(jobs) == len(script.ARMS) * 2 * len(preset.seeds)
    judged = {seed for job in jobs for seed in job.seeds}
    assert len(judged) == preset.evaluation_episodes * len(preset.seeds)  # the same for every arm, other per seed
    episodes = preset.life.healthy_episodes + preset.life.faulty_episodes
    assert episodes < 10_000  # the distance between two lives' first seeds
    lived = {preset.life.first_seed + 10_000 * seed + i for seed in preset.seeds for i in range(episodes)}
    pretrain, backbone = _load("pretrain").PRESETS["default"], _load("train_backbone").PRESETS["default"]
    trained = set(range(3_000_000, 3_000_000 + pretrain.episodes)) | set(range(1_000_000, 1_000_000 + backbone.films))
    assert judged.isdisjoint(lived) and judged.isdisjoint(trained) and lived.isdisjoint(trained)
    faults = {job.label.rsplit("/", 1)[1]: job.fault for job in jobs}
    assert faults == {"healthy": None, "faulty": preset.life.fault} and isinstance(faults["faulty"], ActuatorFault)


def test_seeds_are_pooled_into_cells() -> None:
    script = _load("self_learn")
    preset = script.replace(script.PRESETS["tiny"], seeds=(0, 1))
    results = {
        f"{arm}/{seed}/{robot}": [
            EpisodeResult("", i, (i + seed) % 2 == 0 and robot == "healthy", 0.01 * (i + 1), False) for i in range(3)
        ]
        for arm in script.ARMS
        for seed in preset.seeds
        for robot in ("healthy", "faulty")
    }
    cells = pool_cells(results, script.ARMS, preset.seeds)
    assert set(cells) == {(arm, robot) for arm in script.ARMS for robot in ("healthy", "faulty")}
    healthy = cells["ewc", "healthy"]
    assert (healthy.successes, healthy.episodes, healthy.per_seed) == (3, 6, [2, 1])
    assert healthy.median_distance == pytest.approx(0.02) and cells["ewc", "faulty"].successes == 0


def test_motors_are_a_little_off_in_some_demonstrations(tmp_path: Path) -> None:
    script = _load("pretrain")
    preset = script.Pretraining(episodes=2)
    tiny_model(tmp_path / "backbone")  # leaves a backbone there
    script.open_worker(str(tmp_path / "backbone"), preset)
    faults = [script.slack(preset, seed) for seed in range(60)]
    off = [fault for fault in faults if fault is not None]
    assert 0.3 < len(off) / len(faults) < 0.7
    assert all(abs(fault.bias) <= preset.slack_rad and 0.9 <= fault.strength <= 1.0 for fault in off)
    assert len({fault.joint for fault in off}) > 8 and script.slack(preset, 7) == faults[7]
    path = tmp_path / "demos_000000.npz"
    assert script.record_shard((str(path), 3_000_000, 1))[0] == 1
    assert script.record_shard((str(path), 3_000_000, 1)) == (0, 0)  # there already
    with np.load(path) as rows:
        assert set(rows["episode"]) == {3_000_000} and {"lidar", "audio", "tokens"} <= set(rows.files)
    script._WORKER["env"].close()

"""agents/train_walker.py: a small training from nothing, stopped and taken up again, and what it leaves behind."""

import importlib.util
import json
import re
import runpy
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from neon_sim.locomotion.network import load_weights
from neon_sim.locomotion.stepper import ACTION_SIZE, OBSERVATION_SIZE
from neon_sim.training.ppo import PPOConfig
from neon_sim.training.run_folder import claim_folder

SCRIPT = Path(__file__).resolve().parents[1] / "agents" / "train_walker.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agents_train_walker", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = load_script()
HORIZON, COUNT = 6, 16
BATCH = HORIZON * COUNT
QUICK = replace(
    script.PRESETS["tiny"],
    steps_m=4 * BATCH / 1e6,
    horizon=HORIZON,
    save_every_s=0.0,
    search=script.SearchConfig(candidates=8, generations=1, first_steps=10),
    world=script.WalkConfig(count=COUNT, models=2, threads=1),
    ppo=PPOConfig(hidden=(16,), critic_hidden=(16,)),
)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walker")
    script.train(QUICK, folder)
    return folder


def test_a_training_leaves_a_walker_and_all_that_it_takes_to_go_on(trained: Path) -> None:
    names = {path.name for path in trained.iterdir() if not path.name.startswith("events")}
    assert names == {"gains.npy", "walker.npz", "checkpoint.pt", "hours.json", "log.jsonl"}
    weights = load_weights(trained / "walker.npz")
    np.testing.assert_array_equal(weights.gains, np.load(trained / "gains.npy"))
    assert weights.layers[0][0].shape == (16, OBSERVATION_SIZE)
    assert weights.act(np.zeros((2, OBSERVATION_SIZE))).shape == (2, ACTION_SIZE)
    assert re.match(r"agents/train_walker\.py, seed 0, 0\.0 M control steps, 0\.\d\d h, ", weights.note)
    assert any(path.name.startswith("events") for path in trained.iterdir())


def test_each_iteration_is_logged(trained: Path) -> None:
    logged = lines(trained)
    assert [line["steps"] for line in logged] == [BATCH, 2 * BATCH, 3 * BATCH, 4 * BATCH]
    for line in logged:
        assert line["term/alive"] == 1.0  # a mean over steps and robots, the first line's longer time included
        assert 0.0 <= line["term/contact"] <= 1.0 and line["falls_per_min"] >= 0.0
        assert {"reward", "kl", "learning_rate", "std", "explained", "falls_per_punch", "punch"} <= set(line)


def test_a_training_that_was_stopped_ends_as_the_uninterrupted_one(trained: Path, tmp_path: Path) -> None:
    script.train(replace(QUICK, steps_m=2 * BATCH / 1e6), tmp_path)
    with open(tmp_path / "log.jsonl", "a") as file:  # what came after the last checkpoint, and was lost
        file.write(json.dumps({"steps": 3 * BATCH, "reward": 99.0}) + "\n")
        file.write('{"steps": 384, "rew')  # killed in the middle of a line
    assert script.train(QUICK, tmp_path)
    assert lines(tmp_path) == lines(trained)
    ours, theirs = load_weights(tmp_path / "walker.npz"), load_weights(trained / "walker.npz")
    for (weight, bias), (other_weight, other_bias) in zip(ours.layers, theirs.layers, strict=True):
        np.testing.assert_array_equal(weight, other_weight)
        np.testing.assert_array_equal(bias, other_bias)
    np.testing.assert_array_equal(ours.mean, theirs.mean)


def test_ctrl_c_ends_the_iteration_and_loses_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = replace(QUICK, save_every_s=3600.0)
    begin = script.difficulty_at

    def begin_and_press(course: Any, steps_m: float) -> Any:
        if steps_m == pytest.approx(BATCH / 1e6):  # at the beginning of the second iteration
            signal.raise_signal(signal.SIGINT)
        return begin(course, steps_m)

    monkeypatch.setattr(script, "difficulty_at", begin_and_press)
    assert not script.train(patient, tmp_path)
    assert [line["steps"] for line in lines(tmp_path)] == [BATCH, 2 * BATCH]  # it was finished
    assert load_weights(tmp_path / "walker.npz").note.startswith("agents/train_walker.py, seed 0")
    monkeypatch.undo()
    assert script.train(patient, tmp_path) and lines(tmp_path) == lines(trained)


def test_hours_are_those_of_all_commands_and_all_their_parts(tmp_path: Path) -> None:
    short = replace(QUICK, steps_m=BATCH / 1e6)
    (tmp_path / "hours.json").write_text("1.5")  # of a search that an earlier command began
    began = time.monotonic()
    script.train(short, tmp_path)
    spent = (time.monotonic() - began) / 3600.0
    kept = json.loads((tmp_path / "hours.json").read_text())
    assert 1.5 < kept < 1.5 + spent
    note = load_weights(tmp_path / "walker.npz").note
    assert float(note.split(" h, ")[0].split(", ")[-1]) == pytest.approx(1.5 + spent, abs=0.006)
    script.train(short, tmp_path)  # it is done: nothing is added but the new measurement's own time
    assert json.loads((tmp_path / "hours.json").read_text()) == kept


def test_files_are_replaced_in_one_move(tmp_path: Path) -> None:
    path = tmp_path / "hours.json"
    path.write_text("1.0")
    with pytest.raises(UnicodeEncodeError):
        script.write_whole(path, "2.0" + chr(0xD800))
    assert path.read_text() == "1.0"
    script.write_whole(path, "2.0")
    assert path.read_text() == "2.0" and script.Hours(tmp_path).now() == pytest.approx(2.0, abs=1e-3)


def test_a_training_that_is_done_does_nothing_more(trained: Path) -> None:
    before = lines(trained)
    script.train(QUICK, trained)
    assert lines(trained) == before


def test_falls_are_counted_by_the_minute() -> None:
    world = script.WalkWorld(QUICK.world, np.zeros(18), seed=0)
    world.tally = script.Tally(steps=150, falls=12, punches=8, punched_falls=2, terms={"alive": 150.0, "track": 30.0})
    # 16 robots x 3 s = 0.8 robot-minutes.
    figures = script.episode_figures(world)
    assert figures == {"term/alive": 1.0, "term/track": 0.2, "falls_per_min": 15.0, "falls_per_punch": 0.25}
    assert world.tally == script.Tally()
    world.close()


def test_the_end_of_a_training_explores_less_and_steps_more_carefully() -> None:
    config = script.PRESETS["default"]
    began, ended = config.settling.from_m, config.settling.to_m
    assert 0.0 < began < ended <= config.steps_m and script.ppo_at(config, began) is config.ppo
    half, end = script.ppo_at(config, 0.5 * (began + ended)), script.ppo_at(config, ended)
    assert (half.entropy, end.entropy) == (config.ppo.entropy / 2, 0.0)
    assert half.std_range == (0.12, pytest.approx(0.3 * 0.5**0.5)) and end.std_range == (0.12, pytest.approx(0.15))
    assert end.target_kl == pytest.approx(config.ppo.target_kl / 3)


def run_main(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *flags])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_an_unknown_preset_names_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="Unknown preset 'tinny'. Did you mean 'tiny'"):
        run_main(monkeypatch, "--preset", "tinny", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_settings_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    claim_folder(tmp_path / "out", {"seed": 7})
    with pytest.raises(SystemExit, match="was begun with other settings"):
        run_main(monkeypatch, "--preset", "tiny", "--out", str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["settings.json"]


@pytest.mark.slow
def test_the_tiny_preset_learns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two minutes on two idle cores: fewer falls and more reward at the end than at the beginning."""
    run_main(monkeypatch, "--preset", "tiny", "--out", str(tmp_path / "out"))
    logged = lines(tmp_path / "out")
    part = len(logged) // 5
    falls = [np.mean([line["falls_per_min"] for line in some]) for some in (logged[:part], logged[-part:])]
    rewards = [np.mean([line["reward"] for line in some]) for some in (logged[:part], logged[-part:])]
    assert logged[-1]["steps"] >= 400_000
    assert falls[1] < 0.9 * falls[0] and rewards[1] > 1.3 * rewards[0]

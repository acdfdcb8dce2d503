"""agents/train_ppo.py: small trainings by PPO, SAC and hindsight, stopped and taken up again, and what plays them."""

import importlib.util
import json
import runpy
import sys
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.cells import CELLS, first_alike
from neon_sim.eval import neonbench
from neon_sim.eval.evaluate import EvaluationJob, build_policy
from neon_sim.eval.neonbench_play import find_player
from neon_sim.inference.sb3_policy import POLICY_FILE, Sb3Policy, find_run, load_model, read_scale, require_sb3
from neon_sim.rollout import rollout
from neon_sim.training.interrupt import Interrupt
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.sb3_envs import FlatVecEnv
from neon_sim.training.sb3_run import LOG_FILE, REPLAY_FILE, learn, load_checkpoint, read_log

ROOT = Path(__file__).resolve().parents[1]


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"agents_{name}", ROOT / "agents" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = load_script("train_ppo")
BATCH = 64
QUICK = script.RLConfig(
    envs=2, hidden=(16,), rollout=BATCH, minibatches=2, warm_up=20, replay=500, max_steps=10, threads=1
)
GOALS = replace(QUICK, algo="sac", her=True)
OPTIONS: dict[str, Any] = {"task": "reach", "sensors": ("proprio", "state"), "physics_dt": 0.005}
FLAT = 125 + 14 + 4 + 64


def train(config: Any, folder: Path, steps: int) -> bool:
    claim_folder(folder, config.settings())
    return script.train(config, folder, steps)


def make(folder: Path, **more: Any) -> Any:
    run = find_run(folder)
    assert run is not None
    return gymnasium.make("NeonG1-v0", disable_env_checker=True, **{**run.env_options(), **more}).unwrapped


def steps_of(folder: Path) -> int:
    run = find_run(folder)
    assert run is not None
    return int(load_model(run)[0].num_timesteps)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "reach_ppo"
    assert train(QUICK, folder, 3 * BATCH)
    return folder


@pytest.fixture(scope="module")
def with_goals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "reach_sac_her"
    assert train(GOALS, folder, 40)
    return folder


# What a training leaves behind


def test_a_training_leaves_a_model_and_the_world_it_was_trained_in(trained: Path) -> None:
    names = {path.name for path in trained.iterdir() if not path.name.startswith("events")}
    assert names == {"settings.json", "policy.zip", "log.jsonl"}
    assert any(path.name.startswith("events") for path in trained.iterdir())
    run = find_run(trained)
    assert run is not None and (run.algo, run.her, run.keys) == ("ppo", False, ("proprio", "eef", "command", "state"))
    assert run.env_options() == {**OPTIONS, "control_mode": "arms_only", "action_center": "home"}
    model = require_sb3().PPO.load(trained / "policy.zip", device="cpu")
    assert model.num_timesteps == 3 * BATCH and model.observation_space.shape == (FLAT,)


def test_observations_were_scaled_by_what_was_seen(trained: Path) -> None:
    scale = read_scale(trained / POLICY_FILE)
    assert scale.mean[""].shape == scale.var[""].shape == (FLAT,)
    assert scale.count[""] == pytest.approx(3 * BATCH + 2, abs=0.01)  # each env's first observation counts too
    assert scale.mean[""][125 + 14 + 4 + 2] == pytest.approx(0.78, abs=0.05)  # the state's pelvis height, m
    ones = scale("", scale.mean[""] + np.sqrt(scale.var[""]))
    seen = scale.var[""] > 1e-4
    assert seen.sum() > 60
    np.testing.assert_allclose(ones[seen], 1.0, atol=1e-3)
    assert scale("", scale.mean[""] + 1e6).max() == 10.0
    assert type(scale).from_bytes(scale.to_bytes()).count == dict(scale.count)


def test_each_batch_is_logged_and_the_curve_is_drawn(trained: Path) -> None:
    lines = read_log(trained)
    assert [line["steps"] for line in lines] == [BATCH, 2 * BATCH, 3 * BATCH]
    assert all(line["rollout/ep_len_mean"] == 10.0 and line["rollout/success_rate"] == 0.0 for line in lines)
    said = script.report(trained)
    assert f"{lines[0]['rollout/ep_rew_mean']:.2f} at first" in said and "success 0 %" in said
    picture = np.asarray(imageio.imread(trained / "reward.png"))[..., :3]
    assert 0.005 < float((picture < 200).any(-1).mean()) < 0.5
    (trained / "reward.png").unlink()


def test_without_an_ended_episode_there_is_no_curve(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).write_text(json.dumps({"steps": 64, "train/loss": 1.0}) + "\n")
    assert "No episode has ended yet" in script.report(tmp_path) and not (tmp_path / "reward.png").exists()


# Going on


def test_a_training_goes_on_where_it_stopped(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(QUICK, folder, BATCH)
    first = (folder / POLICY_FILE).read_bytes()
    with open(folder / LOG_FILE, "a") as file:  # what came after the last checkpoint, and was lost
        file.write(json.dumps({"steps": 2 * BATCH, "rollout/ep_rew_mean": 99.0}) + "\n")
    assert train(QUICK, folder, 2 * BATCH)
    lines, uninterrupted = read_log(folder), read_log(trained)
    assert [line["steps"] for line in lines] == [BATCH, 2 * BATCH] and steps_of(folder) == 2 * BATCH
    assert lines[1]["rollout/ep_rew_mean"] != 99.0
    same_seed = uninterrupted[0]["rollout/ep_rew_mean"]
    assert lines[0]["rollout/ep_rew_mean"] == pytest.approx(same_seed, rel=1e-3)
    assert read_scale(folder / POLICY_FILE).count[""] == pytest.approx(2 * BATCH + 4, abs=0.01)
    assert (folder / POLICY_FILE).read_bytes() != first and not list(folder.glob("*.partial"))


def test_a_training_that_is_done_does_nothing_more(trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    assert train(QUICK, trained, 3 * BATCH)
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before


def test_ctrl_c_ends_it_after_a_step_with_all_saved(trained: Path, tmp_path: Path) -> None:
    interrupt = Interrupt()
    interrupt.asked = True
    with closing(script.build_envs(QUICK)) as envs:
        learn(script.new_model(QUICK, envs), tmp_path, 10 * BATCH, 1e9, interrupt)
        model = load_checkpoint("ppo", tmp_path, envs, seed=0)
    assert model.num_timesteps == 2


def test_checkpoints_come_between_two_batches_while_it_trains(tmp_path: Path) -> None:
    """With a checkpoint due all the time, one is written before the second batch and one at the end."""
    written: list[int] = []

    class Counting(Interrupt):
        @property  # read once a step
        def asked(self) -> bool:  # type: ignore[override]
            path = tmp_path / POLICY_FILE
            if path.exists() and (not written or path.stat().st_mtime_ns != written[-1]):
                written.append(path.stat().st_mtime_ns)
            return False

    with closing(script.build_envs(QUICK)) as envs:
        learn(script.new_model(QUICK, envs), tmp_path, 2 * BATCH, 0.0, Counting())
    assert len(written) == 1 and (tmp_path / POLICY_FILE).stat().st_mtime_ns > written[0]


# The worlds


def test_the_flat_view_is_the_vector_envs_own_observation() -> None:
    with closing(FlatVecEnv(2, ("eef", "state"), {**OPTIONS, "max_steps": 3, "threads": 1})) as envs:
        plain = gymnasium.make_vec("NeonG1-v0", 2, autoreset_mode="SameStep", **OPTIONS, max_steps=3, threads=1)
        envs.seed(5)
        obs, _ = plain.reset(seed=5)
        np.testing.assert_array_equal(envs.reset(), np.concatenate([obs["eef"], obs["state"]], axis=1))
        for step in range(1, 5):
            action = np.full((2, 17), 0.1 * step, np.float32)
            obs, reward, _, truncated, infos = plain.step(action)
            flat, flat_reward, over, said = envs.step(action)
            np.testing.assert_array_equal(flat, np.concatenate([obs["eef"], obs["state"]], axis=1))
            np.testing.assert_array_equal(flat_reward, reward.astype(np.float32))
            assert over.tolist() == truncated.tolist() == [step == 3] * 2
            if step == 3:
                last = infos["final_obs"][1]
                np.testing.assert_array_equal(said[1]["terminal_observation"], [*last["eef"], *last["state"]])
                assert said[1]["TimeLimit.truncated"] and not said[1]["is_success"]
            else:
                assert said == [{}, {}]
        plain.close()


def test_a_fall_is_no_time_limit() -> None:
    options = {**OPTIONS, "task": "stand", "fall_height": 10.0, "threads": 1}  # every height is a fall
    with closing(FlatVecEnv(1, ("proprio",), options)) as envs:
        envs.reset()
        _, _, over, said = envs.step(np.zeros((1, 17), np.float32))
    assert over.tolist() == [True] and said[0]["TimeLimit.truncated"] is False


# Playing


def test_the_policy_does_what_the_learner_would(trained: Path) -> None:
    env = make(trained)
    policy = build_policy(EvaluationJob("test", str(trained), ()), env)
    with closing(script.build_envs(replace(QUICK, envs=1))) as envs:
        model = load_checkpoint("ppo", trained, envs, seed=0)
        envs.training = False
        envs.seed(3)
        wanted, _ = model.predict(envs.reset(), deterministic=True)
    policy.observe(env.reset(seed=3)[0], 0.0)
    chunk = policy.act()
    assert chunk.shape == (1, 1, 17)
    np.testing.assert_allclose(chunk[0], wanted, atol=1e-5)
    policy.reset()
    with pytest.raises(ValueError, match="call observe"):
        policy.act()
    env.close()


def test_a_folder_plays_twenty_steps_and_looks_at_each(trained: Path) -> None:
    env = make(trained)
    run = find_run(trained)
    assert run is not None
    episode = rollout(env, Sb3Policy(run, env), steps=20, seed=1, keep=())
    assert episode.actions.shape == (20, 17) and np.abs(episode.actions).max() <= 1.0
    assert len(np.unique(episode.actions[:, 0])) == 20  # chunks of one
    env.close()


def test_hindsight_trains_goes_on_and_plays(with_goals: Path, tmp_path: Path) -> None:
    run = find_run(with_goals)
    assert run is not None and run.her and run.sensors == ("proprio",)
    assert (with_goals / REPLAY_FILE).exists() and not list(with_goals.glob("*.partial"))
    assert set(read_scale(with_goals / POLICY_FILE).mean) == {"observation", "achieved_goal", "desired_goal"}
    assert train(GOALS, with_goals, 50) and steps_of(with_goals) == 50
    with closing(script.build_envs(GOALS)) as envs:
        model: Any = load_checkpoint("sac", with_goals, envs, seed=0)
        assert model.replay_buffer.size() == 25 and model.gradient_steps == -1  # of two envs each
    env = make(with_goals)
    episode = rollout(env, Sb3Policy(run, env), steps=20, seed=1, keep=())
    assert episode.actions.shape == (20, 17) and episode.actions.std(axis=0).max() > 0.0
    env.close()


def test_sac_trains_from_the_state(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train(replace(QUICK, algo="sac", task="stand"), folder, 50)
    assert steps_of(folder) == 50 and (folder / REPLAY_FILE).exists()
    assert read_log(folder)[-1]["train/n_updates"] > 0


# NeonBench


def test_neonbench_judges_a_folder_on_its_own_task_with_what_it_reads(trained: Path) -> None:
    player = find_player(str(trained))
    assert (player.label, player.reads, player.task) == ("reach_ppo", ("proprio", "state"), "reach")
    told_apart = [cell for cell in CELLS if first_alike(cell, player.reads) == cell]
    assert told_apart == ["nominal", "unseen_scenes", "unseen_objects", "everything_unseen"]
    (trained / "note.txt").write_text("not what plays")
    assert find_player(str(trained)).mark == player.mark
    (trained / "note.txt").unlink()
    config = neonbench.settings(neonbench.parse(["--policy", str(trained)]))
    assert config.tasks == ("reach",) and len(config.players) == 4
    with pytest.raises(ValueError, match="trained on 'reach' alone, and is to play press. Ask for --tasks reach"):
        neonbench.settings(neonbench.parse(["--policy", str(trained), "--tasks", "press"]))


def test_neonbench_plays_a_folder(trained: Path, tmp_path: Path) -> None:
    flags = ["--policy", str(trained), "--no-references", "--cells", "nominal", "--episodes", "1", "--workers", "1"]
    neonbench.main([*flags, "--out", str(tmp_path)])
    (row,) = json.loads((tmp_path / "neonbench.json").read_text())["results"]
    assert (row["policy"], row["task"], row["episodes"], row["mean_steps"]) == ("reach_ppo", "reach", 1, 150.0)


# What makes no sense


def run_main(monkeypatch: pytest.MonkeyPatch, name: str, *flags: str) -> None:
    monkeypatch.setattr(sys, "argv", [f"agents/{name}.py", *flags])
    runpy.run_path(str(ROOT / "agents" / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--task", "recah"), "Unknown task 'recah'. Did you mean 'reach'"),
        (("--algo", "poo"), "Unknown algo 'poo'. Did you mean 'ppo'"),
        (("--control-mode", "arm_only"), "Unknown control_mode 'arm_only'. Did you mean 'arms_only'"),
        (("--her",), "--her needs --algo sac and --task reach.*; got ppo and reach"),
        (("--her", "--algo", "sac", "--task", "stand"), "got sac and stand. Leave it out"),
        (("--envs", "0"), "--envs must be at least 1, got 0"),
        (("--steps", "0"), "--steps must be at least 1, got 0"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_written(
    flags: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message):
        run_main(monkeypatch, "train_ppo", *flags, "--out", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_settings_is_refused(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="(?s)was begun with other settings.*Choose another --out"):
        run_main(monkeypatch, "train_ppo", "--task", "stand", "--out", str(trained))


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(SystemExit, match="needs stable_baselines3: pip install 'neon-sim\\[train\\]'"):
        run_main(monkeypatch, "train_ppo", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_play_refuses_another_task_and_a_folder_without_a_checkpoint(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="trained on 'reach', not on 'press'.*agents/train_ppo.py --task press"):
        run_main(monkeypatch, "play", "--policy", str(trained), "--task", "press", "--out", str(tmp_path / "out"))
    claim_folder(tmp_path / "new", QUICK.settings())
    with pytest.raises(SystemExit, match="holds no policy.zip yet"):
        run_main(monkeypatch, "play", "--policy", str(tmp_path / "new"), "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "stand"}, "was trained on 'reach', not on 'stand'"),
        ({"control_mode": "whole_body"}, "control_mode='arms_only', this env has 'whole_body'"),
        ({"action_center": "limits"}, "action_center='home', this env has 'limits'"),
        ({"sensors": ("proprio",)}, r"this env lacks \['state'\]"),
    ],
)
def test_another_world_is_refused(trained: Path, options: dict[str, Any], message: str) -> None:
    run, env = find_run(trained), make(trained, **options)
    assert run is not None
    with closing(env), pytest.raises(ValueError, match=message):
        Sb3Policy(run, env)


def test_other_folders_are_none_of_ours(tmp_path: Path) -> None:
    assert find_run(tmp_path) is None and find_run(tmp_path / "expert") is None
    claim_folder(tmp_path / "walker", {"seed": 0})
    assert find_run(tmp_path / "walker") is None


@pytest.mark.slow
def test_the_command_lines_train_play_and_judge(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two batches of PPO on reach, watched for an episode, and one that goes on for a third."""
    folder = tmp_path / "reach_ppo"
    run_main(monkeypatch, "train_ppo", "--steps", "4096", "--out", str(folder))
    run_main(monkeypatch, "train_ppo", "--steps", "6000", "--out", str(folder))
    commands = (folder / "commands.txt").read_text().splitlines()
    assert commands[0] == f"python agents/train_ppo.py --steps 4096 --out {folder}" and len(commands) == 2
    assert [line["steps"] for line in read_log(folder)] == [2048, 4096, 6144]
    assert (folder / "reward.png").exists() and zipfile.ZipFile(folder / POLICY_FILE).testzip() is None
    assert f"Watch it: python agents/play.py --policy {folder}" in capsys.readouterr().out
    run_main(monkeypatch, "play", "--policy", str(folder), "--episodes", "1", "--out", str(tmp_path / "film"))
    assert "after 3.0 s" in capsys.readouterr().out
    with imageio.get_reader(tmp_path / "film" / "play.mp4") as film:
        assert film.count_frames() == 75

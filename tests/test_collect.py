"""agents/collect.py: the same data set for any number of workers, through kills and interruptions."""

import filecmp
import importlib.util
import json
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tiny_neon import tiny_model

from neon_sim.data.lerobot import LeRobotReader, LeRobotWriter
from neon_sim.training.recording import Collecting, Recorder, Shard
from neon_sim.training.whole_body import StandingExpert

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "agents" / "collect.py"
SHORT = ("--task", "stand", "--policy", "random", "--seconds", "0.4")


def load() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("agents_collect", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """The script in this process."""
    monkeypatch.setattr(sys, "argv", ["collect.py", *flags])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def files(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_equal_folders(one: Path, other: Path) -> None:
    """The same files with the same bytes."""
    assert files(one) == files(other) and files(one)
    assert filecmp.cmpfiles(one, other, files(one), shallow=False)[1:] == ([], [])


def test_a_run_writes_what_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(monkeypatch, *SHORT, "--episodes", "5", "--workers", "1", "--out", str(out))
    printed = capsys.readouterr().out
    assert "5 new episodes" in printed and "5 episodes, 100 frames, success" in printed
    reader = LeRobotReader(out / "dataset")
    assert reader.info.version == "v3.0" and len(reader) == 5
    assert set(reader.episode(0).observations) == {"command", "instruction", "proprio", "eef"}
    before = {path: (out / "dataset" / path).read_bytes() for path in files(out / "dataset")}
    took = json.loads((out / "collected.json").read_text())["seconds"]

    run(monkeypatch, *SHORT, "--episodes", "5", "--workers", "1", "--out", str(out))  # nothing is left to do
    assert "0 new episodes" in capsys.readouterr().out
    assert {path: (out / "dataset" / path).read_bytes() for path in files(out / "dataset")} == before
    assert json.loads((out / "collected.json").read_text())["seconds"] > took > 0.0  # of both

    with pytest.raises(SystemExit, match="holds 5 episodes, --episodes asks for 2. Choose another --out"):
        run(monkeypatch, *SHORT, "--episodes", "2", "--workers", "1", "--out", str(out))
    run(monkeypatch, *SHORT, "--episodes", "6", "--workers", "1", "--out", str(out), "--discard-shards")
    assert "1 new episodes" in capsys.readouterr().out
    assert len(LeRobotReader(out / "dataset")) == 6 and not (out / "shards").exists()
    with pytest.raises(SystemExit, match="begun with other settings"):
        run(monkeypatch, *SHORT, "--seed", "1", "--out", str(out))


def test_what_was_recorded_outlives_its_shards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = (*SHORT, "--workers", "1", "--out", str(out), "--discard-shards")
    run(monkeypatch, *line, "--episodes", "3")
    before = {path: (out / path).read_bytes() for path in files(out)}
    for other in (("--episodes", "1"), ("--episodes", "5"), ("--episodes", "3", "--version", "v2.1")):
        with pytest.raises(SystemExit, match="holds 3 episodes .v3.0. and the shards that made them are gone.*another"):
            run(monkeypatch, *line, *other)
    capsys.readouterr()
    run(monkeypatch, *line, "--episodes", "3")
    printed = capsys.readouterr().out
    assert "3 episodes, 60 frames" in printed and "already: nothing was recorded" in printed
    assert {path: (out / path).read_bytes() for path in files(out)} == before


def test_a_kill_while_shards_are_discarded_loses_no_episode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = (*SHORT, "--workers", "1", "--out", str(out), "--episodes", "6")
    run(monkeypatch, *line)
    shutil.rmtree(out / "shards" / "shard_0000004")  # an older version was killed here
    run(monkeypatch, *line)
    assert "already: nothing was recorded" in capsys.readouterr().out and len(LeRobotReader(out / "dataset")) == 6
    with pytest.raises(SystemExit, match="holds 6 episodes"):
        run(monkeypatch, *line[:-1], "4")
    load().discard(out / "shards")
    assert sorted(path.name for path in out.iterdir()) == ["collected.json", "dataset", "settings.json"]


@pytest.mark.slow
def test_two_workers_and_a_kill_give_the_data_set_of_one_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = (*SHORT, "--episodes", "9")
    run(monkeypatch, *flags, "--workers", "1", "--out", str(tmp_path / "one"))
    command = [sys.executable, str(SCRIPT), *flags, "--workers", "2", "--out", str(tmp_path / "two")]
    broken = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + 120.0
    while not list(tmp_path.glob("two/shards/*/data/chunk-000/*.parquet")):
        assert time.monotonic() < deadline and broken.poll() is None
        time.sleep(0.02)
    broken.send_signal(signal.SIGKILL)  # its workers are left behind, and must not spoil what comes now
    broken.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_equal_folders(tmp_path / "one" / "dataset", tmp_path / "two" / "dataset")


def test_ctrl_c_keeps_what_was_recorded(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), *SHORT, "--episodes", "400", "--workers", "1", "--out", str(out)]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )
    deadline = time.monotonic() + 120.0
    while len(list(out.glob("shards/*/data/chunk-000/*.parquet"))) < 2:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1 and "Stopped; what was recorded is in" in said
    shards = sorted(out.glob("shards/*"))
    assert sum(len(LeRobotReader(shard)) for shard in shards if (shard / "meta/info.json").exists()) >= 1
    assert not list(out.rglob("*.unfinished"))


def test_an_episode_depends_on_its_seed_alone(tmp_path: Path) -> None:
    recorder = Recorder(Collecting(task="reach", policy="noisy_expert", seconds=0.7))
    first = recorder.episode(11)
    recorder.episode(12)
    again = recorder.episode(11)
    assert np.array_equal(first.actions, again.actions)
    assert np.array_equal(first.observations["proprio"], again.observations["proprio"])
    assert not np.array_equal(recorder.episode(12).actions, first.actions)


def test_a_noisy_expert_says_what_it_wanted_and_what_the_words_meant() -> None:
    recorder = Recorder(Collecting(task="reach", policy="noisy_expert", seconds=1.28, noisy_share=0.5))
    episodes = [recorder.episode(seed) for seed in range(4)]
    pushed = [np.abs(e.infos["expert_action"] - e.actions).reshape(4, 16, 17).max(axis=(1, 2)) > 1e-6 for e in episodes]
    assert 0.1 < np.mean(pushed) < 0.9  # chunks of 16, half of them pushed
    for episode in episodes:
        assert episode.infos["expert_action"].shape == episode.actions.shape == (64, 17)
        assert set(np.unique(episode.infos["goal_hand"])) <= {0, 1} and len(set(episode.infos["goal_hand"])) == 1
        assert ("left" if episode.infos["goal_hand"][0] == 0 else "right") in episode.instruction
        places = episode.infos["goal_pos_b"]
        assert places.shape == (64, 3) and 0.15 < places[0, 0] < 0.4  # the task's box, m ahead of the pelvis
    quiet = Recorder(Collecting(task="reach", policy="noisy_expert", seconds=0.4, noisy_share=0.0)).episode(3)
    assert quiet.infos["expert_action"] == pytest.approx(quiet.actions)


def test_a_paused_expert_holds_its_last_targets_for_whole_chunks_and_says_what_it_wanted() -> None:
    recorder = Recorder(
        Collecting(task="reach", policy="noisy_expert", seconds=1.92, noisy_share=0.0, paused_share=0.5)
    )
    paused = []
    for seed in range(4):
        episode = recorder.episode(seed)
        chunks = episode.actions.reshape(6, 16, 17)
        still = (chunks == chunks[:, :1]).all(axis=(1, 2))
        wished = episode.infos["expert_action"].reshape(6, 16, 17)
        assert np.abs(wished[~still] - chunks[~still]).max(initial=0.0) < 1e-6
        for number in np.flatnonzero(still[1:]) + 1:
            np.testing.assert_allclose(chunks[number, 0, :14], chunks[number - 1, -1, :14], atol=1e-4)
        paused += [bool(np.abs(w - c).max() > 1e-3) for w, c in zip(wished, chunks, strict=True)]
    assert 0.1 < np.mean(paused) < 0.9


def test_recordings_say_which_hand_belongs_where_or_that_it_is_both_or_that_nobody_can_know() -> None:
    def recorded(task: str, *sensors: str) -> Recorder:
        return Recorder(Collecting(task, "noisy_expert", 4.0, ("proprio", *sensors), stop_on_success=True))

    press = recorded("press")
    hands = []
    for seed in range(4_000_000, 4_000_006):
        episode = press.episode(seed)
        (hand,) = set(episode.infos["goal_hand"].tolist())
        side = int(episode.infos["goal_pos_b"][0, 1] < 0.0)  # 0 left, as the place is at y of 0 or more
        named = [number for number, name in enumerate(("left", "right")) if name in episode.instruction.split()]
        assert hand == (named[0] if named else side)
        hands.append((bool(named), hand))
    assert {named for named, _ in hands} == {True, False}  # some name none: then it is the nearer one
    lift = recorded("lift_box").episode(4_000_000)
    assert set(lift.infos["goal_hand"].tolist()) == {2} and 0.2 < lift.infos["goal_pos_b"][0, 0] < 0.5
    voice = recorded("follow_voice", "audio")
    heard = voice.episode(4_000_000).infos
    known = heard["goal_hand"] >= 0
    assert known.argmax() == math.ceil(50 * voice.env.task.get_state()["said"].end_s) and known[-1]
    assert not heard["goal_pos_b"][~known].any() and (heard["goal_pos_b"][known, 0] > 0.15).all()
    assert [int(y < 0.0) for y in heard["goal_pos_b"][known, 1]] == heard["goal_hand"][known].tolist()


def test_an_expert_that_owns_every_joint_balances_as_well() -> None:
    recorder = Recorder(Collecting(task="stand", control_mode="whole_body", seconds=3.0))
    episode = recorder.episode(1)  # the task's expert alone lies on the floor after 1.3 s
    assert len(episode) == 150 and episode.success and episode.control_mode == "whole_body"
    assert episode.actions.shape == (150, 29) and np.ptp(episode.actions[:, 17:], axis=0).min() > 1e-4
    with pytest.raises(ValueError, match="this env is arms_only"):
        StandingExpert(Recorder(Collecting(task="stand", policy="zero")).env)


def test_a_checkpoint_whose_actions_mean_something_else_is_refused(tmp_path: Path) -> None:
    tiny_model(tmp_path / "backbone", action_center="limits").save_pretrained(tmp_path / "policy")
    with pytest.raises(ValueError, match="actions are arms_only .17 wide, centered on limits.* is what is recorded"):
        Recorder(Collecting(task="reach", policy=str(tmp_path / "policy"), sensors=("proprio", "camera")))


def test_a_shard_is_brought_up_to_its_count(tmp_path: Path) -> None:
    recorder = Recorder(Collecting(task="stand", seconds=0.2))
    assert recorder.record(Shard(str(tmp_path / "s"), 100, 2)) == 2
    assert recorder.record(Shard(str(tmp_path / "s"), 100, 3)) == 1
    with LeRobotWriter(tmp_path / "s") as writer:
        assert len(writer) == 3
    third = LeRobotReader(tmp_path / "s").episode(2)
    assert np.array_equal(third.observations["proprio"], recorder.episode(102).observations["proprio"])


def test_the_camera_is_recorded_as_video(tmp_path: Path) -> None:
    recorder = Recorder(Collecting(task="reach", sensors=("proprio", "camera"), seconds=0.3))
    recorder.record(Shard(str(tmp_path / "s"), 5, 1))
    seen, read = recorder.episode(5), LeRobotReader(tmp_path / "s").episode(0)
    error = np.abs(read.observations["camera"].astype(int) - seen.observations["camera"])
    assert read.observations["camera"].shape == (15, 128, 128, 3) and error.mean() < 4.0
    assert np.array_equal(read.observations["proprio"], seen.observations["proprio"])


def test_full_lidar_frames_are_recorded_with_their_reflectivity(tmp_path: Path) -> None:
    config = Collecting(task="reach", policy="zero", sensors=("proprio", "lidar"), seconds=0.3, full_lidar=True)
    recorder = Recorder(config)
    recorder.record(Shard(str(tmp_path / "s"), 5, 1))
    read = LeRobotReader(tmp_path / "s").episode(0)
    whole = read.infos["lidar_full"]
    assert whole.shape == (15, 20_000, 4) and whole.dtype == np.float16
    for step in range(15):  # learning's points are the first of the frame, to half a float's precision
        points = read.observations["lidar"][step].reshape(1024, 3)
        np.testing.assert_allclose(whole[step, :1024, :3], points, rtol=1e-3, atol=1e-3)
    assert [bool((whole[t] != whole[t - 1]).any()) for t in range(1, 15)].count(True) == 2  # 10 Hz at 50: steps 5, 10
    seen = np.abs(whole[0, :, :3]).max(axis=1) > 0.0
    assert 0.3 < seen.mean() < 1.0 and not whole[0, ~seen, 3].any()
    assert (whole[0, seen, 3] > 0.0).mean() > 0.99 and whole[0, :, 3].max() <= 150.0
    stats = (tmp_path / "s/meta/episodes_stats.jsonl").read_text()
    assert "info.lidar_full" not in stats and "observation.lidar" in stats
    with pytest.raises(ValueError, match='want "lidar" among the sensors'):
        Recorder(Collecting(full_lidar=True))


def test_a_folder_of_a_policy_is_known_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = load()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["collect.py", "--policy", "mine", "--full-lidar", "--sensors", "lidar"])
    [config], _ = script.settings(script.parse())
    assert config.policy == str((tmp_path / "mine").resolve()) and config.full_lidar


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--full-lidar", "--workers=1"), 'want "lidar" among the sensors'),
        (("--preset", "tinny"), "Did you mean 'tiny'"),
        (("--task", "recah"), "Did you mean 'reach'"),
        (("--policy", "exprt"), "Did you mean 'expert'"),
        (("--version", "v3.1"), "Did you mean 'v3.0'"),
        (("--episodes", "0"), "must be positive"),
        (("--seed", "60"), "--seed wants 0 to 59, and seeds from 10000000 on are for judging"),
        (("--seed=-1",), "--seed wants 0 to 59"),
        (("--seed", "59", "--episodes", "100001"), "got --seed 59 and 100001 episodes"),
        (("--policy", "noisy_expert", "--control-mode", "whole_body"), "has no noisy version"),
    ],
)
def test_a_wrong_flag_is_answered_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, *flags, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--sensors", "camra"), "Unknown sensor 'camra'. Did you mean 'camera'"),
        (("--control-mode", "arms"), "Unknown control_mode 'arms'"),
        (("--physics-dt", "0.003"), "physics_dt must divide 0.02 s"),
        (("--seconds", "nan"), "must be positive, got 100, nan"),
    ],
)
def test_a_typo_costs_no_folder(
    flags: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, *SHORT, *flags, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_that_is_not_there_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"pip install 'neon-sim\[cluster\]'"):
        run(monkeypatch, *SHORT, "--ray", "local", "--out", str(tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra cluster")
def test_a_ray_cluster_gives_the_same_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags = (*SHORT, "--episodes", "6")
    run(monkeypatch, *flags, "--workers", "1", "--out", str(tmp_path / "one"))
    command = [sys.executable, str(SCRIPT), *flags, "--ray", "local", "--out", str(tmp_path / "ray")]
    subprocess.run(command, check=True, timeout=600, env=os.environ)
    assert_equal_folders(tmp_path / "one" / "dataset", tmp_path / "ray" / "dataset")


def test_work_is_shared_out_in_the_same_way_for_any_number_of_workers(tmp_path: Path) -> None:
    script = load()
    shards = script.shards_of(Collecting(seed=2), 10, tmp_path)
    assert [(s.first_seed, s.count) for s in shards] == [(4_200_000, 4), (4_200_004, 4), (4_200_008, 2)]
    assert script.missing(shards) == shards

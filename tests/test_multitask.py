"""One policy for all tasks that need no walking: what it learns from, what it learns, and how it is judged."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import tiny_episode, write_episodes
from tiny_neon import tiny_config, tiny_features, tiny_model, tiny_senses

from neon_sim.cells import TASKS
from neon_sim.data.windows import WindowConfig, cut_window
from neon_sim.eval.neonbench_play import BenchEpisode, Player
from neon_sim.eval.neonbench_report import BenchResults, Score
from neon_sim.model.goal import goal_loss, goal_token
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.batches import Group
from neon_sim.training.chunk_loss import group_losses
from neon_sim.training.config import MULTITASK, PRESETS
from neon_sim.training.multitask import STANDING, standing_soup
from neon_sim.training.recording import Collecting, Recorder, Shard, as_judged
from neon_sim.training.train import NeonTrainer

ROOT = Path(__file__).resolve().parents[1]
QUIET: dict[str, Any] = {"dropout": 0.0, "sense_dropout": 0.0, "tracking_noise": 0.0, "use_lidar": False}


def run(monkeypatch: pytest.MonkeyPatch, script: str, *flags: str) -> None:
    """A script of the checkout in this process."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", [script, *flags])
    runpy.run_path(str(ROOT / script), run_name="__main__")


def benchmark(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """benchmarks/multitask.py as names, not run."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "multitask.py"), run_name="multitask"))


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[pytest.mark.slow] if task != "reach" else []) for task in STANDING]
)
def test_an_expert_without_waist_and_legs_does_every_one_of_them(task: str) -> None:
    """The control mode of the presets is enough: look_at turns with the walker where the waist is not its own."""
    recorder = Recorder(as_judged(Collecting(task, "expert", sensors=("state", "proprio"))))
    assert recorder.config.control_mode == "arms_only" and recorder.episode(8).success
    recorder.env.close()


def test_episodes_are_as_long_as_judged_and_a_box_is_shaken_less() -> None:
    usual = Collecting(policy="noisy_expert")
    reach, track, box = (as_judged(replace(usual, task=task)) for task in ("reach", "track", "lift_box"))
    assert (reach.seconds, reach.stop_on_success, reach.noise_rad) == (3.0, True, 0.12)  # 150 steps at 50 Hz
    assert (track.seconds, track.stop_on_success, track.noise_rad) == (8.0, False, 0.08)  # to the end, or not at all
    assert (box.seconds, box.noise_rad, box.noisy_share) == (10.0, 0.04, 0.3)


def test_what_a_disturbed_expert_wished_is_learned_and_not_what_it_did() -> None:
    episode = tiny_episode(0)
    assert cut_window(episode, 16, WindowConfig(), np.arange(17)).chunk[0, 0] == episode.actions[16, 0]
    episode.infos = {"expert_action": np.tile(np.arange(40.0, dtype=np.float32)[:, None], (1, 17))}
    window = cut_window(episode, 32, WindowConfig(), np.arange(2))
    assert window.chunk[:, 0].tolist() == [32, 33, 34, 35, 36, 37, 38, 39] + 8 * [0] and window.mask.sum() == 8


def test_the_soup_is_of_equal_shares_and_refuses_walking() -> None:
    soup = standing_soup("runs/data")
    assert [source.name for source in soup.sources] == list(STANDING) and {s.weight for s in soup.sources} == {1.0}
    assert soup.sources[0].path == str(Path("runs/data/reach/dataset"))
    with pytest.raises(ValueError, match="Unknown task without walking 'wawe'. Did you mean 'wave'"):
        standing_soup("runs/data", ("reach", "wawe"))
    assert set(TASKS) - set(STANDING) == {"walk", "navigate", "push_box"}


def test_presets_stand_beside_the_24_and_a_specialist_has_a_folder_of_its_own() -> None:
    assert not MULTITASK.keys() & PRESETS.keys()
    both, one = MULTITASK["multitask_state"](), MULTITASK["multitask_state"](tasks=("wave",), data="there")
    assert both.model == one.model and both.output_dir != one.output_dir
    assert one.data is not None and [source.path for source in one.data.sources] == [str(Path("there/wave/dataset"))]
    for build in MULTITASK.values():
        build().check()
        assert build().model.control_mode == "arms_only"


def test_from_state_no_sample_loses_the_words_and_from_sound_the_goal_is_heard() -> None:
    state, camera = (MULTITASK[name]().model for name in ("multitask_state", "multitask"))
    assert state.vision_dropout == 0.0 and state.heads_read and camera.heads_read
    assert camera.goal_hears and camera.microphones == 2 and camera.sound_memory_s == 3.0


@torch.no_grad()
def test_heads_are_told_what_is_known_of_the_goal_and_the_hand_as_read_where_it_is_both(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, **QUIET)
    features, senses = tiny_features(3), {name: v for name, v in tiny_senses(3).items() if name != "lidar"}
    place = torch.tensor([[0.3, 0.1, 0.2], [0.4, 0.0, 0.1], [9.0, 9.0, 9.0]])  # the last one's means nothing
    chunk, mask = torch.zeros(3, 16, 17), torch.ones(3, 16)
    group = Group(None, ["a", "b", "c"], senses, chunk, mask, torch.tensor([1, 2, -1]), place)
    told = []
    model.goal_embed.register_forward_hook(lambda _, inputs, __: told.append(inputs[0]))
    _, reading = group_losses(model, features, group)
    raw = model.goal_reader(features)
    read = goal_token(raw)
    assert told[0][0].tolist() == pytest.approx([0.0, 1.0, 1.2, 0.4, 0.8])  # m / 0.25
    torch.testing.assert_close(told[0][1], torch.cat([read[1, :2], torch.tensor([1.6, 0.0, 0.4])]))
    torch.testing.assert_close(told[0][2], read[2])
    torch.testing.assert_close(reading, goal_loss(raw[:2], torch.tensor([1, 2]), place[:2]))
    assert group.goals == 2


def test_a_task_alone_is_trained_as_long_as_among_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset_config = runpy.run_path(str(ROOT / "agents" / "pretrain.py"), run_name="pretrain")["preset_config"]

    def steps(*tasks: str) -> int | None:
        flags = {"preset": "multitask_state", "tasks": tasks or None, "data": str(tmp_path), "out": None}
        flags |= {"epochs": None, "soup": None, "skip_bad": False, "successes_only": False, "num_workers": None}
        found: int | None = preset_config(SimpleNamespace(**flags, teacher=None, teacher_weight=None)).max_steps
        return found

    write_episodes(tmp_path / "reach" / "dataset", 2)
    assert steps("reach") is None and "epochs of its own data" in capsys.readouterr().out
    for number, task in enumerate(STANDING[1:]):
        write_episodes(tmp_path / task / "dataset", 2, steps=160 + 16 * number)
    # One of two episodes is held back: 3 samples of reach, 10 to 16 of the others, 94 in all; 30 epochs in batches of
    # 128 are 23 steps, and an eighth of them 3.
    assert (steps("reach"), steps("stand"), steps("reach", "stand")) == (3, 3, 6)
    assert steps() is None and steps(*STANDING) is None and not capsys.readouterr().out


@pytest.mark.slow
def test_it_learns_from_state_and_words_what_the_expert_does(tmp_path: Path) -> None:
    for task in ("wave", "reach"):
        recorder = Recorder(Collecting(task, "noisy_expert", 1.28, ("state", "proprio")))
        recorder.record(Shard(str(tmp_path / "data" / task / "dataset"), 1, 6))
        recorder.env.close()
    config = MULTITASK["multitask_state"](tasks=("wave", "reach"), data=str(tmp_path / "data"))
    own = ("goal_width", "extra_senses", "head", "use_audio", "relative_to_target")
    own_values = {name: getattr(config.model, name) for name in own}
    config.model = tiny_config(tmp_path / "backbone", **QUIET, **own_values)
    config.output_dir, config.feature_cache, config.device = str(tmp_path / "run"), str(tmp_path / "cache"), "cpu"
    config.max_steps, config.batch_size, config.learning_rate = 60, 32, 3e-3
    trainer = NeonTrainer(config, progress=False)
    before = trainer.evaluate()["mse"]
    stats = trainer.train()
    assert stats["sources"].keys() == {"wave", "reach"} and stats["best_loss"] < 0.6 * before
    assert NeonVLA.from_pretrained(tmp_path / "run" / "best").senses == ("proprio", "eef", "state")


def test_the_table_counts_what_was_played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = benchmark(monkeypatch)
    policy, own = Player("one_for_all", "x", ("words", "state")), Player("reach_alone", "y", ("words", "state"))

    def results(player: Player, task: str, cell: str, wins: int) -> dict[tuple[str, str, str], list[BenchEpisode]]:
        return {(player.label, task, cell): [BenchEpisode(i, i < wins, False, 9, 0.1) for i in range(4)]}

    played = results(policy, "reach", "nominal", 3) | results(policy, "reach", "unseen_wordings", 2)
    played |= results(policy, "stand", "nominal", 4) | results(policy, "stand", "unseen_wordings", 1)
    played |= results(script.EXPERT, "reach", "nominal", 4) | results(script.EXPERT, "stand", "nominal", 4)
    mine = BenchResults((policy, script.EXPERT), ("reach", "stand"), script.CELLS, 4, played)
    alone = results(own, "reach", "nominal", 4) | results(own, "reach", "unseen_wordings", 0)
    figures = script.figures_of(
        mine, {"reach": Score(1, 4)}, {"reach": BenchResults((own,), ("reach",), script.CELLS, 4, alone)}
    )
    assert figures["all"]["seen"] == {"successes": 7, "episodes": 8}
    assert figures["all"]["unseen"] == {"successes": 3, "episodes": 8}
    assert (
        figures["all"]["told_to_stand"] == {"successes": 1, "episodes": 4} and "told_to_stand" not in figures["stand"]
    )
    assert figures["reach"]["alone_unseen"] == {"successes": 0, "episodes": 4} and "alone_seen" not in figures["all"]
    rows = script.rows_of(figures)
    assert [len(row) for row in rows] == 3 * [len(script.HEADER)] and rows[1][4] == "-" and "75.0 %" in rows[0][1]
    assert script.header_of(figures) == ("incomplete, no own policy: stand", *script.HEADER[1:])
    script.picture(figures, tmp_path / "bars.png")
    with Image.open(tmp_path / "bars.png") as picture:
        assert min(picture.size) > 200
    figures["stand"]["alone_seen"] = {"successes": 4, "episodes": 4}
    assert script.header_of(figures) == script.HEADER


def test_another_policy_or_world_is_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    job = benchmark(monkeypatch).Told(Player("all", "x", ("words", "state"), mark="a"), "reach", 0, 2, "file")
    others = [replace(job, player=replace(job.player, mark="b")), replace(job, task="stand"), replace(job, first=2)]
    others.append(replace(job, player=replace(job.player, reads=("words", "proprio"))))
    assert len({one.mark for one in (job, *others)}) == 5
    assert replace(job, player=replace(job.player, label="other"), path="elsewhere", count=1).mark == job.mark


def test_a_small_benchmark_goes_on_where_it_stopped_and_writes_no_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"extra_senses": {"state": 64}, "goal_width": 0, "use_audio": False}
    for name, seed in (("all", 1), ("reach", 2)):
        tiny_model(tmp_path / "backbone", seed, **QUIET, **own).save_pretrained(tmp_path / name)
    flags = ["--policy", str(tmp_path / "all"), "--alone", f"{tmp_path}/{{task}}", "--tasks", "reach"]
    flags += ["--episodes", "1", "--workers", "1", "--out", str(tmp_path / "out")]
    results = (ROOT / "RESULTS.md").read_bytes()
    run(monkeypatch, "benchmarks/multitask.py", *flags)
    first = capsys.readouterr().out
    assert "| reach | " in first and "Not written down" in first and (tmp_path / "out/multitask_state.png").exists()
    assert (ROOT / "RESULTS.md").read_bytes() == results
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")}
    assert any(json.loads(path.read_text()).get("successes") in ([True], [False]) for path in files)
    run(monkeypatch, "benchmarks/multitask.py", *flags)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")} == files
    assert capsys.readouterr().out.splitlines()[-4:] == first.splitlines()[-4:]


def test_a_task_without_a_policy_of_its_own_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = SimpleNamespace(out=tmp_path, name="multitask")
    found = benchmark(monkeypatch).alone_results(f"{tmp_path}/{{task}}", ("wave",), 1, args)
    assert found == {} and f"wave: no policy of its own in {tmp_path / 'wave'}" in capsys.readouterr().out


def test_an_unknown_task_or_a_task_without_a_multi_task_preset_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="Did you mean 'wave'"):
        run(monkeypatch, "agents/pretrain.py", "--preset", "multitask_state", "--tasks", "wawe", "--out", str(tmp_path))
    with pytest.raises(SystemExit, match="--tasks and --data go with multitask_state and multitask, not with compact"):
        run(monkeypatch, "agents/pretrain.py", "--preset", "compact_reach", "--tasks", "wave", "--out", str(tmp_path))
    assert torch.is_grad_enabled() and not list(tmp_path.iterdir())

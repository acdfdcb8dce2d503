"""NeonTrainer: it learns, goes on after SIGKILL as if nothing had been; two processes are one with twice the batch."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_folders import G1_ARMS, angles, foreign_lerobot
from PIL import Image
from tiny_data import soup_of, tiny_episode, write_episodes
from tiny_neon import tiny_config

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.source import DataSourceConfig
from neon_sim.data.windows import Window
from neon_sim.episode import NeonEpisode
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.averaging import WeightAverage
from neon_sim.training.batches import batches, group_windows
from neon_sim.training.chunk_loss import teacher_chunk
from neon_sim.training.interrupt import deferred_interrupt
from neon_sim.training.optim import make_optimizer, rate_at
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig
from neon_sim.training.train_parts import open_tensorboard

TESTS = Path(__file__).parent


def tiny_training(folder: Path, out: str = "run", **changes) -> TrainConfig:
    """A config on eight episodes in `folder` and the tiny backbone."""
    data = folder / "data"
    if not data.exists():
        write_episodes(data, 8)
    quiet = {"dropout": 0.0, "vision_dropout": 0.0, "sense_dropout": 0.0, "tracking_noise": 0.0}
    settings = {
        "model": tiny_config(folder / "backbone", use_lidar=False, use_audio=False, **quiet),
        "data": soup_of(data),
        "output_dir": str(folder / out),
        "max_steps": 6,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "optim": "adamw",
        "bf16": False,
        "evaluate_every": 3,
        "feature_cache": str(folder / "cache"),
        "device": "cpu",
    }
    return TrainConfig(**{**settings, **changes})


def weights_of(trainer: NeonTrainer) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters()])


def test_it_learns_what_the_picture_says(tmp_path):
    config = tiny_training(tmp_path, max_steps=60, learning_rate=3e-3, gradient_accumulation=1, batch_size=8)
    trainer = NeonTrainer(config, progress=False)
    before = trainer.evaluate()["mse"]
    stats = trainer.train()
    assert stats["best_loss"] < 0.3 * before and stats["steps"] == 60
    assert stats["sources"]["data"]["share"] == 1.0
    best = NeonVLA.from_pretrained(Path(config.output_dir) / "best")
    assert best.config == config.model
    lines = [json.loads(line) for line in (Path(config.output_dir) / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(3, 61, 3)) and {"mse", "arms", "locomotion"} <= set(lines[0])
    with Image.open(Path(config.output_dir) / "loss.png") as picture:
        assert min(picture.size) > 200


def test_the_card_of_what_was_trained_says_how_and_names_no_path(tmp_path):
    config = tiny_training(tmp_path, max_steps=2, learning_rate=3e-3)
    NeonTrainer(config, progress=False).train()
    card = (Path(config.output_dir) / "last" / "README.md").read_text(encoding="utf-8")
    told = json.loads(card.partition("## Training")[2].partition("```json")[2].partition("```")[0])
    assert told["steps"] == 2 and told["learning_rate"] == 3e-3 and told["gradient_accumulation"] == 2
    assert told["data"] == "data (neon_sim, weight 1)" and 0.0 <= told["hours"] < 0.1 and not told["distilled"]
    assert str(tmp_path) not in json.dumps(told)


@pytest.mark.parametrize("cached", [True, False])
def test_what_is_in_the_feature_cache_is_not_seen_again(tmp_path, cached):
    changes = {"max_steps": 4, "evaluate_every": 2} | ({} if cached else {"feature_cache": None})
    seen = []
    for out in ("first", "second"):
        trainer = NeonTrainer(tiny_training(tmp_path, out, **changes), progress=False)
        trainer.model.backbone.register_forward_hook(lambda *_, out=out: seen.append(out))
        trainer.train()
    assert "first" in seen and ("second" in seen) == (not cached)


def test_a_run_in_two_parts_ends_with_the_weights_of_one(tmp_path):
    noisy = {"dropout": 0.1, "vision_dropout": 0.5, "tracking_noise": 1.0}
    config = tiny_training(tmp_path, ema_decay=0.9)
    config.model = replace(config.model, **noisy)
    whole = NeonTrainer(config, progress=False)
    whole.train()
    parted = replace(config, output_dir=str(tmp_path / "parted"))
    first = NeonTrainer(parted, progress=False)
    first.total_steps = 6
    for _, micro_batches in zip(range(4), first._micro_batches(), strict=False):
        first.update(micro_batches)
    first.save()
    second = NeonTrainer(parted, progress=False)
    assert second.step == 4
    second.train()
    assert torch.equal(weights_of(whole), weights_of(second))
    assert all(torch.equal(a, b) for a, b in zip(whole.average.values, second.average.values, strict=True))


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
from pathlib import Path
from test_train import tiny_training, weights_of
from neon_sim.training.train import NeonTrainer
torch.set_num_threads(1)
trainer = NeonTrainer(tiny_training(Path({folder!r}), {out!r}, **{changes!r}), progress=False)
print("from", trainer.step, flush=True)
losses, update = [], trainer.update
trainer.update = lambda batch: losses.append(update(batch)) or print("step", trainer.step, flush=True) or losses[-1]
trainer.train()
if trainer.team.leads:
    weights = torch.cat([weights_of(trainer), *(value.reshape(-1) for value in trainer.average.values)])
    torch.save((weights, losses), {result!r})
"""


def script(folder: Path, out: str, result: Path, **changes) -> str:
    return SCRIPT.format(tests=str(TESTS), folder=str(folder), out=out, changes=changes, result=str(result))


def start(code: str, **env: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize(
    ("seed", "changes"),
    [
        (0, {"save_every_s": 0.0}),
        pytest.param(1, {"save_every_s": 0.5}, marks=pytest.mark.slow),  # dozens of steps after the last save
        pytest.param(2, {"save_every_s": 0.2, "num_workers": 1, "ema_decay": 0.9}, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_again_and_again_is_the_unbroken_one(tmp_path, seed, changes):
    tiny_training(tmp_path)  # writes data and backbone
    changes = {"max_steps": 40, **changes}
    unbroken = start(script(tmp_path, "unbroken", tmp_path / "a.pt", **changes))
    assert unbroken.wait(timeout=200) == 0
    code = script(tmp_path, "killed", tmp_path / "b.pt", **changes)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        victim = start(code)
        assert victim.stdout is not None
        for _ in range(int(rng.integers(1, 9))):  # "from ..." is the first line
            assert victim.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.05))  # somewhere in a step, in a save, in a file of samples
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    again = start(code)
    out, _ = again.communicate(timeout=200)
    assert again.returncode == 0 and int(out.split()[1]) < 40
    assert changes["save_every_s"] or int(out.split()[1]) > 0
    (a, _), (b, _) = torch.load(tmp_path / "a.pt"), torch.load(tmp_path / "b.pt")
    assert torch.equal(a, b)


def test_ctrl_c_within_a_step_saves_after_it(tmp_path):
    trainer = NeonTrainer(tiny_training(tmp_path), progress=False)
    update = trainer.update

    def interrupted(micro_batches):
        if trainer.step == 2:
            signal.raise_signal(signal.SIGINT)
        return update(micro_batches)

    trainer.update = interrupted
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.step == 3
    again = NeonTrainer(trainer.config, progress=False)
    assert again.step == 3 and torch.equal(weights_of(again), weights_of(trainer))


def test_sigterm_is_a_ctrl_c_and_one_may_follow_the_other():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    usual = signal.getsignal(signal.SIGTERM)
    try:
        with deferred_interrupt() as interrupt:
            assert not interrupt.asked
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)  # torchrun's, after the Ctrl-C that the whole group got
            assert interrupt.asked
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) == usual
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_one_process_that_is_told_to_stop_stops_all_and_they_go_on(tmp_path):
    tiny_training(tmp_path)
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29578"}
    code = script(tmp_path, "team", tmp_path / "team.pt", max_steps=4000, evaluate_every=1000)
    both = [start(code, RANK=str(rank), LOCAL_RANK=str(rank), **team) for rank in range(2)]
    follower = both[1].stdout
    assert follower is not None
    while "step 3" not in follower.readline():
        assert both[1].poll() is None
    both[1].send_signal(signal.SIGTERM)  # not the one that writes
    assert [process.wait(timeout=300) for process in both] == [-signal.SIGINT] * 2  # KeyboardInterrupt
    saved = torch.load(tmp_path / "team" / "state.pt", weights_only=True)
    assert 3 <= saved["step"] < 4000 and len(saved["losses"]) == saved["step"]


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    tiny_training(tmp_path)
    changes = {"max_steps": 50, "evaluate_every": 1000}
    alone = start(script(tmp_path, "alone", tmp_path / "alone.pt", batch_size=8, **changes))
    assert alone.wait(timeout=200) == 0
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577"}
    code = script(tmp_path, "team", tmp_path / "team.pt", batch_size=4, **changes)
    both = [start(code, RANK=str(rank), LOCAL_RANK=str(rank), **team) for rank in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    (_, losses), (_, team_losses) = torch.load(tmp_path / "alone.pt"), torch.load(tmp_path / "team.pt")
    assert len(losses) == 50
    np.testing.assert_allclose(team_losses, losses, rtol=1e-5)


def test_the_time_of_a_training_is_that_of_all_its_parts(tmp_path):
    config = tiny_training(tmp_path, evaluate_every=1)
    first = NeonTrainer(config, progress=False)
    first.seconds += 100.0  # an earlier part
    first.save()
    between = time.perf_counter()
    stats = NeonTrainer(config, progress=False).train()
    assert 100.0 < first.seconds < stats["seconds"] < first.seconds + time.perf_counter() - between
    seconds = [json.loads(line)["seconds"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(seconds) == 6 and seconds == sorted(seconds) and seconds[0] > 100.0
    again = NeonTrainer(config, progress=False).train()  # it is at its end
    assert again["steps"] == 6 and again["seconds"] < stats["seconds"] + 60.0


def test_every_source_counts_alike_where_the_best_is_chosen(tmp_path):
    write_episodes(tmp_path / "long", 4, steps=160)
    config = tiny_training(tmp_path, max_steps=1, gradient_accumulation=1, evaluate_samples=6)
    config.data = soup_of(tmp_path / "data", tmp_path / "long")
    trainer = NeonTrainer(config, progress=False)
    places = trainer.held_back.each(6)
    assert [name for name, *_ in places] == 3 * ["data"] + 3 * ["long"]
    errors = trainer.evaluate()
    assert errors["mse/data"] != errors["mse/long"]
    assert errors["mse"] == pytest.approx((errors["mse/data"] + errors["mse/long"]) / 2)
    mine = [place for place in places if place[0] == "long"]
    (group,) = group_windows(trainer.held_back.readable(mine))
    with torch.no_grad():
        chunk, _ = trainer.model(trainer.encode(group.frames, group.instructions), group.senses)
    error = ((chunk - group.chunk).square().mean(-1) * group.mask).sum() / group.mask.sum()
    assert errors["mse/long"] == pytest.approx(float(error), rel=1e-5)
    trainer.train()
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"mse", "mse/data", "mse/long"} <= set(line)


def test_other_settings_do_not_go_on_with_a_run(tmp_path):
    config = tiny_training(tmp_path, max_steps=1)
    NeonTrainer(config, progress=False)
    with pytest.raises(ValueError, match="begun with other settings"):
        NeonTrainer(replace(config, seed=1), progress=False)


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    config = tiny_training(tmp_path, max_steps=2)
    NeonTrainer(config, progress=False).save()
    write_episodes(tmp_path / "data", 2, first_seed=100)
    then, now = "7 episodes .21 samples. to learn from then", "9 episodes .27 samples. now"  # one is held back
    with pytest.raises(ValueError, match=f"The data of 'data' have changed .*{then}, {now}"):
        NeonTrainer(config, progress=False)
    for path in sorted((tmp_path / "data").glob("episode_01*")):
        path.unlink()
    assert NeonTrainer(config, progress=False).step == 0


def test_a_log_says_every_step_once_and_a_mean_spans_a_stop(tmp_path):
    config = tiny_training(tmp_path, max_steps=6, evaluate_every=3, gradient_accumulation=1)
    whole = NeonTrainer(replace(config, output_dir=str(tmp_path / "whole")), progress=False)
    whole.train()
    first = NeonTrainer(config, progress=False)
    steps = first._micro_batches()
    for _ in range(2):
        first.losses.append(first.update(next(steps)))
    first.save()
    log = tmp_path / "run" / "log.jsonl"
    log.write_text('{"step": 1, "train_loss": 0.5}\n{"step": 3, "train_loss": 0.1}\n{"st')  # it had come farther
    NeonTrainer(config, progress=False).train()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 3, 6]
    unbroken = json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[0])
    assert lines[1]["train_loss"] == unbroken["train_loss"]  # over steps 1 to 3, though 1 and 2 were before the stop


def test_a_bad_episode_is_named_or_left_out_of_training_and_judging(tmp_path):
    config = tiny_training(tmp_path, max_steps=3, gradient_accumulation=1)
    for path in (tmp_path / "data").iterdir():  # every one but two of those to learn from
        episode = NeonEpisode.load(path)
        if episode.instruction not in ("hold 0", "hold 2", "hold 4"):
            episode.actions[1] = np.nan
            episode.save(path)
    held_back = set(DataSoup(config.data, validation=True).episodes["data"].tolist())
    assert held_back == {1}
    with pytest.raises(
        ValueError, match="Episode . of 'data'.*action is not finite at step 1|episode .: action is not"
    ):
        NeonTrainer(config, progress=False).train()
    config.data = replace(config.data, skip_bad=True)
    config.output_dir = str(tmp_path / "skipping")
    with pytest.warns(UserWarning, match="Left out"):
        stats = NeonTrainer(config, progress=False).train()
    assert stats["steps"] == 3 and stats["skipped"]["data"] >= 2 and np.isfinite(stats["best_loss"])
    log = [json.loads(line) for line in (tmp_path / "skipping" / "log.jsonl").read_text().splitlines()]
    assert set(log[-1]) == {"step", "train_loss", "seconds"}  # nothing that was held back could be read


def test_doing_what_an_error_says_goes_on_in_the_same_folder(tmp_path):
    config = tiny_training(tmp_path, max_steps=2, gradient_accumulation=1)
    path = tmp_path / "data" / "episode_0003.npz"
    episode = NeonEpisode.load(path)
    episode.actions[1] = np.nan
    episode.save(path)
    with pytest.raises(ValueError, match="not finite at step 1.*leave it out with --skip-bad"):
        NeonTrainer(config, progress=False).train()
    assert (tmp_path / "run" / "settings.json").exists()
    config.data = replace(config.data, skip_bad=True, memory_mb=64.0)
    with pytest.warns(UserWarning, match="Left out"):
        stats = NeonTrainer(config, progress=False).train()
    assert stats["steps"] == 2 and stats["skipped"] == {"data": 1}
    told = json.loads((tmp_path / "run" / "data.json").read_text())["data"]
    assert told["skipped"] == 1 and told["episodes"] == 7


def test_a_typo_takes_no_folder(tmp_path):
    config = tiny_training(tmp_path, max_steps=1)
    right = config.data
    config.data = soup_of(tmp_path / "dtaa")
    with pytest.raises(FileNotFoundError, match="dtaa"):
        NeonTrainer(config, progress=False)
    config.data, config.teacher = right, str(tmp_path / "tacher")
    with pytest.raises(FileNotFoundError, match="tacher"):
        NeonTrainer(config, progress=False)
    assert not (tmp_path / "run").exists()
    config.teacher = None
    assert NeonTrainer(config, progress=False).step == 0


def test_how_data_are_read_is_no_setting_of_a_run(tmp_path):
    usual = tiny_training(tmp_path)
    other = tiny_training(tmp_path, feature_cache_gb=1.0)
    other.data = replace(other.data, skip_bad=True, memory_mb=64.0)
    assert str(other.decides()) == str(usual.decides())
    assert usual.decides()["data"] == usual.data and "feature_cache_gb" not in usual.decides()  # as runs began before
    other.data = replace(other.data, visit=2)
    assert str(other.decides()) != str(usual.decides())


def test_a_backbone_that_learns_goes_on_to_the_bit_and_keeps_its_statistics(tmp_path):
    config = tiny_training(tmp_path, feature_cache=None, max_steps=4, gradient_accumulation=1, learning_rate=1e-3)
    config.model = replace(config.model, backbone=replace(config.model.backbone, freeze_backbone=False))
    whole = NeonTrainer(config, progress=False)
    before = {name: value.clone() for name, value in whole.model.backbone.state_dict().items()}
    whole.train()
    parted = replace(config, output_dir=str(tmp_path / "parted"))
    first = NeonTrainer(parted, progress=False)
    for _, micro_batches in zip(range(2), first._micro_batches(), strict=False):
        first.update(micro_batches)
    first.save()
    second = NeonTrainer(parted, progress=False)
    assert second.step == 2
    second.train()
    assert torch.equal(weights_of(whole), weights_of(second))
    found, again = (one.model.backbone.state_dict() for one in (whole, second))
    statistics = {name for name, _ in whole.model.backbone.named_buffers()}
    assert any("running_var" in name for name in statistics)
    for name, value in found.items():
        assert torch.equal(value, again[name]), name
        assert torch.equal(value, before[name]) or name not in statistics, name
    assert not all(torch.equal(value, before[name]) for name, value in found.items())


def test_a_backbone_has_the_mode_of_the_model_if_it_learns(tmp_path):
    config = tiny_training(tmp_path).model
    frozen = NeonVLA(config).train()
    assert frozen.training and not any(module.training for module in frozen.backbone.modules())
    model = NeonVLA(replace(config, backbone=replace(config.backbone, freeze_backbone=False)))
    for learns in (model, model.eval().train()):
        modes = {type(module).__name__: module.training for module in learns.backbone.modules()}
        assert not modes.pop("BatchNorm2d") and all(modes.values())
    assert not any(module.training for module in model.eval().backbone.modules())


def test_a_kill_between_two_checkpoints_leaves_the_older_one(tmp_path):
    config = tiny_training(tmp_path, max_steps=2, evaluate_every=1, gradient_accumulation=1)
    NeonTrainer(config, progress=False).train()
    run = tmp_path / "run"
    (run / "best").rename(run / ".best.old")  # where `whole_folder` would have been killed
    shutil.copytree(run / "last", run / ".best.new")
    NeonTrainer(config, progress=False)
    assert NeonVLA.from_pretrained(run / "best").config == config.model
    assert not list(run.glob(".*")) and "# best" in (run / "best" / "README.md").read_text()


def test_tensorboard_shows_every_step_once_after_a_stop(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tiny_training(tmp_path, max_steps=4, evaluate_every=1, gradient_accumulation=1)
    first = NeonTrainer(config, progress=False)
    first.total_steps = 2
    first.train()
    killed = open_tensorboard(tmp_path / "run", 2)  # it had come farther than what it saved
    killed.add_scalar("train_loss", 99.0, 3)
    killed.close()
    NeonTrainer(config, progress=False).train()
    shown = EventAccumulator(str(tmp_path / "run")).Reload().Scalars("train_loss")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [event.step for event in shown] == [line["step"] for line in log] == [1, 2, 3, 4]
    np.testing.assert_allclose([event.value for event in shown], [line["train_loss"] for line in log], rtol=1e-6)


def test_columns_without_a_place_are_said_when_a_training_begins(tmp_path, capsys):
    names = [*G1_ARMS, "left_gripper"]
    arm = foreign_lerobot(tmp_path / "arm", angles(40, 15), angles(40, 15, 1), {"action": names, "proprio": names})
    config = tiny_training(tmp_path, max_steps=1, gradient_accumulation=1)
    config.data = replace(config.data, sources=[*config.data.sources, DataSourceConfig("arm", "lerobot", str(arm))])
    NeonTrainer(config).train()
    line = "Not learned from 'arm', because the G1 has no place for it: left_gripper."
    assert capsys.readouterr().out.count(line) == 1
    told = json.loads((tmp_path / "run" / "data.json").read_text())
    assert told["arm"]["mapping"]["dropped"] == ["left_gripper"] and "mapping" not in told["data"]


def test_an_optimiser_that_is_not_there_is_replaced_aloud(monkeypatch):
    for name in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, name, None)
    params = [torch.nn.Parameter(torch.zeros(2))]
    with pytest.warns(UserWarning, match="bitsandbytes is not installed: AdamW with 32-bit states"):
        found = make_optimizer(params, TrainConfig(optim="paged_adamw_8bit"))
    assert type(found) is torch.optim.AdamW and found.defaults["betas"] == (0.85, 0.99)


def test_a_hub_that_cannot_be_reached_is_said_and_stops_no_training(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    config = tiny_training(tmp_path, max_steps=2, evaluate_every=1, gradient_accumulation=1)
    config.hub_model_id, config.push_every_s = "me/policy", 0.0
    trainer = NeonTrainer(config, progress=False)
    warned = pytest.warns(UserWarning, match="Not pushed to me/policy: .*The training goes on")
    with warned, pytest.raises(OSError, match="Not pushed to me/policy: .*It lies in .*run.best"):
        trainer.train()
    assert trainer.step == 2 and (tmp_path / "run" / "state.pt").exists()  # what remains is to push


def test_a_loss_that_is_no_number_stops_it_and_harms_nothing(tmp_path):
    trainer = NeonTrainer(tiny_training(tmp_path), progress=False)
    trainer.save()
    saved = (tmp_path / "run" / "state.pt").read_bytes()
    kept = weights_of(trainer)[:-1]
    with torch.no_grad():
        list(trainer.model.parameters())[-1].view(-1)[-1] = torch.nan
    with pytest.raises(FloatingPointError, match="loss of step 0 is nan"):
        trainer.train()
    assert torch.equal(weights_of(trainer)[:-1], kept)  # nothing was stepped
    assert (tmp_path / "run" / "state.pt").read_bytes() == saved


def test_a_student_learns_its_teachers_chunks(tmp_path):
    teacher = NeonTrainer(tiny_training(tmp_path, max_steps=40, learning_rate=3e-3), progress=False)
    teacher.train()
    config = tiny_training(tmp_path, "student", max_steps=40, learning_rate=3e-3)
    config.teacher, config.teacher_weight = str(tmp_path / "run" / "best"), 0.9
    config.model = replace(config.model, mlp_hidden=12)
    student = NeonTrainer(config, progress=False)

    def distance() -> float:
        windows = [student.soup[k] for k in range(16)]
        (group,) = group_windows(windows)
        features = student.encode(group.frames, group.instructions)
        with torch.no_grad():
            student.model.eval()
            chunks = [model(features, group.senses)[0] for model in (student.model, student.teacher)]
            return float((chunks[0] - chunks[1]).square().mean())

    before = distance()
    student.train()
    assert distance() < 0.5 * before


def test_a_teacher_leaves_a_learning_backbone_free_and_looks_through_its_own(tmp_path):
    NeonTrainer(tiny_training(tmp_path, max_steps=1), progress=False).train()
    config = tiny_training(tmp_path, "student", feature_cache=None, max_steps=2, learning_rate=1e-2)
    config.teacher = str(tmp_path / "run" / "best")
    config.model = replace(config.model, backbone=replace(config.model.backbone, freeze_backbone=False))
    student = NeonTrainer(config, progress=False)
    eyes, own = student.model.backbone, student.teacher.backbone
    assert all(p.requires_grad for p in eyes.parameters()) and not any(p.requires_grad for p in own.parameters())
    (group,) = group_windows([student.soup[0]])
    before = [p.detach().clone() for p in eyes.parameters()]
    taught = teacher_chunk(student.teacher, student.model, student.encode(group.frames, group.instructions), group)
    student.train()
    assert max(float((p.detach() - b).abs().max()) for p, b in zip(eyes.parameters(), before, strict=True)) > 1e-4
    features = student.encode(group.frames, group.instructions)
    assert torch.equal(teacher_chunk(student.teacher, student.model, features, group), taught)
    kept = student.model.eval()
    kept.save_pretrained(tmp_path / "trained")  # with its eyes, 16 bits a weight
    frozen = tiny_training(tmp_path, "third")
    frozen.teacher = str(tmp_path / "trained")
    assert torch.equal(
        next(NeonTrainer(frozen, progress=False).teacher.backbone.parameters()),
        next(kept.backbone.parameters()).half().float(),
    )
    config = tiny_training(tmp_path, "other", feature_cache=None)
    config.teacher = str(tmp_path / "run" / "best")
    config.model = replace(config.model, backbone=replace(config.model.backbone, freeze_backbone=False, fps=2.0))
    with pytest.raises(ValueError, match=r"looks at clips of .* \(4.0, 4, 128\), the student at \(2.0, 4, 128\)"):
        NeonTrainer(config, progress=False)


def test_samples_with_other_senses_make_another_group():
    def window(**senses: int) -> Window:
        arrays = {name: np.zeros(width, np.float32) for name, width in senses.items()}
        return Window("a", None, "", arrays, np.zeros((16, 17), np.float32), np.ones(16, np.float32), -1, np.zeros(3))

    groups = group_windows([window(proprio=125), window(proprio=125, imu=6), window(proprio=125)])
    assert [len(group) for group in groups] == [2, 1] and set(groups[1].senses) == {"proprio", "imu"}
    assert groups[0].entries == 2 * 16 * 17 and groups[0].goals == 0


def test_processes_share_consecutive_samples_and_workers_change_nothing(tmp_path):
    soup = DataSoup(soup_of(write_episodes(tmp_path / "a", 4)))
    alone = [group.instructions for batch in batches(soup, 4, 0, 2) for group in batch]
    shared = [[group.instructions for batch in batches(soup, 2, 0, 2, rank, 2) for group in batch] for rank in (0, 1)]
    assert alone[0] == shared[0][0] + shared[1][0] and alone[1] == shared[0][1] + shared[1][1]
    elsewhere = [group.instructions for batch in batches(soup, 4, 0, 2, workers=1) for group in batch]
    assert elsewhere == alone


def test_the_rate_warms_up_and_falls_to_nothing():
    config = TrainConfig(learning_rate=1.0, warmup_ratio=0.1)
    assert rate_at(0, 100, config) == pytest.approx(1 / 11)
    assert rate_at(10, 100, config) == 1.0
    assert rate_at(55, 100, config) == pytest.approx(0.5)  # half of the cosine
    assert rate_at(100, 100, config) == pytest.approx(0.0)


def test_an_average_lags_and_leaves_the_weights_alone():
    param = torch.nn.Parameter(torch.tensor([0.0]))
    average = WeightAverage([param], 0.5)
    param.data.fill_(1.0)
    average.update(1)  # the first step is taken whole
    assert average.values[0].item() == 1.0
    param.data.fill_(3.0)
    average.update(100)
    assert average.values[0].item() == 2.0
    with average.in_place():
        assert param.item() == 2.0
    assert param.item() == 3.0


def test_a_wrong_setting_is_named(tmp_path):
    with pytest.raises(ValueError, match="TrainConfig.data is missing"):
        TrainConfig().check()
    with pytest.raises(ValueError, match="TrainConfig.batch_size must be positive, got 0"):
        TrainConfig(batch_size=0).check()
    with pytest.raises(ValueError, match="Did you mean 'adamw'"):
        TrainConfig(optim="adam").check()
    for name in ("num_workers", "sample_cache_gb", "feature_cache_gb"):
        with pytest.raises(ValueError, match=f"TrainConfig.{name} must not be negative, got -1"):
            TrainConfig(**{name: -1}).check()
    assert tiny_episode(0).actions.shape == (40, 17)

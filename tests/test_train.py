"""NeonTrainer: it learns, goes on after SIGKILL as if nothing had been; two processes are one with twice the batch."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import soup_of, tiny_episode, write_episodes
from tiny_neon import tiny_config

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.windows import Window
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.averaging import WeightAverage
from neon_sim.training.batches import batches, group_windows
from neon_sim.training.optim import rate_at
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig

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
    torch.save((weights_of(trainer), losses), {result!r})
"""


def script(folder: Path, out: str, result: Path, **changes) -> str:
    return SCRIPT.format(tests=str(TESTS), folder=str(folder), out=out, changes=changes, result=str(result))


def start(code: str, **env: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)


def test_a_run_that_is_killed_and_begun_again_is_the_unbroken_one(tmp_path):
    tiny_training(tmp_path)  # writes data and backbone
    changes = {"max_steps": 12, "save_every_s": 0.0}
    unbroken = start(script(tmp_path, "unbroken", tmp_path / "a.pt", **changes))
    assert unbroken.wait(timeout=120) == 0
    code = script(tmp_path, "killed", tmp_path / "b.pt", **changes)
    victim = start(code)
    assert victim.stdout is not None
    while "step 5" not in victim.stdout.readline():
        pass
    time.sleep(0.02)  # somewhere in a step or in a save
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    again = start(code)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and 0 < int(out.split()[1]) < 12
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


def test_other_settings_do_not_go_on_with_a_run(tmp_path):
    config = tiny_training(tmp_path, max_steps=1)
    NeonTrainer(config, progress=False)
    with pytest.raises(ValueError, match="begun with other settings"):
        NeonTrainer(replace(config, seed=1), progress=False)


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
    assert tiny_episode(0).actions.shape == (40, 17)

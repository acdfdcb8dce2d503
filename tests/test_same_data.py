"""Data that were recorded anew under the same path: the old samples are not used, and no run goes on with the new."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import soup_of, tiny_episode, write_episodes
from tiny_neon import tiny_config

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.data_stamp import stamp_of
from neon_sim.data.lerobot import LeRobotReader, LeRobotWriter
from neon_sim.episode import NeonEpisode
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig


def record(folder: Path, first_seed: int) -> Path:
    """Four episodes of forty steps, in the place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    with LeRobotWriter(folder) as writer:
        for seed in range(first_seed, first_seed + 4):
            writer.add(tiny_episode(seed))
    return folder


def config_on(folder: Path, data: Path, out: str = "run") -> TrainConfig:
    model = tiny_config(folder / "backbone", use_lidar=False, use_audio=False)
    settings = {"optim": "adamw", "bf16": False, "device": "cpu", "batch_size": 4, "gradient_accumulation": 1}
    return TrainConfig(model, soup_of(data), str(folder / out), max_steps=4, **settings)


def cached_in(folder: Path) -> set[Path]:
    return set((folder / "run" / "samples").rglob("*.safetensors"))


def begin(config: TrainConfig, steps: int) -> NeonTrainer:
    """A run that was stopped after so many steps."""
    trainer = NeonTrainer(config, progress=False)
    for _, micro_batches in zip(range(steps), trainer._micro_batches(), strict=False):
        trainer.update(micro_batches)
    trainer.save()
    return trainer


def weights_of(trainer: NeonTrainer) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters()])


def test_samples_of_what_was_recorded_before_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = record(tmp_path / "set", 0)
    NeonTrainer(config_on(tmp_path, data), progress=False)  # killed before it had saved anything
    old = cached_in(tmp_path)
    assert len(old) == 3
    with monkeypatch.context() as patched:
        patched.setattr(LeRobotReader, "episode", None)  # nothing that is kept is read again
        NeonTrainer(config_on(tmp_path, data), progress=False)
    assert cached_in(tmp_path) == old
    record(data, 50)
    again = NeonTrainer(config_on(tmp_path, data), progress=False)
    plain = DataSoup(soup_of(data), windows=again.windows)
    for k in range(12):
        np.testing.assert_array_equal(again.soup[k].frames, plain[k].frames)
        assert again.soup[k].instruction in {f"hold {seed}" for seed in range(50, 54)}
    assert len(cached_in(tmp_path) - old) == 3


def test_a_single_file_deep_in_the_folder_is_enough(tmp_path: Path) -> None:
    write_episodes(tmp_path / "set" / "monday", 2)
    write_episodes(tmp_path / "set" / "tuesday", 2, first_seed=2)
    first = NeonTrainer(config_on(tmp_path, tmp_path / "set"), progress=False)
    old = cached_in(tmp_path)
    tiny_episode(9).save(tmp_path / "set" / "tuesday" / "episode_0003.npz")
    again = NeonTrainer(config_on(tmp_path, tmp_path / "set"), progress=False)
    assert again.soup.samples is not None and first.soup.samples is not None
    assert again.soup.samples.folder != first.soup.samples.folder and len(cached_in(tmp_path)) == 2 * len(old)


def test_a_run_is_refused_what_was_recorded_anew_and_goes_on_with_a_copy(tmp_path: Path) -> None:
    data = record(tmp_path / "set", 0)
    whole = NeonTrainer(config_on(tmp_path, data, "whole"), progress=False)
    whole.train()
    begin(config_on(tmp_path, data), 2)
    shutil.copytree(data, tmp_path / "kept", copy_function=shutil.copyfile)
    record(data, 50)
    with pytest.raises(
        ValueError, match="The files of 'set' have changed .* then, .* now.*Put them back.*another folder"
    ):
        NeonTrainer(config_on(tmp_path, data), progress=False)
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "kept", data, copy_function=shutil.copyfile)  # other times, the same files
    rest = NeonTrainer(config_on(tmp_path, data), progress=False)
    assert rest.step == 2
    rest.train()
    assert torch.equal(weights_of(rest), weights_of(whole))


def test_states_from_before_there_were_stamps_go_on(tmp_path: Path) -> None:
    config = config_on(tmp_path, record(tmp_path / "set", 0))
    begin(config, 1)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    del state["files"]
    torch.save(state, tmp_path / "run" / "state.pt")
    assert NeonTrainer(config, progress=False).step == 1


def test_a_stamp_knows_copies_and_what_was_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in range(40):
        (folder / f"part_{number % 3}").mkdir(parents=True, exist_ok=True)
        (folder / f"part_{number % 3}" / f"{number}.bin").write_bytes(bytes([number]) * 20_000)
    first = stamp_of(folder)
    assert (first.files, first.size) == (40, 800_000) and stamp_of(folder) == first
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = stamp_of(tmp_path / "copy")
    assert copy.told() == first.told() and copy.written != first.written
    (folder / ".lock").write_bytes(b"hidden")
    assert stamp_of(folder) == first
    os.utime(folder / "part_1" / "4.bin", ns=(1, 1))
    assert stamp_of(folder).written != first.written and stamp_of(folder).content == first.content
    for path in folder.glob("*/*.bin"):
        path.write_bytes(path.read_bytes()[::-1].replace(b"\x05", b"\x06"))  # of the same size
    assert stamp_of(folder).content != first.content


def test_a_stamp_of_odd_places(tmp_path: Path) -> None:
    NeonEpisode({}, np.zeros((2, 17), np.float32)).save(tmp_path / "a.npz")
    alone = stamp_of(tmp_path / "a.npz")
    assert alone.files == 1 and stamp_of(tmp_path / "none").files == 0
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text("{}")
    (tmp_path / "run" / "round").symlink_to(tmp_path)  # a circle
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert stamp_of(tmp_path).files == 2 and stamp_of(tmp_path, tmp_path / "run").files == 1
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a.npz").symlink_to(tmp_path / "a.npz")  # as the hub's downloads are
    assert stamp_of(tmp_path / "linked").size == alone.size

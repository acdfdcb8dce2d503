"""Samples on disk: the same to the bit, decoded once, bounded, and no file is trusted that is not whole."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from tiny_data import SIDE, soup_of, tiny_episode, write_episodes
from tiny_neon import tiny_config

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.data.sample_cache import SampleCache
from neon_sim.data.windows import Window
from neon_sim.training.batches import batches
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig


def assert_same(one: Window, other: Window) -> None:
    for field in fields(Window):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])
        else:
            np.testing.assert_array_equal(a, b)
            assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Six episodes in mp4 files, one of which knows its goal."""
    with LeRobotWriter(tmp_path / "set") as writer:
        for seed in range(6):
            episode = tiny_episode(seed)
            episode.infos = {"goal_hand": np.full(40, seed % 2), "goal_pos_b": np.full((40, 3), 0.1 * seed)}
            writer.add(episode)
    return tmp_path / "set"


def test_samples_are_the_same_and_their_videos_are_not_wanted_again(recorded: Path, tmp_path: Path) -> None:
    config = soup_of(recorded, memory_mb=0.1)
    without, soup = DataSoup(config), DataSoup(config)
    soup.samples = SampleCache(tmp_path / "samples", 1.0)
    first = [soup[k] for k in range(60)]
    for k, window in enumerate(first):
        assert_same(window, without[k])
    for path in recorded.rglob("*.mp4"):
        path.unlink()
    later = DataSoup(config)
    later.samples = SampleCache(tmp_path / "samples", 1.0)
    for k, window in enumerate(first):
        assert_same(window, later[k])
    elsewhere = [group for batch in batches(later, 4, 0, 3, workers=1) for group in batch]
    assert [words for group in elsewhere for words in group.instructions] == [w.instruction for w in first[:12]]
    with pytest.raises(ValueError, match="No video"):
        without._kept.clear()
        [without[k] for k in range(60)]


def test_an_episode_without_pictures_is_kept_too(tmp_path: Path) -> None:
    soup = DataSoup(soup_of(write_episodes(tmp_path / "a", 2), validation_share=0.0))
    episode = soup.episode("a", 0)
    del episode.observations["camera"]
    before = soup.window("a", 0, 16)
    soup.samples = SampleCache(tmp_path / "samples", 1.0)
    soup.window("a", 0, 16)
    assert_same(soup.samples.read("a", 0, 1), before)
    assert before.frames is None and soup.samples.count("a", 0) == 3 and soup.samples.count("a", 1) is None


def test_the_disk_that_it_takes_is_bounded(tmp_path: Path) -> None:
    config = soup_of(write_episodes(tmp_path / "a", 6), validation_share=0.0)
    size = 3 * 4 * SIDE * SIDE * 3 / 2**30  # GB of three clips
    soup, plain = DataSoup(config), DataSoup(config)
    soup.samples = SampleCache(tmp_path / "samples", 2.5 * size)
    for k in range(60):
        assert_same(soup[k], plain[k])
    assert soup.samples.full and len(list((tmp_path / "samples").iterdir())) == 2
    again = SampleCache(tmp_path / "samples", 2.5 * size)  # what is there counts
    again.write("a", 9, [plain[0]] * 3)
    assert again.full and len(list((tmp_path / "samples").iterdir())) == 2


def test_a_damaged_file_is_read_again_from_its_source(tmp_path: Path) -> None:
    soup = DataSoup(soup_of(write_episodes(tmp_path / "a", 1), validation_share=0.0))
    soup.samples = SampleCache(tmp_path / "samples", 1.0)
    whole = soup[0]
    (path,) = (tmp_path / "samples").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is damaged"):
        assert_same(soup[0], whole)
    assert soup.samples.count("a", 0) == 3


def test_a_run_keeps_them_until_it_ends(recorded: Path, tmp_path: Path) -> None:
    model = tiny_config(tmp_path / "backbone", use_lidar=False, use_audio=False)
    settings = {"optim": "adamw", "bf16": False, "device": "cpu", "batch_size": 4, "gradient_accumulation": 1}
    config = TrainConfig(model, soup_of(recorded), str(tmp_path / "run"), max_steps=2, **settings)
    trainer = NeonTrainer(config, progress=False)
    folder = tmp_path / "run" / "samples"
    assert len(list(folder.rglob("*.safetensors"))) == 5  # the statistics saw every one to learn from
    trainer.train()
    assert not folder.exists()
    config.output_dir, config.sample_cache_gb = str(tmp_path / "without"), 0.0
    plain = NeonTrainer(config, progress=False)
    plain.train()
    assert not (tmp_path / "without" / "samples").exists()
    for a, b in zip(trainer.model.parameters(), plain.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())

"""What a policy does not look at is not read: garbage in its files stops no training, and is found by who looks."""

import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_folders import agibot_folder
from source_files import ALL, source_config
from tiny_data import soup_of, tiny_episode
from tiny_neon import tiny_config, tiny_model

from neon_sim.data import video
from neon_sim.data.data_soup import DataSoup
from neon_sim.data.lerobot import LeRobotReader, LeRobotWriter, merge
from neon_sim.data.source import BadEpisodeError, DataSourceConfig
from neon_sim.data.sources import open_source
from neon_sim.data.windows import KEYS, WindowConfig
from neon_sim.episode import NeonEpisode
from neon_sim.eval.offline import evaluate_offline, open_dataset
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig

GARBAGE = b"no video at all"
VIEW = Path(__file__).resolve().parents[1] / "agents" / "view.py"


def two_cameras(seed: int) -> NeonEpisode:
    """Forty steps of a head's and a wrist's camera, LiDAR, and depth in the table itself."""
    rng = np.random.default_rng(seed)
    wrist = np.full((40, 64, 64, 3), 40 * seed, np.uint8)
    depth, lidar = rng.random((40, 6, 8)).astype(np.float32), rng.random((40, 30)).astype(np.float32)
    return tiny_episode(seed, wrist_left=wrist, depth=depth, lidar=lidar)


def spoil(folder: Path, camera: str) -> None:
    """Every video of a camera becomes something else."""
    for path in folder.glob(f"videos/**/*{camera}/**/*.mp4"):
        path.write_bytes(GARBAGE)


@pytest.fixture(params=["v2.1", "v3.0"])
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four episodes, in small files or in packed ones."""
    with LeRobotWriter(tmp_path / "shard", version=request.param) as writer:
        for seed in range(4):
            writer.add(two_cameras(seed))
    return merge([tmp_path / "shard"], tmp_path / "set", request.param)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The video files that are opened from now on, by name of their camera's folder."""
    found: list[str] = []
    really = video.av.open

    def noting(path: str, *more: Any, **options: Any) -> Any:
        found.append(path)
        return really(path, *more, **options)

    monkeypatch.setattr(video.av, "open", noting)
    yield found


def train_config(folder: Path, data: Path, out: str, **senses: Any) -> TrainConfig:
    model = tiny_config(folder / "backbone", **{"use_lidar": False, "use_audio": False, **senses})
    settings = {"optim": "adamw", "bf16": False, "device": "cpu", "batch_size": 4, "gradient_accumulation": 1}
    return TrainConfig(model, soup_of(data), str(folder / out), max_steps=2, **settings)


def test_a_training_opens_the_videos_of_its_camera_alone(recorded: Path, tmp_path: Path, opened: list[str]) -> None:
    spoil(recorded, "wrist_left")
    trainer = NeonTrainer(train_config(tmp_path, recorded, "run"), progress=False)
    assert trainer.windows.keys == ("camera", "proprio", "eef")
    trainer.train()
    assert opened and all("images.camera" in path for path in opened)
    model = tiny_model(tmp_path / "backbone", use_lidar=False, use_audio=False)
    judged = open_dataset(str(recorded), "neon_sim", model)
    assert evaluate_offline(model, judged, 2).chunks == 6
    assert set(judged.episode("dataset", 0).observations) == {"camera", "proprio", "eef"}
    assert all("images.camera" in path for path in opened)


def test_whoever_asks_for_a_broken_camera_is_told(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(recorded, "wrist_left")
    with pytest.raises(BadEpisodeError, match="images.wrist_left.*bad video"):
        LeRobotReader(recorded).episode(0)
    with pytest.raises(ValueError, match="images.wrist_left.*bad video"):
        open_source(DataSourceConfig("x", "neon_sim", str(recorded))).episode(0)
    monkeypatch.setattr(sys, "argv", ["view.py", str(recorded), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="images.wrist_left.*bad video"):
        runpy.run_path(str(VIEW), run_name="__main__")
    spoil(recorded, "images.camera")
    soup = DataSoup(soup_of(recorded, validation_share=0.0, skip_bad=True))
    with pytest.warns(UserWarning, match="images.camera"), pytest.raises(ValueError, match="Not one episode"):
        soup[0]
    assert soup.skipped == {"set": 4}
    blind = DataSoup(soup_of(recorded), windows=WindowConfig(keys=("proprio",)))[0]
    assert blind.frames is None and list(blind.senses) == ["proprio"]


def test_samples_are_the_same_as_those_cut_from_everything(recorded: Path) -> None:
    whole = LeRobotReader(recorded).episode(2)
    some = LeRobotReader(recorded).episode(2, ("camera", "lidar"))
    assert list(some.observations) == ["camera", "lidar"]
    for key, values in some.observations.items():
        np.testing.assert_array_equal(values, whole.observations[key])
    np.testing.assert_array_equal(some.actions, whole.actions)
    assert some.instruction == whole.instruction
    assert set(DataSoup(soup_of(recorded)).episode("set", 2).observations) == set(whole.observations) - {"wrist_left"}


def test_an_unread_column_may_hold_anything(tmp_path: Path) -> None:
    odd = two_cameras(0)
    odd.observations["lidar"] = odd.observations["lidar"].copy()
    (tmp_path / "npz").mkdir()
    with LeRobotWriter(tmp_path / "lerobot") as writer:
        writer.add(odd)
    path = next((tmp_path / "lerobot").glob("data/**/*.parquet"))
    table = pq.read_table(path)
    lidar = pa.FixedSizeListArray.from_arrays(pa.array(np.full(40 * 30, np.nan, np.float32)), 30)
    pq.write_table(table.set_column(table.column_names.index("observation.lidar"), "observation.lidar", lidar), path)
    odd.observations["lidar"][3] = np.nan
    odd.save(tmp_path / "npz" / "a.npz")
    for folder in (tmp_path / "npz", tmp_path / "lerobot"):
        sees = WindowConfig(keys=("camera", "proprio"))
        assert set(DataSoup(soup_of(folder), windows=sees)[0].senses) == {"proprio"}
        with pytest.raises(ValueError, match="lidar"):
            DataSoup(soup_of(folder))[0]


def test_what_a_teacher_looks_at_is_read_as_well(recorded: Path, tmp_path: Path) -> None:
    tiny_model(tmp_path / "backbone", use_audio=False).save_pretrained(tmp_path / "teacher")
    config = replace(train_config(tmp_path, recorded, "run"), teacher=str(tmp_path / "teacher"))
    trainer = NeonTrainer(config, progress=False)
    assert trainer.windows.keys == ("camera", "proprio", "eef", "lidar") and "lidar" in trainer.soup[0].senses
    with pytest.raises(ValueError, match="observation of a sample 'wrist_left'.*Valid: camera, proprio"):
        WindowConfig(keys=("wrist_left",))
    assert WindowConfig().keys == KEYS


@pytest.mark.parametrize("kind", ALL)
def test_no_kind_of_source_decodes_pictures_that_nobody_wants(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(source_config(kind, tmp_path / kind))
    whole = source.episode(0)

    def decoded(*_: Any, **__: Any) -> None:
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(video, "iterate_video", decoded)
    monkeypatch.setattr("PIL.Image.open", decoded)
    blind = source.episode(0, ("proprio", "eef"))
    assert set(blind.observations) == {"proprio", "eef"}
    np.testing.assert_array_equal(blind.actions, whole.actions)
    assert source.succeeded(0) == whole.success


def test_both_pictures_of_a_stereo_clip_are_decoded_for_who_wants_both(tmp_path: Path, opened: list[str]) -> None:
    source = open_source(source_config("stereo4d", tmp_path / "clips"))
    opened.clear()
    assert set(source.episode(0, KEYS).observations) == {"camera", "proprio", "eef"}
    assert opened and not any("right" in path for path in opened)
    assert source.episode(0).observations["stereo"].shape[2] == 2 * source.episode(0).observations["camera"].shape[2]


def test_anybodys_episode_says_that_it_succeeded(tmp_path: Path) -> None:
    folder = agibot_folder(tmp_path / "agibot")
    source = open_source(DataSourceConfig("x", "agibot", str(folder)))
    assert not source.succeeded(0) and not source.episode(0).success
    for path in folder.glob("data/**/*.parquet"):
        table = pq.read_table(path)
        ended = pa.array(np.arange(table.num_rows) == table.num_rows - 1)
        pq.write_table(table.set_column(table.column_names.index("next.success"), "next.success", ended), path)
    source = open_source(DataSourceConfig("x", "agibot", str(folder)))
    assert source.succeeded(0) and source.episode(0).success

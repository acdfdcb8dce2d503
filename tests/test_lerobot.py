"""LeRobot folders, v2.1 and v3.0: what is written is what is read, and what others would read."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from lerobot_episodes import WORDS, assert_same, full_episode, numbered_pictures, read_numbers

from neon_sim.data.lerobot import LeRobotReader, LeRobotWriter, merge
from neon_sim.data.lerobot.stats import combine_stats, episode_stats
from neon_sim.data.video import decode_video
from neon_sim.episode import NeonEpisode

VERSIONS = ("v2.1", "v3.0")


def record(folder: Path, version: str, episodes: list[NeonEpisode], **options: bool) -> Path:
    """A data set of these episodes."""
    with LeRobotWriter(folder, version, **options) as writer:
        for episode in episodes:
            writer.add(episode)
    return folder


def simple(steps: int, value: float = 0.0, words: str = "stand") -> NeonEpisode:
    """An episode whose every number is `value`."""
    return NeonEpisode({"eef": np.full((steps, 14), value, np.float32)}, np.full((steps, 17), value, np.float32),
                       instruction=words)  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_every_modality_comes_back(tmp_path: Path, version: str) -> None:
    episodes = [full_episode(6), full_episode(9, 1, "other words"), full_episode(3, 2)]
    reader = LeRobotReader(record(tmp_path / "set", version, episodes))
    assert len(reader) == 3 and [reader.steps(i) for i in range(3)] == [6, 9, 3]
    for index in (2, 0, 1):
        assert_same(reader.episode(index), episodes[index])
    assert reader.tasks == [WORDS, "other words"]
    assert reader.names("action")[14:] == ("vx", "vy", "yaw_rate")
    assert reader.names("observation.state")[29] == "left_hip_pitch_joint.vel"
    with pytest.raises(IndexError, match="3 episodes, number 3"):
        reader.episode(3)


@pytest.mark.parametrize("version", VERSIONS)
def test_pictures_without_video_come_back_to_the_bit(tmp_path: Path, version: str) -> None:
    folder = record(tmp_path / "set", version, [full_episode(4)], use_videos=False)
    assert_same(LeRobotReader(folder).episode(0), full_episode(4), loose=())
    assert list(folder.rglob("*.mp4")) == []


ARRAYS = st.sampled_from([np.float32, np.float64, np.int64, np.int16, np.uint8, np.bool_]).flatmap(
    lambda dtype: npst.arrays(
        dtype,
        st.tuples(st.just(5), *[st.integers(1, 4)] * 2) | st.tuples(st.just(5), st.integers(1, 4)) | st.just((5,)),
        elements={"min_value": -1e6, "max_value": 1e6} if np.dtype(dtype).kind == "f" else None,
    )
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=ARRAYS, name=st.text("abcxyz_", min_size=1, max_size=8), version=st.sampled_from(VERSIONS))
def test_any_array_comes_back(tmp_path_factory: pytest.TempPathFactory, values, name, version) -> None:
    episode = NeonEpisode({f"k{name}": values}, np.zeros((5, 3), np.float32), infos={name: values[::-1]})
    folder = record(tmp_path_factory.mktemp("any") / "set", version, [episode])
    assert_same(LeRobotReader(folder).episode(0), episode)


@pytest.mark.parametrize("recorded", VERSIONS)
@pytest.mark.parametrize("merged", VERSIONS)
def test_merging_keeps_every_episode_in_order(tmp_path: Path, recorded: str, merged: str) -> None:
    first = [full_episode(5), full_episode(7, 1, "other words")]
    second = [full_episode(4, 2, "third")]
    shards = [record(tmp_path / name, recorded, part) for name, part in (("a", first), ("b", second))]
    out = merge(shards, tmp_path / "all", merged)
    reader = LeRobotReader(out)
    for index, episode in enumerate(first + second):
        assert_same(reader.episode(index), episode)
    assert reader.tasks == [WORDS, "other words", "third"]
    assert reader.info.total_frames == 16
    assert [path.name for path in tmp_path.iterdir() if "merging" in path.name] == []
    if merged == "v3.0":
        assert len(list(out.rglob("*.parquet"))) == 3 and len(list(out.rglob("*.mp4"))) == 2  # one file of each kind
        assert pq.ParquetFile(out / "data/chunk-000/file-000.parquet").num_row_groups == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_frames_are_exact_in_each_episode_of_a_merged_set(tmp_path: Path, version: str) -> None:
    def film(numbers: range) -> NeonEpisode:
        return NeonEpisode({"camera": numbered_pictures(numbers)}, np.zeros((len(numbers), 17), np.float32))

    parts = [range(0, 30), range(30, 101), range(101, 104)]
    shard = record(tmp_path / "shard", "v2.1", [film(part) for part in parts])
    reader = LeRobotReader(merge([shard], tmp_path / "all", version))
    for index in (1, 2, 0):
        assert read_numbers(reader.episode(index).observations["camera"]) == list(parts[index])
    assert "camera" not in LeRobotReader(tmp_path / "all", cameras=False).episode(0).observations


def test_v21_files_are_as_published(tmp_path: Path) -> None:
    folder = record(tmp_path / "set", "v2.1", [full_episode(6), full_episode(4, 1, "b")])
    info = json.loads((folder / "meta/info.json").read_text())
    counts = {"total_episodes": 2, "total_frames": 10, "total_tasks": 2, "total_videos": 4, "total_chunks": 1}
    assert info | counts == info and info["codebase_version"] == "v2.1" and info["splits"] == {"train": "0:2"}
    assert info["fps"] == 50 and info["chunks_size"] == 1000 and info["robot_type"] == "unitree_g1"
    assert info["data_path"] == "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    assert info["video_path"] == "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    camera = info["features"]["observation.images.camera"]
    assert (camera["dtype"], camera["shape"]) == ("video", [32, 48, 3])
    assert camera["names"] == ["height", "width", "channels"] and camera["info"]["video.fps"] == 50
    assert info["features"]["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}
    assert info["features"]["observation.state"]["shape"] == [87]
    assert info["features"]["observation.audio"]["dtype"] == "int16"
    assert info["features"]["observation.depth"]["info"] == {"is_depth_map": True, "depth_unit": "mm"}

    tasks = [json.loads(line) for line in (folder / "meta/tasks.jsonl").read_text().splitlines()]
    assert tasks == [{"task_index": 0, "task": WORDS}, {"task_index": 1, "task": "b"}]
    rows = [json.loads(line) for line in (folder / "meta/episodes.jsonl").read_text().splitlines()]
    assert rows[1] == {"episode_index": 1, "tasks": ["b"], "length": 4}
    table = pq.read_table(folder / "data/chunk-000/episode_000001.parquet")
    assert set(table.column_names) == {name for name, f in info["features"].items() if f["dtype"] != "video"}
    assert table["index"].to_pylist() == [6, 7, 8, 9] and table["task_index"].to_pylist() == [1] * 4
    assert table["timestamp"].to_pylist() == pytest.approx([0.0, 0.02, 0.04, 0.06])
    assert str(table.schema.field("action").type) == "fixed_size_list<element: float>[17]"
    assert len(decode_video(folder / "videos/chunk-000/observation.images.camera/episode_000001.mp4", 50)) == 4


def test_v30_files_are_as_published(tmp_path: Path) -> None:
    folder = record(tmp_path / "set", "v2.1", [full_episode(6), full_episode(4, 1, "b")])
    folder = merge([folder], tmp_path / "all", "v3.0")
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and "total_chunks" not in info and "total_videos" not in info
    assert (info["data_files_size_in_mb"], info["video_files_size_in_mb"]) == (100, 200)
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    row = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[1]
    camera = "videos/observation.images.camera"
    wanted = {"episode_index": 1, "tasks": ["b"], "length": 4, "dataset_from_index": 6, "dataset_to_index": 10}
    wanted |= {"data/chunk_index": 0, "data/file_index": 0, f"{camera}/chunk_index": 0, f"{camera}/file_index": 0}
    wanted |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
    assert row | wanted == row
    assert (row[f"{camera}/from_timestamp"], row[f"{camera}/to_timestamp"]) == pytest.approx((0.12, 0.2))
    assert row["stats/action/count"] == [4] and len(row["stats/action/mean"]) == 17
    assert np.shape(row["stats/observation.images.camera/mean"]) == (3, 1, 1)
    tasks = pq.read_table(folder / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": [WORDS, "b"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_statistics_are_those_of_all_steps(tmp_path: Path) -> None:
    episodes = [simple(2, 1.0), simple(6, 5.0)]
    folder = merge([record(tmp_path / "set", "v2.1", episodes)], tmp_path / "all", "v3.0")
    stats = json.loads((folder / "meta/stats.json").read_text())["action"]
    # 2 ones and 6 fives: mean 32 / 8 = 4, variance (2 * 9 + 6 * 1) / 8 = 3.
    assert stats["mean"] == pytest.approx([4.0] * 17) and stats["std"] == pytest.approx([3.0**0.5] * 17)
    assert (stats["min"][0], stats["max"][0], stats["count"]) == (1.0, 5.0, [8])


@settings(max_examples=30, deadline=None)
@given(values=npst.arrays(np.float64, (12, 3), elements=st.floats(-100, 100)), cut=st.integers(1, 11))
def test_statistics_of_parts_combine_to_those_of_the_whole(values: np.ndarray, cut: int) -> None:
    from neon_sim.data.lerobot.features import Feature

    features = {"x": Feature("float64", (3,))}
    parts = [episode_stats({"x": part}, features) for part in (values[:cut], values[cut:])]
    combined, whole = combine_stats(parts)["x"], episode_stats({"x": values}, features)["x"]
    for name, value in whole.items():
        assert combined[name] == pytest.approx(value, abs=1e-9), name


def test_picture_statistics_are_per_channel_and_in_unit_range(tmp_path: Path) -> None:
    pictures = np.zeros((4, 8, 8, 3), np.uint8)
    pictures[:, :, 4:, 0] = 255  # red in half of each picture
    episode = NeonEpisode({"camera": pictures}, np.zeros((4, 17), np.float32))
    folder = record(tmp_path / "set", "v2.1", [episode])
    line = json.loads((folder / "meta/episodes_stats.jsonl").read_text())
    stats = line["stats"]["observation.images.camera"]
    assert stats["mean"] == [[[0.5]], [[0.0]], [[0.0]]] and stats["std"] == [[[0.5]], [[0.0]], [[0.0]]]
    assert stats["max"] == [[[1.0]], [[0.0]], [[0.0]]] and stats["count"] == [4]


@pytest.mark.parametrize("version", VERSIONS)
def test_episodes_come_at_the_rate_that_is_asked_for(tmp_path: Path, version: str) -> None:
    ramp = np.arange(10, dtype=np.float32)
    episode = NeonEpisode({"eef": np.tile(ramp[:, None], 14)}, np.tile(ramp[:, None], 17), rate_hz=25.0)
    reader = LeRobotReader(record(tmp_path / "set", version, [episode]), rate_hz=50.0)
    read = reader.episode(0)
    assert len(read) == 20 == reader.steps(0) and read.rate_hz == 50.0
    assert read.actions[:, 0].tolist() == [*np.arange(0, 9.5, 0.5), 9.0]


def test_audio_becomes_pcm16(tmp_path: Path) -> None:
    sound = np.array([[-2.0, -1.0, 0.0, 0.5, 1.0]], np.float32)
    folder = record(tmp_path / "set", "v2.1", [NeonEpisode({"audio": sound}, np.zeros((1, 17), np.float32))])
    stored = pq.read_table(folder / "data/chunk-000/episode_000000.parquet")["observation.audio"].to_pylist()
    assert stored == [[-32767, -32767, 0, 16384, 32767]]
    read = LeRobotReader(folder).episode(0).observations["audio"]
    assert read == pytest.approx(np.clip(sound, -1, 1), abs=0.5 / 32767 + 1e-7)


def test_a_set_by_others_is_read_without_our_notes(tmp_path: Path) -> None:
    folder = record(tmp_path / "set", "v2.1", [full_episode(5, 1)])
    (folder / "meta/neon.json").unlink()
    info = json.loads((folder / "meta/info.json").read_text())
    info["codebase_version"] = "v2.0"
    info["features"]["action"]["names"] = {"motors": [f"m{i}" for i in range(17)]}
    (folder / "meta/info.json").write_text(json.dumps(info))
    reader = LeRobotReader(folder)
    episode = reader.episode(0)
    assert reader.names("action") == tuple(f"m{i}" for i in range(17))
    assert episode.control_mode == "foreign" and episode.instruction == WORDS and episode.success
    assert episode.rewards.shape == (5,) and episode.terminated.tolist() == [False] * 4 + [True]
    assert np.array_equal(episode.observations["proprio"], full_episode(5, 1).observations["proprio"])
    assert "instruction" not in episode.observations


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    folder = record(tmp_path / "set", "v3.0", [simple(4, 1.0), simple(6, 2.0)])
    assert LeRobotReader(folder).episode(1).actions[0, 0] == 2.0
    other = record(tmp_path / "other", "v3.0", [simple(4, 3.0), simple(6, 4.0)])
    for path in (other / "data").rglob("*.parquet"):
        path.replace(folder / path.relative_to(other))
    assert LeRobotReader(folder).episode(1).actions[0, 0] == 4.0

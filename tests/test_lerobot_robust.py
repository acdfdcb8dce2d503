"""LeRobot folders in a bad world: writers that are killed, files that are damaged, sets larger than memory."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_episodes import assert_same, full_episode

from neon_sim.data.lerobot import BadEpisodeError, LeRobotReader, LeRobotWriter, merge
from neon_sim.data.video import VideoConfig, encode_video
from neon_sim.episode import NeonEpisode

VERSIONS = ("v2.1", "v3.0")
TESTS = Path(__file__).parent

RECORD_FOREVER = """
import sys
from lerobot_episodes import full_episode
from neon_sim.data.lerobot import LeRobotWriter
with LeRobotWriter(sys.argv[1], sys.argv[2]) as writer:
    print("ready", flush=True)
    while True:
        writer.add(full_episode(5, len(writer)))
"""


def record(folder: Path, version: str, count: int) -> Path:
    """A data set of `count` small episodes."""
    with LeRobotWriter(folder, version) as writer:
        for seed in range(count):
            writer.add(full_episode(5, seed))
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_a_killed_writer_loses_at_most_the_episode_in_flight(tmp_path: Path, version: str) -> None:
    folder = tmp_path / "set"
    for wait_s in (0.6, 0.37):
        command = [sys.executable, "-c", RECORD_FOREVER, str(folder), version]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TESTS)
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        before = len(LeRobotReader(folder)) if (folder / "meta/info.json").exists() else 0
        deadline = time.monotonic() + 60.0
        while not (folder / "meta/info.json").exists() or len(LeRobotReader(folder)) == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(wait_s)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        reader = LeRobotReader(folder)
        assert len(reader) > before
        for seed, episode in enumerate(reader.episodes()):
            assert_same(episode, full_episode(5, seed))
    with LeRobotWriter(folder, version) as again:
        number = again.add(full_episode(5, len(again)))
    reader = LeRobotReader(folder)
    assert len(reader) == number + 1 == reader.info.total_episodes
    assert_same(reader.episode(number), full_episode(5, number))
    data = list((folder / "data").rglob("*.parquet"))
    assert len(data) == number + 1 and not list(folder.rglob("*.unfinished"))
    assert pa.concat_tables([pq.read_table(path) for path in sorted(data)])["index"].to_pylist() == list(
        range(5 * number + 5)
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_killed_writer_leaves_is_put_right(tmp_path: Path, version: str) -> None:
    folder = record(tmp_path / "set", version, 2)
    stray = {"v2.1": "data/chunk-000/episode_000002.parquet", "v3.0": "data/chunk-000/file-002.parquet"}[version]
    first = sorted((folder / "data").rglob("*.parquet"))[0]
    (folder / stray).write_bytes(first.read_bytes())
    (folder / "meta/.info.json.unfinished").write_text("{")
    if version == "v2.1":
        with open(folder / "meta/episodes.jsonl", "a") as file:
            file.write('{"episode_index": 2, "tas')
        with open(folder / "meta/episodes_stats.jsonl", "a") as file:
            file.write('{"episode_index": 2, "stats": {}}\n{"epi')
    assert len(LeRobotReader(folder)) == 2
    with LeRobotWriter(folder, version) as writer:
        assert len(writer) == 2
    assert not (folder / stray).exists() and not (folder / "meta/.info.json.unfinished").exists()
    if version == "v2.1":
        for name in ("episodes.jsonl", "episodes_stats.jsonl"):
            lines = (folder / "meta" / name).read_text().splitlines()
            assert [json.loads(line)["episode_index"] for line in lines] == [0, 1]


def test_a_packed_set_can_be_added_to(tmp_path: Path) -> None:
    folder = merge([record(tmp_path / "shard", "v2.1", 3)], tmp_path / "all", "v3.0")
    with LeRobotWriter(folder, "v3.0") as writer:
        assert writer.add(full_episode(5, 3)) == 3
    reader = LeRobotReader(folder)
    for seed in range(4):
        assert_same(reader.episode(seed), full_episode(5, seed))


def test_two_writers_do_not_share_a_folder(tmp_path: Path) -> None:
    with LeRobotWriter(tmp_path / "set"), pytest.raises(ValueError, match="Another process is writing"):
        LeRobotWriter(tmp_path / "set")
    LeRobotWriter(tmp_path / "set").close()


def plain(steps: int, **changes: object) -> NeonEpisode:
    """An episode with nothing but actions and hands."""
    fields = {"observations": {"eef": np.zeros((steps, 14), np.float32)}, "actions": np.zeros((steps, 17), np.float32)}
    return NeonEpisode(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (plain(0), "no steps"),
        (plain(3, actions=np.full((3, 17), np.nan, np.float32)), "action is not finite at step 0"),
        (plain(3, rate_hz=20.0), "holds episodes of 50 Hz, got 20 Hz"),
        (plain(3, rate_hz=33.3), "whole frames per second, got 33.3"),
        (plain(3, control_mode="upper_body"), "holds episodes like"),
        (plain(3, actions=np.zeros((3, 20), np.float32)), "'action' as"),
        (plain(3, observations={"eef/left": np.zeros((3, 7))}), "no '/' in a name"),
        (
            plain(3, observations={"state": np.zeros((3, 2)), "environment_state": np.zeros((3, 2))}),
            "'observation.environment_state', which is taken",
        ),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_and_nothing_changes(
    tmp_path: Path, episode: NeonEpisode, message: str
) -> None:
    with LeRobotWriter(tmp_path / "set") as writer:
        writer.add(plain(3))
        with pytest.raises(ValueError, match=message):
            writer.add(episode)
        assert len(writer) == 1
    assert len(LeRobotReader(tmp_path / "set")) == 1


def test_names_that_do_not_exist_are_answered_with_the_nearest(tmp_path: Path) -> None:
    with LeRobotWriter(tmp_path / "set", "v3") as writer, pytest.raises(ValueError, match="Did you mean 'v3.0'"):
        writer.add(plain(2))
    with pytest.raises(FileNotFoundError, match="holds no LeRobot data set"):
        LeRobotReader(tmp_path)
    record(tmp_path / "two", "v2.1", 1)
    with pytest.raises(ValueError, match="is a v2.1 data set, v3.0 was asked for"):
        LeRobotWriter(tmp_path / "two", "v3.0")
    with pytest.raises(ValueError, match="nothing to merge"):
        merge([], tmp_path / "all")
    with LeRobotWriter(tmp_path / "three") as writer:
        writer.add(plain(2))
    with pytest.raises(ValueError, match="Merge what was recorded alike|has neon"):
        merge([tmp_path / "two", tmp_path / "three"], tmp_path / "all")


def rewrite(path: Path, name: str, values: list[object]) -> None:
    """Put other values into one column of a data file."""
    table = pq.read_table(path)
    index = table.column_names.index(name)
    pq.write_table(table.set_column(index, name, pa.array(values, table.schema.field(name).type)), path)


DATA = "data/chunk-000/episode_000001.parquet"
VIDEO = "videos/chunk-000/observation.images.camera/episode_000001.mp4"


def film(frames: int, fps: int, height: int = 32, width: int = 48) -> Callable[[Path], None]:
    """Put another video in place of the second episode's."""
    pictures = np.zeros((frames, height, width, 3), np.uint8)
    return lambda folder: encode_video(folder / VIDEO, pictures, fps, VideoConfig())


def column(name: str, values: list[object]) -> Callable[[Path], None]:
    """Put other values into one column of the second episode."""
    return lambda folder: rewrite(folder / DATA, name, values)


def make_empty(folder: Path) -> None:
    """Say that the second episode has no steps."""
    path = folder / "meta/episodes.jsonl"
    path.write_text(path.read_text().replace('"length": 5}\n{"episode_index": 2', '"length": 0}\n{"episode_index": 2'))


# One bad thing at a time, done to the second of three episodes of a v2.1 set.
SPOIL: dict[str, Callable[[Path], object]] = {
    "missing file": lambda folder: (folder / DATA).unlink(),
    "missing video": lambda folder: (folder / VIDEO).unlink(),
    "damaged file": lambda folder: (folder / DATA).write_bytes((folder / DATA).read_bytes()[:200]),
    "NaN action": column("action", [[float("nan")] * 17, *[[0.0] * 17] * 4]),
    "no value": column("observation.command", [None, *[[0.0] * 4] * 4]),
    "wrong fps": column("timestamp", [0.0, 0.1, 0.2, 0.3, 0.4]),
    "wrong video fps": film(5, 25),
    "short parquet": lambda folder: pq.write_table(pq.read_table(folder / DATA).slice(0, 3), folder / DATA),
    "other episode": column("episode_index", [7] * 5),
    "video shorter than its parquet": film(4, 50),
    "other size": film(5, 50, 16, 16),
    "empty episode": make_empty,
}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing file", "episode_000001.parquet, episode 1: missing file"),
        ("missing video", "episode_000001.mp4, episode 1: missing file"),
        ("damaged file", "episode_000001.parquet, episode 1: unreadable data"),
        ("NaN action", "episode_000001.parquet, episode 1: NaN in action: at step 0"),
        ("no value", "episode 1: bad column observation.command: 1 of 5 rows have no value"),
        ("wrong fps", "episode 1: wrong fps: 50 Hz are said, but step 1 is at 0.1000 s and not at 0.0200 s"),
        ("wrong video fps", "episode_000001.mp4, episode 1: bad video: .* runs at 25 frames/s, but 50 are said"),
        ("short parquet", "episode 1: unreadable data: .* rows 0 to 4 are wanted, it gives 3"),
        ("other episode", "episode 1: other episode: its rows are those of episode 7"),
        ("video shorter than its parquet", "episode 1: bad video: .* frames 0 to 4 are wanted, it gives 4"),
        ("other size", "episode 1: bad video"),
        ("empty episode", "episode_000001.parquet, episode 1: empty episode"),
    ],
)
def test_a_bad_episode_is_named_or_left_out_and_counted(tmp_path: Path, kind: str, message: str) -> None:
    folder = record(tmp_path / "set", "v2.1", 3)
    SPOIL[kind](folder)
    reader = LeRobotReader(folder)
    with pytest.raises(BadEpisodeError, match=message):
        list(reader.episodes())
    with pytest.warns(UserWarning, match=r"skipped 1 of 3 episodes \(1 x .*episode 1: "):
        left = list(reader.episodes(skip_bad=True))
    assert len(left) == 2 and list(reader.skipped) == [1]
    assert_same(left[1], full_episode(5, 2))


def test_metadata_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = record(tmp_path / "set", "v2.1", 1)
    info = folder / "meta/info.json"
    text = info.read_text()
    for changed, message in (
        (text.replace("v2.1", "v9.0", 1), "Unknown LeRobot version 'v9.0'"),
        (text.replace('"fps"', '"fsp"'), "has no field 'fps'"),
        (text.replace('"fps": 50', '"fps": 0'), "fps must be positive"),
        (text[:100], "info.json cannot be read"),
    ):
        info.write_text(changed)
        with pytest.raises(ValueError, match=message):
            LeRobotReader(folder)
    info.write_text(text)
    (folder / "meta/episodes.jsonl").write_text("{}}\n")
    with pytest.raises(ValueError, match=r"episodes.jsonl, line 1 is not JSON"):
        LeRobotReader(folder)


@pytest.mark.parametrize("version", VERSIONS)
def test_metadata_that_are_cut_short_are_no_smaller_set(tmp_path: Path, version: str) -> None:
    folder = record(tmp_path / "set", version, 3)
    if version == "v2.1":
        path = folder / "meta/episodes.jsonl"
        whole = path.read_text()
        path.write_text(whole.rstrip("\n"))  # as some tools write it: the last line counts
        assert len(LeRobotReader(folder)) == 3
        path.write_text(whole[:-20])  # as a copy that broke off does
    else:
        next((folder / "meta/episodes").rglob("file-002.parquet")).unlink()
    with pytest.raises(ValueError, match="info.json counts 3 episodes, .*meta.episodes.* lists 2. Copy the data set"):
        LeRobotReader(folder)


def test_a_writer_goes_on_after_a_line_without_an_end(tmp_path: Path) -> None:
    folder = record(tmp_path / "set", "v2.1", 2)
    path = folder / "meta/episodes.jsonl"
    path.write_text(path.read_text().rstrip("\n"))
    with LeRobotWriter(folder) as writer:
        assert len(writer) == 2
        writer.add(full_episode(5, 2))
    assert len(LeRobotReader(folder)) == 3 and path.read_text().count("\n") == 3


def test_an_entry_that_is_missing_is_named(tmp_path: Path) -> None:
    old = record(tmp_path / "old", "v2.1", 1)
    for name, field in (("episodes", "length"), ("tasks", "task_index")):
        path = old / f"meta/{name}.jsonl"
        whole = path.read_text()
        path.write_text(whole.replace(f'"{field}"', '"other"'))
        with pytest.raises(ValueError, match=f"{name}.jsonl has an entry without '{field}'. It is not what LeRobot"):
            LeRobotReader(old)
        path.write_text(whole)
    (old / "meta/episodes.jsonl").write_text("[1]\n")
    with pytest.raises(ValueError, match="episodes.jsonl has an entry that is not what LeRobot writes: list indices"):
        LeRobotReader(old)
    new = record(tmp_path / "new", "v3.0", 1)
    path = new / "meta/tasks.parquet"
    pq.write_table(pq.read_table(path).rename_columns(["number", "task"]), path)
    with pytest.raises(ValueError, match="tasks.parquet has an entry without .*task_index"):
        LeRobotReader(new)
    path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match="tasks.parquet is not a readable parquet file"):
        LeRobotReader(new)


def with_images(folder: Path, shape: tuple[int, ...], names: list[str] | None) -> Path:
    """Two episodes with pictures in the parquet file, of which info.json says this shape and these names."""
    with LeRobotWriter(folder, use_videos=False) as writer:
        for seed in range(2):
            writer.add(full_episode(5, seed))
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"]["observation.images.camera"] |= {"shape": shape, "names": names}
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize("names", [["channels", "height", "width"], None])
def test_pictures_with_channels_first_come_as_they_were_taken(tmp_path: Path, names: list[str] | None) -> None:
    folder = with_images(tmp_path / "set", (3, 32, 48), names)
    for index, episode in enumerate(LeRobotReader(folder).episodes()):
        camera = full_episode(5, index).observations["camera"]
        assert camera.shape == (5, 32, 48, 3) and np.array_equal(episode.observations["camera"], camera)


def test_pictures_of_another_size_are_one_bad_episode_each(tmp_path: Path) -> None:
    folder = with_images(tmp_path / "set", (48, 32, 3), ["height", "width", "channel"])
    with pytest.raises(BadEpisodeError, match=r"a picture has \(32, 48\) pixels, \(48, 32\) are said"):
        LeRobotReader(folder).episode(0)


@pytest.mark.parametrize("spoil", [lambda png: png[:60] + b"????" + png[64:], lambda png: png[:70], lambda png: None])
def test_a_broken_picture_is_one_bad_episode(tmp_path: Path, spoil: Callable[[bytes], bytes | None]) -> None:
    folder = with_images(tmp_path / "set", (32, 48, 3), ["height", "width", "channel"])
    table = pq.read_table(folder / DATA)
    rows = table["observation.images.camera"].to_pylist()
    rows[2]["bytes"] = spoil(rows[2]["bytes"])
    index = table.column_names.index("observation.images.camera")
    field = table.schema.field(index)
    pq.write_table(table.set_column(index, field, pa.array(rows, field.type)), folder / DATA)
    reader = LeRobotReader(folder)
    with pytest.raises(BadEpisodeError, match="episode 1: bad column observation.images.camera: a picture cannot be"):
        reader.episode(1)
    with pytest.warns(UserWarning, match="skipped 1 of 2 episodes"):
        assert len(list(reader.episodes(skip_bad=True))) == 1


STREAM = """
import sys
from neon_sim.data.lerobot import LeRobotReader
reader = LeRobotReader(sys.argv[1])
def peak_mb():  # of this process; getrusage would tell its parent's
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
reader.episode(0)
before, total = peak_mb(), 0
for _ in range(int(sys.argv[2])):
    for episode in reader.episodes():
        total += sum(value.nbytes for value in episode.observations.values())
print(peak_mb() - before, total / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's count of a process's memory")
def test_memory_stays_flat_over_a_set_larger_than_it_may_take(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with LeRobotWriter(tmp_path / "shard") as writer:
        for _ in range(8):
            lidar = rng.normal(size=(50, 15360)).astype(np.float32)
            camera = np.broadcast_to(rng.integers(0, 256, (50, 1, 1, 3), dtype=np.uint8), (50, 16, 16, 3))
            writer.add(NeonEpisode({"lidar": lidar, "camera": camera}, np.zeros((50, 17), np.float32)))
    folder = merge([tmp_path / "shard"], tmp_path / "all", "v3.0")
    assert len(list((folder / "data").rglob("*.parquet"))) == 1  # all episodes in one file
    command = [sys.executable, "-c", STREAM, str(folder), "14"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TESTS, env=os.environ)
    grown_mb, read_mb = (float(word) for word in done.stdout.split())
    assert read_mb > 300.0  # ten times what follows
    assert grown_mb < 30.0

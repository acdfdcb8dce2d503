"""Frame-exact video: numbers drawn into the pictures come back, wherever reading begins."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from lerobot_episodes import numbered_pictures, read_numbers

from neon_sim.data import video
from neon_sim.data.video import VideoConfig, concatenate_videos, decode_video, encode_video, iterate_video, video_rate

PRESETS = {"libx264": "ultrafast", "libsvtav1": "10"}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    encode_video(path, numbered_pictures(range(120)), 50, VideoConfig())
    return path


def test_every_frame_is_the_one_that_was_written(clip: Path) -> None:
    assert read_numbers(decode_video(clip, 50)) == list(range(120))
    assert video_rate(clip) == 50.0


@pytest.mark.parametrize(("first", "count"), [(0, 1), (1, 3), (24, 2), (25, 1), (77, 20), (119, 1)])
def test_reading_may_begin_anywhere(clip: Path, first: int, count: int) -> None:
    assert read_numbers(decode_video(clip, 50, first, count)) == list(range(first, first + count))


def test_readers_side_by_side_and_those_who_stop_early_get_their_own_frames(clip: Path) -> None:
    early, late = iterate_video(clip, 50, 3), iterate_video(clip, 50, 30)
    for step in range(6):
        assert next(early)[0] == 3 + step
        assert next(late)[0] == 30 + step
    early.close()
    assert [index for index, _ in iterate_video(clip, 50)] == list(range(120))
    assert next(late)[0] == 36
    late.close()
    assert [index for index, _ in iterate_video(clip, 50, 118)] == [118, 119]
    assert [index for index, _ in iterate_video(clip, 50)] == list(range(120))  # after one that read to the end, too


def test_a_reader_that_is_ended_while_its_thread_keeps_another_video_gives_its_own_back(clip: Path) -> None:
    """As the garbage collector may end it: at any moment."""

    def end_within() -> bool:
        reader = iterate_video(clip, 50)
        next(reader)
        with video._pool._lock:
            reader.close()
        return True

    ending = threading.Thread(target=end_within, daemon=True)
    ending.start()
    ending.join(20.0)
    assert not ending.is_alive()
    assert read_numbers(decode_video(clip, 50)) == list(range(120))


def test_more_videos_than_stay_open_are_read_by_threads_side_by_side(tmp_path: Path) -> None:
    for number in range(6):
        encode_video(
            tmp_path / f"{number}.mp4", numbered_pictures(range(10 * number, 10 * number + 8)), 50, VideoConfig()
        )

    def read(turn: int) -> bool:
        number = turn % 6
        found = read_numbers(decode_video(tmp_path / f"{number}.mp4", 50, 2, 4))
        return found == list(range(10 * number + 2, 10 * number + 6))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(120)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_a_process_that_is_forked_off_reads_its_own(tmp_path: Path, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    paths = [tmp_path / f"{number}.mp4" for number in range(5)]
    for path in paths:
        encode_video(path, numbered_pictures(range(8), height=64), 50, VideoConfig(codec, preset=PRESETS[codec]))
        assert len(decode_video(path, 50)) == 8
    child = multiprocessing.get_context("fork").Process(target=_read_all, args=(paths,))
    child.start()
    child.join(60)
    hung = child.is_alive()
    child.kill()
    assert not hung and child.exitcode == 0
    assert all(len(decode_video(path, 50)) == 8 for path in paths)


def _read_all(paths: list[Path]) -> None:
    for path in [*paths, *paths]:
        assert len(decode_video(path, 50)) == 8


def test_a_video_that_was_written_anew_is_read_anew(tmp_path: Path, clip: Path) -> None:
    assert len(decode_video(clip, 50)) == 120
    encode_video(tmp_path / "other.mp4", numbered_pictures(range(7, 17)), 50, VideoConfig())
    (tmp_path / "other.mp4").replace(clip)
    assert read_numbers(decode_video(clip, 50)) == list(range(7, 17))


def test_clips_put_together_keep_every_frame(tmp_path: Path, clip: Path) -> None:
    encode_video(tmp_path / "short.mp4", numbered_pictures(range(200, 213)), 50, VideoConfig())
    joined = tmp_path / "joined.mp4"
    concatenate_videos([clip, tmp_path / "short.mp4", clip], [120, 13, 120], joined, 50)
    assert read_numbers(decode_video(joined, 50)) == [*range(120), *range(200, 213), *range(120)]
    assert read_numbers(decode_video(joined, 50, 120, 14)) == [*range(200, 213), 0]
    assert read_numbers(decode_video(joined, 50, 133, 120)) == list(range(120))


def test_lossless_is_lossless_and_the_default_is_close(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    encode_video(tmp_path / "exact.mp4", pictures, 50, VideoConfig("libx264rgb", "rgb24", 0))
    assert np.array_equal(decode_video(tmp_path / "exact.mp4", 50), pictures)
    flat = np.full((5, 32, 32, 3), (200, 90, 40), np.uint8)
    encode_video(tmp_path / "flat.mp4", flat, 50, VideoConfig())
    assert np.abs(decode_video(tmp_path / "flat.mp4", 50).astype(int) - flat).max() <= 4


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path, clip: Path) -> None:
    encode_video(tmp_path / "again.mp4", numbered_pictures(range(120)), 50, VideoConfig())
    assert (tmp_path / "again.mp4").read_bytes() == clip.read_bytes()


def test_what_cannot_be_read_is_said(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(ValueError, match=r"frames 110 to 129 are wanted, it gives 10"):
        decode_video(clip, 50, 110, 20)
    with pytest.raises(ValueError, match=r"runs at 50 frames/s, but 30 are said"):
        decode_video(clip, 30)
    with pytest.raises(FileNotFoundError, match="none.mp4"):
        decode_video(tmp_path / "none.mp4", 50)
    raw = clip.read_bytes()
    for content in (b"hello", raw[: len(raw) // 2]):
        (tmp_path / "bad.mp4").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad.mp4 is not a readable video"):
            decode_video(tmp_path / "bad.mp4", 50)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "at least one frame"),
        (np.zeros((2, 8, 8, 3), np.float32), "uint8"),
        (np.zeros((2, 8, 8), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((2, 9, 8, 3), np.uint8), "even height and width"),
    ],
)
def test_what_is_no_film_is_refused(tmp_path: Path, pictures: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_video(tmp_path / "x.mp4", pictures, 50, VideoConfig())

"""An episode comes back from disk as it was, or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neon_sim.episode import NeonEpisode


def _episode(**changes: object) -> NeonEpisode:
    rng, steps = np.random.default_rng(3), 6
    settings: dict[str, object] = {
        "observations": {
            "proprio": rng.normal(size=(steps, 125)).astype(np.float32),
            "camera": rng.integers(0, 255, (steps, 8, 8, 3), dtype=np.uint8),
        },
        "actions": rng.uniform(-1, 1, (steps, 17)).astype(np.float32),
        "rewards": rng.normal(size=steps),
        "terminated": np.arange(steps) == steps - 1,
        "instruction": "grüße die Tür",
        "success": True,
        "infos": {"object/cup": rng.normal(size=(steps, 3)), "phase": np.array(["walk"] * steps)},
        "rate_hz": 20,
        "control_mode": "arms_only",
    }
    return NeonEpisode(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("compress", [True, False])
def test_everything_comes_back_bit_for_bit(tmp_path: Path, compress: bool) -> None:
    episode = _episode()
    path = episode.save(tmp_path / "one.npz", compress=compress)
    again = NeonEpisode.load(path)
    for part in ("observations", "infos"):
        assert getattr(again, part).keys() == getattr(episode, part).keys()
        for key, value in getattr(episode, part).items():
            assert getattr(again, part)[key].dtype == value.dtype
            assert np.array_equal(getattr(again, part)[key], value)
    for name in ("actions", "rewards", "terminated", "truncated"):
        assert getattr(again, name).dtype == getattr(episode, name).dtype
        assert np.array_equal(getattr(again, name), getattr(episode, name))
    assert (again.instruction, again.success, again.rate_hz, again.control_mode) == (
        "grüße die Tür",
        True,
        20.0,
        "arms_only",
    )
    assert len(again) == 6 and os.listdir(tmp_path) == ["one.npz"]


def test_what_is_left_out_is_zero_per_step() -> None:
    episode = NeonEpisode({"proprio": np.ones((4, 2))}, np.zeros((4, 17)))
    assert episode.rewards.tolist() == [0.0] * 4 and episode.rewards.dtype == np.float32
    assert not episode.terminated.any() and not episode.truncated.any() and episode.truncated.dtype == np.bool_
    assert episode.rate_hz == 50.0 and episode.success is False


def test_an_episode_of_no_steps_is_an_episode(tmp_path: Path) -> None:
    path = NeonEpisode({"proprio": np.zeros((0, 125))}, np.zeros((0, 17))).save(tmp_path / "empty.npz")
    assert len(NeonEpisode.load(path)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": np.zeros(5)}, r"rewards must .* shape \(6,\), got \(5,\)"),
        ({"rewards": np.zeros((6, 1))}, r"rewards must .* got \(6, 1\)"),
        (
            {"observations": {"proprio": np.zeros((7, 125))}},
            r"observations/proprio must .* \(6, \.\.\.\), got \(7, 125\)",
        ),
        ({"infos": {"speed": np.float64(1.0)}}, "infos/speed must"),
        ({"infos": {"note": np.array([{}] * 6)}}, "holds Python objects"),
        ({"actions": np.zeros(6)}, r"must be \(T, A\)"),
        ({"rate_hz": 0.0}, "must be positive"),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _episode(**changes)


def test_a_damaged_file_never_gives_another_episode(tmp_path: Path) -> None:
    path = _episode().save(tmp_path / "one.npz")
    raw, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for trial in range(300):
        place = int(rng.integers(len(raw)))
        changed = raw[:place] + bytes([raw[place] ^ int(rng.integers(1, 256))]) + raw[place + 1 :]
        path.write_bytes(changed if trial % 3 else raw[:place])
        try:
            again = NeonEpisode.load(path)
        except ValueError as error:
            assert "not a readable episode" in str(error) and "one.npz" in str(error)
            refused += 1
        else:  # the byte was in a field that nothing depends on, such as a date
            assert np.array_equal(again.actions, _episode().actions) and again.instruction == "grüße die Tür"
    assert refused > 200


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)], ids=["marked as encrypted", "unknown compression"])
def test_a_damaged_directory_is_refused(tmp_path: Path, offset: int, value: int) -> None:
    path = _episode().save(tmp_path / "one.npz")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="not a readable episode"):
        NeonEpisode.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04]\x94."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable episode"):
        NeonEpisode.load(path)


def test_an_archive_of_other_arrays_and_a_later_format_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", actions=np.zeros((2, 2)))
    np.savez(tmp_path / "later.npz", actions=np.zeros((2, 2)), meta=np.array('{"format": 99}'))
    for name in ("other.npz", "later.npz"):
        with pytest.raises(ValueError, match="not a readable episode"):
            NeonEpisode.load(tmp_path / name)


def test_a_missing_file_is_simply_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        NeonEpisode.load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"saved as \.npz"):
        _episode().save(tmp_path / "one.pkl")


WRITE_UNTIL_FULL = """
import resource, sys, signal
import numpy as np
from neon_sim.episode import NeonEpisode
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    NeonEpisode({"lidar": np.random.default_rng(0).normal(size=(50, 300))}, np.zeros((50, 17))).save(sys.argv[1])
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = _episode().save(tmp_path / "one.npz")
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", WRITE_UNTIL_FULL, str(path)], check=False)
    assert done.returncode == errno.EFBIG
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["one.npz"]

"""One writer at a time, on systems with and without fcntl."""

import fcntl
import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from neon_sim.data.lerobot.folder_lock import take_lock
from neon_sim.data.lerobot.whole_file import sync_file

WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None  # what importing it does on Windows: ImportError
from neon_sim.data.lerobot import LeRobotReader, LeRobotWriter, merge
print("imported")
"""
HOLD = """
import sys
from pathlib import Path
from neon_sim.data.lerobot.folder_lock import take_lock
take_lock(Path(sys.argv[1]), 0.0)
print("locked", flush=True)
sys.stdin.read()
"""


def windows_locking(descriptor: int, mode: int, count: int) -> None:
    """What msvcrt.locking(descriptor, LK_NBLCK, 1) does, by this system's means."""
    assert (mode, count) == (2, 1)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None


@pytest.fixture(params=["posix", "windows"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "windows":
        monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=windows_locking, LK_NBLCK=2))
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setattr(sys, "platform", "win32")
    return str(request.param)


def test_reader_writer_and_merge_are_imported_without_fcntl() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_FCNTL], capture_output=True, text=True, timeout=120)
    assert done.stdout == "imported\n", done.stderr


def test_the_second_writer_is_refused_until_the_first_ends(system: str, tmp_path: Path) -> None:
    first = take_lock(tmp_path, 0.0)
    gc.collect()  # what earlier tests left behind is closed now and not between the counts
    open_files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    begun = time.monotonic()
    with pytest.raises(ValueError, match="Another process is writing to"):
        take_lock(tmp_path, 0.25)
    assert 0.25 <= time.monotonic() - begun < 5.0
    if open_files:
        assert len(os.listdir("/proc/self/fd")) == open_files  # what was refused holds nothing
    os.close(first)
    os.close(take_lock(tmp_path, 0.0))


def test_the_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
    with pytest.raises(ValueError, match="Another process"):
        take_lock(tmp_path, 0.0)
    holder.kill()
    holder.communicate()
    os.close(take_lock(tmp_path, 10.0))


def test_a_file_is_synced_as_the_system_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows syncs what is open for writing only, and a file is as it was afterwards."""
    path, modes = tmp_path / "file", []
    path.write_bytes(b"whole")

    def sync(descriptor: int) -> None:
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "fsync", sync)
    sync_file(path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "name", "nt")
        sync_file(path)
    assert modes == [os.O_RDONLY, os.O_RDWR] and path.read_bytes() == b"whole"

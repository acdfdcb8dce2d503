"""A folder of files that belong together is the old one or the new one, wherever its writer is killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from neon_sim.training.whole_folder import put_right, whole_folder

KILLED = """
import os, sys
from pathlib import Path
from neon_sim.training.whole_folder import whole_folder
moves, replace = 0, os.replace
def move(source, target):
    global moves
    if moves == {after}:
        os._exit(9)
    moves += 1
    replace(source, target)
os.replace = move
with whole_folder(Path({path!r})) as fresh:
    for name in ("config.json", "weights"):
        (fresh / name).write_text("new")
        if {after} < 0:
            os._exit(9)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str) -> None:
    with whole_folder(path) as fresh:
        for name in ("config.json", "weights"):
            (fresh / name).write_text(text)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "run" / "best", "old")
    (tmp_path / "run" / "best" / "of the old one").write_text("old")
    write(tmp_path / "run" / "best", "new")
    assert names(tmp_path / "run") == ["best"] and names(tmp_path / "run" / "best") == ["config.json", "weights"]
    assert (tmp_path / "run" / "best" / "weights").read_text() == "new"


def test_what_goes_wrong_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path / "best", "old")
    with pytest.raises(OSError, match="disk full"), whole_folder(tmp_path / "best") as fresh:
        (fresh / "config.json").write_text("new")
        raise OSError("disk full")
    assert names(tmp_path) == ["best"] and (tmp_path / "best" / "config.json").read_text() == "old"


@pytest.mark.parametrize("after", [-1, 0, 1])  # in the middle of writing, before the first move, between the two
def test_a_kill_leaves_the_old_one_and_the_next_writer_goes_on(tmp_path: Path, after: int) -> None:
    write(tmp_path / "best", "old")
    code = KILLED.format(path=str(tmp_path / "best"), after=after)
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 9
    assert (tmp_path / "best").exists() == (after < 1)
    put_right(tmp_path / "best")
    assert names(tmp_path) == ["best"]
    assert {path.read_text() for path in (tmp_path / "best").iterdir()} == {"old"}
    write(tmp_path / "best", "new")
    assert names(tmp_path) == ["best"] and (tmp_path / "best" / "weights").read_text() == "new"

"""Writing a folder of files that belong together: all of the old ones or all of the new ones, whatever happens."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write into; when the block ends without an error, it takes the place of `path`.

    A folder cannot be replaced in one move, so the old one steps aside first: who is killed between the two moves finds
    no `path`, and `put_right` brings the old one back.
    """
    put_right(path)
    fresh, old = _beside(path)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        _sync(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if path.exists():
        os.replace(path, old)
    os.replace(fresh, path)
    shutil.rmtree(old, ignore_errors=True)


def put_right(path: Path) -> None:
    """Put back a folder whose writer was killed between the two moves, and remove what it left beside it."""
    fresh, old = _beside(path)
    if old.exists() and not path.exists():
        os.replace(old, path)
    for left in (fresh, old):
        if left.exists():
            shutil.rmtree(left)


def _beside(path: Path) -> tuple[Path, Path]:
    """Where the new folder is written, and where the old one steps aside to."""
    return path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")


def _sync(folder: Path) -> None:
    """Wait until the files are on the disk, or a power cut could leave the folder's name on nothing."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "r+b" if os.name == "nt" else "rb") as file:  # Windows flushes what may be written to only
                os.fsync(file.fileno())

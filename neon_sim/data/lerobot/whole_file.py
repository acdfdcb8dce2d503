"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished"  # suffix of what is still being written, or was when its writer was killed


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; when the block ends without an error, the file moves to `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        yield unfinished
        sync_file(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace the file's text in one step."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Add one line. A writer that is killed meanwhile leaves a line with no end, which `whole_lines` passes over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that have an end; none when there is no file."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def unended_line(path: Path) -> str:
    """What stands after the last line's end, as a killed writer leaves it, or a tool that ends no line."""
    return path.read_text(encoding="utf-8").split("\n")[-1] if path.exists() else ""


def sync_file(path: Path) -> None:
    """Wait until the file is on the disk, or a power cut could leave its name on nothing."""
    with open(path, "r+b" if os.name == "nt" else "rb") as file:  # Windows flushes what may be written to only
        os.fsync(file.fileno())


def clear_unfinished(folder: Path) -> None:
    """Remove what a killed writer left half written."""
    for path in folder.rglob(f".*{UNFINISHED}"):
        path.unlink()

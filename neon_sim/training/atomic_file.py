"""Writing a file that is either the old one or the new one, whatever happens meanwhile."""

import os
from pathlib import Path


def replace_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a reader, and a machine that loses its power, finds all of the old or all of the new one.

    Raises:
        OSError: it cannot be written; the old one is untouched and nothing half-written is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"Could not save to {path} ({error.strerror}). What was saved there before is kept"
        ) from error
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself last; Windows has no way to, and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

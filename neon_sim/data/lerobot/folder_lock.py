"""One writer at a time in a folder: a lock that the system gives back when its process ends, however it ends."""

import os
import sys
import time
from pathlib import Path

_LOCK = ".lock"


def take_lock(folder: Path, wait_s: float) -> int:
    """Lock the folder until the returned file descriptor is closed or this process ends.

    wait_s: how long to wait for another process that has it.

    Raises:
        ValueError: another process still has it then.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + wait_s
    try:
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise ValueError(f"Another process is writing to {folder}. Wait for it, or choose another.")
            time.sleep(0.1)
    except BaseException:  # Ctrl-C while waiting too: the file must not stay open
        os.close(descriptor)
        raise
    return descriptor


def _try_lock(descriptor: int) -> bool:
    """Take the lock without waiting; False where somebody else has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # not on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # flock's word for it, and Windows'
        return False
    return True

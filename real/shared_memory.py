"""Two processes, one page of memory, no locks: the env writes commands, the control process writes what became of them.

Each `Mailbox` has one writer and any number of readers, and only its newest record counts. The writer fills the slot
that readers do not look at and then turns the number that they read; a checksum beside each record catches the reader
that was overtaken, on processors that reorder their writes too. Nobody ever waits for anybody.
"""

import mmap
import os
import tempfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np

_SLOTS: Final = 4  # a reader is overtaken only if the writer comes round in one copy
_TRIES: Final = 8
_ALIGNMENT: Final = 64  # a cache line


class Mailbox:
    """The newest record of one dtype in shared memory.

    Args:
        memory: at least `Mailbox.size(dtype)` bytes, zero at first.
        dtype: of the record.
    """

    def __init__(self, memory: memoryview, dtype: np.dtype) -> None:
        self.dtype = dtype
        self._count = memory[:8].cast("Q")
        starts = [_ALIGNMENT + slot * _slot_size(dtype) for slot in range(_SLOTS)]
        self._heads = [memory[start : start + 16].cast("Q") for start in starts]  # count and checksum
        self._bodies = [memory[start + _ALIGNMENT :][: dtype.itemsize] for start in starts]

    @staticmethod
    def size(dtype: np.dtype) -> int:
        """Bytes that a mailbox takes, whole cache lines."""
        return _ALIGNMENT + _SLOTS * _slot_size(dtype)

    @property
    def count(self) -> int:
        """How many records were written so far."""
        return self._count[0]

    def write(self, record: np.ndarray) -> None:
        """Put a 0-d record; one process, one thread."""
        count, raw = self.count + 1, record.tobytes()
        place = count % _SLOTS
        self._bodies[place][:] = raw
        self._heads[place][0], self._heads[place][1] = count, zlib.crc32(raw)
        self._count[0] = count

    def read(self) -> np.ndarray | None:
        """Return a copy of the newest record; None before the first, or while the writer is faster than the reader."""
        for _ in range(_TRIES):
            count = self.count
            if count == 0:
                return None
            place = count % _SLOTS
            head, raw = self._heads[place].tolist(), self._bodies[place].tobytes()
            if head == [count, zlib.crc32(raw)]:
                return np.ndarray((), self.dtype, bytearray(raw))
        return None


def _slot_size(dtype: np.dtype) -> int:
    return _ALIGNMENT + -(-dtype.itemsize // _ALIGNMENT) * _ALIGNMENT


class SharedMemory:
    """Memory without a name, so that nothing stays behind: a child process gets it by its file descriptor.

    Args:
        dtypes: of the mailboxes, in the order in which they lie.
        fd: of memory that the parent made; None makes it.

    Attributes:
        boxes: the mailboxes. fd: to hand on; inherited only by a child that is told to.
    """

    def __init__(self, dtypes: tuple[np.dtype, ...], fd: int | None = None) -> None:
        sizes = [Mailbox.size(dtype) for dtype in dtypes]
        self.fd = _anonymous(sum(sizes)) if fd is None else fd
        self._map = mmap.mmap(self.fd, sum(sizes))
        view, ends = memoryview(self._map), np.cumsum(sizes).tolist()
        self.boxes = tuple(
            Mailbox(view[end - size : end], dtype) for end, size, dtype in zip(ends, sizes, dtypes, strict=True)
        )

    def close(self) -> None:
        """Close the descriptor; the mapping lives as long as its mailboxes do. Safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _anonymous(size: int) -> int:
    """A file descriptor of `size` zero bytes that lie in memory where the system has a place for that."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryFile(dir=memory if memory.is_dir() else None) as file:
        file.truncate(size)
        return os.dup(file.fileno())

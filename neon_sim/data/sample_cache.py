"""Samples on disk, as they are learned from: an episode's video is decoded once in a training, and not at each visit.

One safetensors file holds all samples of one episode. A sample's clip is a few of the episode's pictures (4 in 16 steps
with the usual settings), so this is a quarter of what the episodes are in memory; a sample is read by itself, and the
operating system keeps what it can of the files in memory, for all processes that read data together.
"""

import os
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import numpy as np

from neon_sim.data.windows import Window

_SPARE: Final = 2 * 2**30  # bytes of the disk that are left to others
_RECOUNT: Final = 32  # files that a process writes between two looks at what all of them wrote
_MAPPED: Final = 8192  # files at most; a system allows 65,530 maps, and opening one takes longer than reading a sample
_WHOLE: Final = ("chunk", "mask", "target_pos_b")  # of every window, as the arrays that they are


class SampleCache:
    """A folder of samples that were cut before. Files appear whole or not at all, so processes may share it.

    Args:
        folder: for one way to cut one set of data; it is made when the first file is written.
        limit_gb: nothing is added beyond it (within some dozen episodes of each process that writes), nor to a disk
            with less than 2 GB left: what does not fit is read from its source each time.
    """

    def __init__(self, folder: str | os.PathLike[str], limit_gb: float) -> None:
        self.folder, self.limit = Path(folder), int(limit_gb * 2**30)
        self.full = False  # something did not fit: nothing more is added by this process
        self._size = 0  # bytes of all files when they were counted last, and of those that were written since
        self._uncounted = _RECOUNT
        self._opened: OrderedDict[Path, Any] = OrderedDict()  # mapped files, the one asked for last at the end

    def __getstate__(self) -> dict[str, Any]:
        """For a worker, which opens files itself."""
        return {**vars(self), "_opened": OrderedDict()}

    def close(self) -> None:
        """Let go of the files: as long as they are mapped, those that were removed take their room."""
        self._opened.clear()

    def count(self, name: str, index: int) -> int | None:
        """How many samples an episode has; None if they are not here."""
        stored = self._open(name, index)
        return None if stored is None else stored.get_slice("hand").get_shape()[0]

    def read(self, name: str, index: int, place: int) -> Window | None:
        """Sample `place` of an episode; None if it is not here."""
        stored = self._open(name, index)
        if stored is None:
            return None
        keys = stored.keys()
        entry = {key: stored.get_slice(key)[place : place + 1][0] for key in keys}
        senses = {key.removeprefix("sense."): value for key, value in entry.items() if key.startswith("sense.")}
        words = stored.metadata()["instruction"]
        whole = {key: entry[key] for key in _WHOLE}
        return Window(name, entry.get("frames"), words, senses, hand=int(entry["hand"]), **whole)

    def write(self, name: str, index: int, windows: Sequence[Window]) -> None:
        """Keep all samples of an episode, in order, if there is room."""
        from safetensors.numpy import save

        first = windows[0]
        arrays = {key: np.stack([getattr(w, key) for w in windows]) for key in _WHOLE}
        arrays["hand"] = np.array([w.hand for w in windows])
        arrays |= {f"sense.{key}": np.stack([w.senses[key] for w in windows]) for key in first.senses}
        if first.frames is not None:
            arrays["frames"] = np.stack([w.frames for w in windows if w.frames is not None])
        self.full = not self._has_room(sum(array.nbytes for array in arrays.values()))
        if self.full:
            return
        path = self._path(name, index)
        partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")  # another process may write the same one
        partial.write_bytes(save(arrays, {"instruction": first.instruction}))
        partial.replace(path)

    def _path(self, name: str, index: int) -> Path:
        return self.folder / f"{quote(name, safe='')}_{index:07d}.safetensors"

    def _open(self, name: str, index: int) -> Any:
        from safetensors import SafetensorError, safe_open

        path = self._path(name, index)
        if path in self._opened:
            self._opened.move_to_end(path)
            return self._opened[path]
        if not path.exists():
            return None
        try:
            self._opened[path] = stored = safe_open(path, framework="np")
        except SafetensorError as error:
            warnings.warn(f"{path} is damaged ({error}); its episode is read again.", stacklevel=3)
            path.unlink(missing_ok=True)
            return None
        if len(self._opened) > _MAPPED:
            self._opened.popitem(last=False)
        return stored

    def _has_room(self, size: int) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._uncounted += 1
        if self._uncounted > _RECOUNT:
            self._size = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
            self._uncounted = 0
        self._size += size
        return self._size <= self.limit and shutil.disk_usage(self.folder).free - size > _SPARE

"""Weights on their way from a learner's process to the one that acts, without a lock that a killed one could keep."""

import zlib
from multiprocessing.context import SpawnContext

import numpy as np


class WeightBox:
    """Weights in shared memory, one writer and one reader.

    There are two slots. The writer fills the one that is not the newest, notes its checksum, and then turns the page;
    killed before that, the newest is still the old one. A reader that was overtaken sees a wrong checksum.
    """

    def __init__(self, size: int, context: SpawnContext) -> None:
        self._slots = tuple(context.RawArray("f", size) for _ in range(2))
        self._page = context.RawArray("q", 3)  # version, and the checksum of each slot

    @property
    def version(self) -> int:
        """How often weights were published."""
        return int(self._page[0])

    def publish(self, weights: np.ndarray) -> None:
        """Offer weights (size,) float32."""
        version = self.version + 1
        slot = version % 2
        self._view(slot)[:] = weights
        self._page[1 + slot] = zlib.crc32(self._view(slot).tobytes())
        self._page[0] = version

    def newest(self) -> tuple[int, np.ndarray] | None:
        """Version and weights (size,) float32; None if they were being overwritten: ask again later."""
        version = self.version
        slot = version % 2
        weights = self._view(slot).copy()
        return (version, weights) if zlib.crc32(weights.tobytes()) == self._page[1 + slot] else None

    def _view(self, slot: int) -> np.ndarray:
        return np.frombuffer(self._slots[slot], np.float32)

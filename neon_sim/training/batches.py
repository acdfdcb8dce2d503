"""Samples of a data soup as tensors. A batch is a list of groups: the samples of a group have the same senses."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.source import BadEpisodeError
from neon_sim.data.windows import Window


@dataclass(frozen=True)
class Group:
    """B samples with the same senses."""

    frames: Tensor | None  # (B, T, S, S, 3) uint8
    instructions: list[str]
    senses: dict[str, Tensor]  # name -> (B, ...) float32
    chunk: Tensor  # (B, steps, A)
    mask: Tensor  # (B, steps)
    hand: Tensor  # (B,) int64, -1 = nobody said
    target_pos_b: Tensor  # (B, 3) m

    def __len__(self) -> int:
        return len(self.chunk)

    @property
    def entries(self) -> float:
        """Unmasked numbers that the action loss is a mean over (D16)."""
        return float(self.mask.sum()) * self.chunk.shape[-1]

    @property
    def goals(self) -> float:
        """Samples that say what the words meant."""
        return float((self.hand >= 0).sum())

    def to(self, device: torch.device) -> "Group":
        """The same samples on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("chunk", "mask", "hand", "target_pos_b")}
        frames = None if self.frames is None else self.frames.to(device)
        return replace(self, frames=frames, senses={k: v.to(device) for k, v in self.senses.items()}, **moved)


def group_windows(windows: list[Window]) -> list[Group]:
    """Samples -> groups, in the order in which their kind first appears."""
    kinds: dict[tuple[object, ...], list[Window]] = defaultdict(list)
    for window in windows:
        senses = tuple(sorted((name, value.shape) for name, value in window.senses.items()))
        kinds[(None if window.frames is None else window.frames.shape, senses)].append(window)
    return [_stack(alike) for alike in kinds.values()]


def _stack(windows: list[Window]) -> Group:
    first = windows[0]
    frames = None if first.frames is None else _tensor([w.frames for w in windows])
    return Group(
        frames,
        [w.instruction for w in windows],
        {name: _tensor([w.senses[name] for w in windows]) for name in first.senses},
        _tensor([w.chunk for w in windows]),
        _tensor([w.mask for w in windows]),
        torch.tensor([w.hand for w in windows]),
        _tensor([w.target_pos_b for w in windows]),
    )


def _tensor(arrays: Sequence[Any]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


Told = dict[tuple[str, int], str]  # what was left out, as `DataSoup.bad` says it


class _Batches(Dataset[tuple[list[Group], Told]]):
    """Batch number n of one process, and what its soup has left out by then."""

    def __init__(self, soup: DataSoup, size: int, rank: int, world: int) -> None:
        self.soup, self.size, self.rank, self.world = soup, size, rank, world

    def __getitem__(self, number: int) -> tuple[list[Group], Told]:
        first = (number * self.world + self.rank) * self.size
        self.soup.quiet = get_worker_info() is not None  # the main process warns, once for all workers
        try:
            windows = [self.soup[k] for k in range(first, first + self.size)]
        except BadEpisodeError as error:  # torch rebuilds a worker's error from its message, which this class allows
            raise BadEpisodeError(str(error)) from error
        return group_windows(windows), self.soup.bad


def batches(
    soup: DataSoup, size: int, first: int, end: int, rank: int = 0, world: int = 1, workers: int = 0
) -> Iterator[list[Group]]:
    """Batches `first` to `end` - 1 of a process, in order: W processes share each W * size consecutive samples.

    What workers leave out is left out in `soup` as well. Raises BadEpisodeError as `soup` does.
    """
    loader = DataLoader(
        _Batches(soup, size, rank, world),
        batch_size=None,
        sampler=range(first, end),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=False,
        prefetch_factor=2 if workers else None,
    )
    for groups, bad in loader:
        soup.note_bad(bad)
        yield groups

"""Recorded rollouts as a world model trains on them: pictures stay on the disk until a window is drawn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from neon_sim.world_model.lewm import LeWM

_EPISODES_AT_ONCE: Final = 64  # that a GPU encodes side by side


class Rollouts:
    """All whole shards of a folder, or a part of their episodes.

    Raises ValueError for a folder without a whole shard.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("rest_*.npz"))
        if not paths:
            raise ValueError(
                f"{folder} holds no rollouts. Record some of the task in question: "
                "python agents/train_world_model.py --task TASK --collect"
            )
        rest = [dict(np.load(path)) for path in paths]
        names = [path.name.replace("rest_", "frames_").replace(".npz", ".npy") for path in paths]
        self._frames = [np.load(folder / name, mmap_mode="r") for name in names]
        self._place = np.array([(i, j) for i, part in enumerate(rest) for j in range(len(part["length"]))])
        self._arrays: dict[str, np.ndarray] = {name: np.concatenate([part[name] for part in rest]) for name in rest[0]}

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        """An array of all episodes, (N, T, ...) or (N,): see `rollouts.record_episode`; not the frames."""
        return self._arrays[name]

    @property
    def moments(self) -> int:
        """Pictures in all."""
        return int(self["length"].sum())

    def part(self, episodes: np.ndarray) -> "Rollouts":
        """Only these episodes, by index; the pictures are shared."""
        chosen = object.__new__(Rollouts)
        chosen._frames, chosen._place = self._frames, self._place[episodes]
        chosen._arrays = {name: value[episodes] for name, value in self._arrays.items()}
        return chosen

    def split(self, held_out: float) -> tuple["Rollouts", "Rollouts"]:
        """Training and held-out episodes: every k-th one is held out, whatever the number of shards."""
        period = max(2, round(1.0 / held_out))
        held = np.arange(len(self)) % period == period - 1
        return self.part(np.flatnonzero(~held)), self.part(np.flatnonzero(held))

    def frames(self, episode: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Pictures (n, S, S, 3) uint8 of one episode, before its fall."""
        shard, row = self._place[episode]
        length = int(self["length"][episode])
        return np.array(self._frames[shard][row, start : length if stop is None else stop])

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw `batch` windows of `length` moments: their episodes and where they begin in them, (batch,) each.

        Raises ValueError if no episode is that long.
        """
        fit = np.flatnonzero(self["length"] >= length)
        if not len(fit):
            raise ValueError(f"No episode has {length} moments; the longest has {self['length'].max(initial=0)}.")
        rows = rng.choice(fit, batch)
        return rows, rng.integers(0, self["length"][rows] - length + 1)

    def windows(
        self, rng: np.random.Generator, batch: int, length: int, also: tuple[str, ...] = ()
    ) -> dict[str, Tensor]:
        """Draw `batch` windows of `length` moments: frames (B, L, S, S, 3) uint8, proprio (B, L, P), actions
        (B, L - 1, A), and of the arrays `also` (B, L, ...). Raises ValueError if no episode is that long.
        """
        rows, starts = self.draw(rng, batch, length)
        within = starts[:, None] + np.arange(length)
        frames = np.stack([self.frames(row, at, at + length) for row, at in zip(rows, starts, strict=True)])
        return {
            "frames": torch.from_numpy(frames),
            "proprio": torch.from_numpy(self["proprio"][rows[:, None], within]),
            "actions": torch.from_numpy(self["commands"][rows[:, None], within[:, :-1]]),
            **{name: torch.from_numpy(self[name][rows[:, None], within]) for name in also},
        }

    @property
    def nbytes(self) -> int:
        """What all pictures before a fall take, as `ResidentRollouts` keeps them."""
        return self.moments * int(np.prod(self._frames[0].shape[2:]))

    def proprio_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (P,) over all moments before a fall."""
        seen = np.arange(self["proprio"].shape[1]) < self["length"][:, None]
        values = self["proprio"][seen].astype(np.float64)
        return torch.from_numpy(values.mean(0)).float(), torch.from_numpy(values.std(0)).float()


class SeenRollouts(Rollouts):
    """Rollouts whose pictures are what an encoder saw in them, (T, D) float32 each: where it does not learn, once is
    enough. They lie in memory.
    """

    def __init__(self, rollouts: Rollouts, encoder: nn.Module) -> None:
        """Lets every picture be seen: a millisecond or two each on one core."""
        self._frames, self._place, self._arrays = rollouts._frames, rollouts._place, rollouts._arrays
        self._seen = []
        with torch.no_grad():
            for row in tqdm(range(len(rollouts)), desc="seeing"):
                self._seen.append(encoder(torch.from_numpy(rollouts.frames(row))).numpy())

    def frames(self, episode: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """What was seen (n, D) float32 in pictures of one episode, before its fall."""
        return self._seen[episode][start:stop]

    @property
    def nbytes(self) -> int:
        """What all of it takes."""
        return sum(seen.nbytes for seen in self._seen)


class ResidentRollouts:
    """Rollouts that lie in a device's memory as one row of moments, so that a window costs no copy from the host."""

    def __init__(self, rollouts: Rollouts, device: str, also: tuple[str, ...] = ()) -> None:
        """Copies everything once; `rollouts.nbytes` says how much that is. also: arrays that windows have besides."""
        self._rollouts, self._device = rollouts, device
        lengths = rollouts["length"]
        self._first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        one = torch.from_numpy(rollouts.frames(0, 0, 1))
        self._frames = torch.empty((rollouts.moments, *one.shape[1:]), dtype=one.dtype, device=device)
        for row, (first, length) in enumerate(zip(self._first.tolist(), lengths.tolist(), strict=True)):
            self._frames[first : first + length] = torch.from_numpy(rollouts.frames(row)).to(device)
        commands = np.pad(rollouts["commands"], ((0, 0), (0, 1), (0, 0)))  # none follows the last moment
        arrays = {"proprio": rollouts["proprio"], "actions": commands} | {name: rollouts[name] for name in also}
        self._arrays = {
            name: torch.from_numpy(*moments_of(rollouts, value)).to(device) for name, value in arrays.items()
        }

    def windows(self, rng: np.random.Generator, batch: int, length: int) -> dict[str, Tensor]:
        """The windows that `Rollouts.windows` draws from the same generator, on the device."""
        rows, starts = self._rollouts.draw(rng, batch, length)
        begin = torch.from_numpy(self._first[rows] + starts).to(self._device)
        at = begin[:, None] + torch.arange(length, device=self._device)
        found = {name: value[at] for name, value in self._arrays.items()}
        return found | {"frames": self._frames[at], "actions": found["actions"][:, :-1]}


@torch.no_grad()
def encode_rollouts(model: LeWM, rollouts: Rollouts, proprio: bool = True) -> Tensor:
    """Latents (N, T, D) of whole episodes on the CPU, zeros after a fall; the model in eval mode, on any device.

    proprio False, or a model without such an input: from pictures alone.
    """
    device, feels = model.predictor.places.device, proprio and model.config.proprio_dim > 0
    lengths = rollouts["length"]
    found = torch.zeros(*rollouts["proprio"].shape[:2], model.config.dim)
    at_once = 1 if device.type == "cpu" else _EPISODES_AT_ONCE
    for rows in torch.arange(len(rollouts)).split(at_once):
        some = rows.tolist()
        frames = torch.from_numpy(np.concatenate([rollouts.frames(row) for row in some]))[None].to(device)
        felt = np.concatenate([rollouts["proprio"][row, : lengths[row]] for row in some]) if feels else None
        z = model.encode(frames, None if felt is None else torch.from_numpy(felt)[None].to(device))[0].float().cpu()
        for row, part in zip(some, z.split(lengths[some].tolist()), strict=True):
            found[row, : len(part)] = part
    return found


def whole_episodes(rollouts: Rollouts) -> Rollouts:
    """Those without a fall: their arrays have no padding."""
    return rollouts.part(np.flatnonzero(rollouts["length"] == rollouts["proprio"].shape[1]))


def moments_of(rollouts: Rollouts, *arrays: Any) -> Iterator[Any]:
    """Rows before a fall of each of `arrays` (N, T, ...), laid out flat (M, ...)."""
    seen = np.arange(rollouts["proprio"].shape[1]) < rollouts["length"][:, None]
    yield from (array[torch.from_numpy(seen)] if isinstance(array, Tensor) else array[seen] for array in arrays)

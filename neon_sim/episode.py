"""One recorded episode: what was seen, what was done, what came of it. Every data source and every loop speaks it."""

import json
import os
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

_FORMAT: Final = 1
_PER_STEP: Final = ("rewards", "terminated", "truncated")
# What numpy and zipfile raise for a file with bytes cut off or changed (seen by changing each kind of byte).
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError)
_META: Final = ("instruction", "success", "rate_hz", "control_mode")


def _left_out() -> np.ndarray:
    return np.zeros(0)


def _is_wanted(name: str, keys: Collection[str] | None) -> bool:
    part, _, key = name.partition("/")
    return part != "observations" or keys is None or key in keys


@dataclass(eq=False)
class NeonEpisode:
    """T control steps in a row. Row t of every array belongs together: observation, the action taken on it, its reward.

    observations: key -> (T, ...), as the environment's Dict names them. actions: (T, A), in [-1, 1] for G1ActionSpace.
    rewards (T,) float32, terminated and truncated (T,) bool: zeros when left out. infos: key -> (T, ...), the few that
    were worth keeping. rate_hz: steps per second. control_mode: the action layout's name.
    Raises ValueError when lengths differ, or for arrays of Python objects, which a file cannot hold safely.
    """

    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray = field(default_factory=_left_out)
    terminated: np.ndarray = field(default_factory=_left_out)
    truncated: np.ndarray = field(default_factory=_left_out)
    instruction: str = ""
    success: bool = False
    infos: dict[str, np.ndarray] = field(default_factory=dict)
    rate_hz: float = 50.0
    control_mode: str = "arms_only"

    def __post_init__(self) -> None:
        self.observations = {key: np.asarray(value) for key, value in self.observations.items()}
        self.infos = {key: np.asarray(value) for key, value in self.infos.items()}
        self.actions = np.asarray(self.actions)
        self.rewards = self._per_step(self.rewards, np.float32)
        self.terminated = self._per_step(self.terminated, np.bool_)
        self.truncated = self._per_step(self.truncated, np.bool_)
        self.success, self.rate_hz, self.control_mode = bool(self.success), float(self.rate_hz), str(self.control_mode)
        self._check()

    def __len__(self) -> int:
        return len(self.actions)

    def _per_step(self, values: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
        array = np.asarray(values, dtype=dtype)
        return np.zeros(len(self.actions), dtype=dtype) if array.shape == (0,) else array

    def _check(self) -> None:
        if self.actions.ndim != 2:
            raise ValueError(f"An episode's actions must be (T, A), got shape {self.actions.shape}.")
        for name, array in self._arrays().items():
            if array.dtype.hasobject:
                raise ValueError(f"{name} holds Python objects. Give numbers, or strings of a fixed width, per step.")
            crooked = name in _PER_STEP and array.ndim != 1
            if crooked or array.ndim == 0 or len(array) != len(self):
                wanted = f"({len(self)},)" if name in _PER_STEP else f"({len(self)}, ...)"
                raise ValueError(f"{name} must have one row per action, shape {wanted}, got {array.shape}.")
        if not self.rate_hz > 0.0:
            raise ValueError(f"An episode's rate must be positive, got {self.rate_hz} Hz.")

    def _arrays(self) -> dict[str, np.ndarray]:
        named = {name: getattr(self, name) for name in ("actions", *_PER_STEP)}
        named.update({f"observations/{key}": value for key, value in self.observations.items()})
        named.update({f"infos/{key}": value for key, value in self.infos.items()})
        return named

    def save(self, path: str | os.PathLike[str], *, compress: bool = True) -> Path:
        """Write the episode to `path`, all or nothing: whoever reads the path sees the old file or the whole new one.

        path: ends in .npz; its folder must exist. compress=False is faster and larger. Returns the path.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"An episode is saved as .npz, got {path.name!r}.")
        meta = json.dumps({"format": _FORMAT, **{name: getattr(self, name) for name in _META}})
        contents: dict[str, Any] = {"meta": np.array(meta), **self._arrays()}
        unfinished = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
        try:
            with open(unfinished, "wb") as file:
                (np.savez_compressed if compress else np.savez)(file, **contents)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave the new name on an empty file
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str], keys: Collection[str] | None = None) -> "NeonEpisode":
        """Read what `save` wrote. Never unpickles anything.

        keys: observations that are wanted, the others stay packed; None = all of them.

        Raises FileNotFoundError for no file, and ValueError for a file that is damaged, cut short or not an episode.
        """
        with open(path, "rb") as file:
            try:
                with np.load(file, allow_pickle=False) as stored:
                    arrays = {name: stored[name] for name in stored.files if _is_wanted(name, keys)}
                return cls._from_arrays(arrays)
            except _DAMAGE as error:
                raise ValueError(
                    f"{os.fspath(path)!r} is not a readable episode: {error}. Delete it and record it again."
                ) from error

    @classmethod
    def _from_arrays(cls, arrays: dict[str, np.ndarray]) -> "NeonEpisode":
        meta: dict[str, Any] = json.loads(str(arrays.pop("meta")))
        if meta.pop("format") != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT}")
        fields: dict[str, Any] = {"observations": {}, "infos": {}, **meta}
        for name, array in arrays.items():
            part, slash, key = name.partition("/")
            if slash:
                fields[part][key] = array
            else:
                fields[part] = array
        return cls(**fields)

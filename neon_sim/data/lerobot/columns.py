"""From an episode to the columns of a LeRobot data set and back.

| NeonEpisode | column |
|---|---|
| observations["proprio"] (125,) | observation.state (29 q, 29 dq, 29 tau), and a column for each other part |
| observations["audio"] float | observation.audio, PCM16 |
| observations["state"] | observation.environment_state |
| observations["instruction"] | the task, when every step says the same words |
| other pictures (H, W, 3) uint8 | observation.images.KEY, video or PNG |
| other KEY | observation.KEY; (H, W, 1) uint8 as PNG, a KEY that ends in "depth" (H, W) m as 16-bit PNG in mm |
| actions, rewards, terminated, truncated | action, next.reward, next.terminated, next.truncated, next.done |
| success | next.success, at the last step |
| infos[KEY] | info.KEY |
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neon_sim.data.lerobot.features import is_picture
from neon_sim.data.source import Keys, is_wanted
from neon_sim.episode import NeonEpisode

# The parts of the env's proprio vector in order, and the column that each becomes.
_PROPRIO = {
    "observation.state": 87,
    "observation.tracking_error": 29,
    "observation.gyro": 3,
    "observation.gravity": 3,
    "observation.velocity_command": 3,
}
_PROPRIO_DIM = sum(_PROPRIO.values())
_RENAMED = {"proprio": "observation.state", "state": "observation.environment_state"}
_KEYS = {column: key for key, column in _RENAMED.items()}
_PICTURES = "observation.images."
_INSTRUCTION_BYTES = 256
_PCM_SCALE = 32767.0


@dataclass(frozen=True)
class NeonMeta:
    """What our episodes know and the format has no place for (meta/neon.json).

    observations: keys in their order. scalars: columns of one number per step that were (T,) and not (T, 1).
    """

    control_mode: str
    observations: tuple[str, ...]
    scalars: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain lists and strings."""
        return {"format": 1, "control_mode": self.control_mode} | {
            "observations": list(self.observations),
            "scalars": list(self.scalars),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "NeonMeta":
        """Inverse of `to_json`."""
        return cls(str(given["control_mode"]), tuple(given["observations"]), tuple(given["scalars"]))

    def only(self, keys: Keys) -> "NeonMeta":
        """Of an episode with the wanted observations alone."""
        return replace(self, observations=tuple(key for key in self.observations if is_wanted(key, keys)))


def to_columns(episode: NeonEpisode) -> dict[str, np.ndarray]:
    """Columns (T, ...) by name, without the format's own bookkeeping.

    Raises:
        ValueError: a key with a slash, which the format keeps for itself, or two keys for one column.
    """
    columns: dict[str, np.ndarray] = {"action": episode.actions}
    for key, values in episode.observations.items():
        parts = _observation_columns(key, values, episode.instruction)
        for name in parts.keys() & columns.keys():
            raise ValueError(f"Observation {key!r} would be stored as {name!r}, which is taken. Rename the key.")
        columns.update(parts)
    done = episode.terminated | episode.truncated
    success = np.zeros(len(episode), bool)
    success[-1:] = episode.success
    columns |= {"next.reward": episode.rewards, "next.terminated": episode.terminated}
    columns |= {"next.truncated": episode.truncated, "next.done": done, "next.success": success}
    columns |= {f"info.{key}": values for key, values in episode.infos.items()}
    for name in columns:
        if "/" in name:
            raise ValueError(f"The LeRobot format allows no '/' in a name, got {name!r}. Rename the key.")
    return columns


def _observation_columns(key: str, values: np.ndarray, words: str) -> dict[str, np.ndarray]:
    if key == "proprio" and values.shape[1:] == (_PROPRIO_DIM,):
        ends = np.cumsum(list(_PROPRIO.values()))
        return dict(zip(_PROPRIO, np.split(values, ends[:-1], axis=1), strict=True))
    if key == "instruction" and _says(values, words):
        return {}
    if key == "audio" and values.dtype.kind == "f":
        values = np.round(np.clip(values, -1.0, 1.0) * _PCM_SCALE).astype(np.int16)
    if is_picture(key, values):
        return {_PICTURES + key: values}
    return {_RENAMED.get(key, f"observation.{key}"): values}


def _says(codes: np.ndarray, words: str) -> bool:
    code = instruction_code(words)
    return (
        code is not None and codes.dtype == np.uint8 and codes.shape[1:] == code.shape and bool((codes == code).all())
    )


def instruction_code(words: str) -> np.ndarray | None:
    """(256,) uint8 UTF-8, zero-padded, as the env observes an instruction; None for words that do not fit."""
    raw = words.encode()
    if len(raw) > _INSTRUCTION_BYTES:
        return None
    return np.frombuffer(raw.ljust(_INSTRUCTION_BYTES, b"\0"), np.uint8)


def observation_keys(columns: Collection[str]) -> dict[str, str]:
    """Column -> the observation that it holds, or a part of; columns of other things are missing."""
    is_whole = all(name in columns for name in _PROPRIO)
    found = [name for name in columns if name.startswith("observation.")]
    return {name: "proprio" if is_whole and name in _PROPRIO else _key_of(name) for name in found}


def _key_of(column: str) -> str:
    return _KEYS.get(column, column.removeprefix(_PICTURES).removeprefix("observation."))


def meta_of(episode: NeonEpisode) -> NeonMeta:
    """What has to be remembered beside the columns."""
    scalars = tuple(sorted(name for name, values in to_columns(episode).items() if values.ndim == 1))
    return NeonMeta(episode.control_mode, tuple(episode.observations), scalars)


def from_columns(
    columns: Mapping[str, np.ndarray], words: str, rate_hz: float, meta: NeonMeta | None, steps: int
) -> NeonEpisode:
    """Put an episode together from columns (T, ...); meta=None for a data set that others recorded.

    Theirs keeps its own action layout, and control_mode is "foreign".
    """
    columns = dict(columns)
    for name, values in columns.items():
        is_scalar = name in meta.scalars if meta else name.startswith(("next.", "info."))
        if is_scalar and values.shape == (steps, 1):
            columns[name] = values[:, 0]
    observations = _observations(columns, words, meta, steps)
    success = columns.get("next.success")
    done = columns.get("next.done", np.zeros(steps, bool)).astype(bool)
    truncated = columns.get("next.truncated", np.zeros(steps, bool)).astype(bool)
    return NeonEpisode(
        observations=observations,
        actions=columns["action"],
        rewards=columns.get("next.reward", np.zeros(steps, np.float32)),
        terminated=columns.get("next.terminated", done & ~truncated),
        truncated=truncated,
        instruction=words,
        success=bool(success is not None and success.any()),
        infos={name.removeprefix("info."): values for name, values in columns.items() if name.startswith("info.")},
        rate_hz=rate_hz,
        control_mode=meta.control_mode if meta else "foreign",
    )


def _observations(
    columns: dict[str, np.ndarray], words: str, meta: NeonMeta | None, steps: int
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    if all(name in columns for name in _PROPRIO):
        found["proprio"] = np.concatenate([columns.pop(name) for name in _PROPRIO], axis=1)
    found |= {_key_of(name): values for name, values in columns.items() if name.startswith("observation.")}
    if "audio" in found and found["audio"].dtype == np.int16:
        found["audio"] = found["audio"].astype(np.float32) / np.float32(_PCM_SCALE)
    if meta is None:
        return found
    code = instruction_code(words)
    if "instruction" in meta.observations and "instruction" not in found and code is not None:
        found["instruction"] = np.tile(code, (steps, 1))
    return {key: found[key] for key in meta.observations if key in found}

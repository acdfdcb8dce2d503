"""LeRobot folders that somebody else recorded, as episodes of the G1: joints by name, or a gripper's path by IK.

Which of the two follows from the columns' names. x, y, z, roll, pitch, yaw among the state's columns is a gripper's
pose (its recorded path is followed, whatever the actions mean); with `use_relative_actions` the action column itself is
seven relative steps; everything else goes through `ActionMapper`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.data.action_mapper import ActionMapper, MappingReport
from neon_sim.data.lerobot import BadEpisodeError as BadFileError
from neon_sim.data.lerobot import LeRobotReader
from neon_sim.data.lerobot.columns import observation_keys
from neon_sim.data.lerobot.episodes import EpisodeRow
from neon_sim.data.lerobot.features import BOOKKEEPING
from neon_sim.data.lerobot.info import INFO
from neon_sim.data.listed_episodes import RATE_HZ
from neon_sim.data.mapped_episode import (
    DEFAULT_MODE,
    G1Motion,
    make_mapper,
    mapped_motion,
    motion_episode,
    small_pictures,
)
from neon_sim.data.relative_actions import STATE_DIM
from neon_sim.data.relative_to_arms import ArmConfig, arm_motion, state_motion
from neon_sim.data.resample import resample, resampled_steps
from neon_sim.data.small_video import decode_small_video
from neon_sim.data.source import BadEpisodeError, DataSourceConfig, Keys, is_wanted
from neon_sim.episode import NeonEpisode
from neon_sim.names import nearest

_ACTION, _STATE = "action", "observation.state"
_POSE: Final = ("x", "y", "z", "roll", "pitch", "yaw")
_SENSES: Final = ("observation.lidar", "observation.audio")  # what a policy of ours can sense besides a camera
_WORDS: Final = "language_instruction"
_SUCCESS: Final = "next.success"
_FORWARD: Final = ("head", "ego", "high", "front", "top")  # parts of the names of cameras that see what hands do


@dataclass(frozen=True)
class LeRobotOptions:
    """What may be said of a LeRobot folder beside its path.

    names: of the action's entries (and the state's, if they are as many), where meta/info.json has none. rename: entry
    to G1 name, None drops it. camera: the pictures to look at. hand, approach, tolerance: see `ArmConfig`.
    """

    control_mode: str = DEFAULT_MODE
    names: Sequence[str] | None = None
    rename: Mapping[str, str | None] = field(default_factory=dict)
    camera: str | None = None
    hand: str = "right"
    approach: str = "x"
    tolerance: float = 0.05  # m

    @property
    def arm(self) -> ArmConfig:
        """How a gripper's path is followed."""
        return ArmConfig(self.hand, self.approach, self.tolerance)


@dataclass(frozen=True)
class LeRobotLayout:
    """Which columns make the action and the state, in order; those that a folder has not are left out.

    names: column -> the names of its entries, in the place of what meta/info.json says. trust_state: False where the
    state is a filler.
    """

    action: tuple[str, ...] = (_ACTION,)
    state: tuple[str, ...] = (_STATE,)
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rename: Mapping[str, str | None] = field(default_factory=dict)
    trust_state: bool = True


class _Reader(LeRobotReader):
    """Reads the wanted columns only, and puts the action and the state together where they lie in parts."""

    def __init__(self, folder: Path, layout: LeRobotLayout, camera: str | None) -> None:
        super().__init__(folder)
        features = self.info.features
        self.parts = {
            whole: tuple(part for part in parts if part in features)
            for whole, parts in ((_ACTION, layout.action), (_STATE, layout.state if layout.trust_state else ()))
        }
        if not self.parts[_ACTION]:
            raise ValueError(f"{folder / INFO} has no feature {' or '.join(layout.action)}; it has {sorted(features)}.")
        self.camera = _pick_camera(list(features), camera)
        self.widths = {name: int(np.prod(feature.shape)) for name, feature in features.items()}
        wanted = {*self.parts[_ACTION], *self.parts[_STATE], self.camera, *_SENSES, *BOOKKEEPING, _WORDS, _SUCCESS}
        self.info = replace(self.info, features={k: v for k, v in features.items() if k in wanted})

    def _unread(self, keys: Keys) -> set[str]:
        """Of what a policy can look at: the motion itself is always read."""
        seen = {name: name.removeprefix("observation.") for name in _SENSES}
        if self.camera is not None:
            seen[self.camera] = "camera"
        return {name for name, key in seen.items() if not is_wanted(key, keys)}

    def _read_columns(self, row: EpisodeRow, names: Sequence[str]) -> dict[str, np.ndarray]:
        columns = super()._read_columns(row, names)
        wholes = {
            whole: np.concatenate([columns[part].reshape(row.length, -1) for part in parts], axis=1)
            for whole, parts in self.parts.items()
            if parts
        }
        used = {part for parts in self.parts.values() for part in parts}
        return {name: values for name, values in columns.items() if name not in used} | wholes

    def _decode(self, row: EpisodeRow, name: str) -> np.ndarray:
        clip = row.clips[name]
        path = self.folder / clip.path
        try:
            return decode_small_video(path, self.info.fps, clip.first_frame, row.length)
        except FileNotFoundError as error:
            raise BadFileError(path, row.index, "missing file", str(error)) from None
        except ValueError as error:
            raise BadFileError(path, row.index, "bad video", str(error)) from error


def _pick_camera(columns: Sequence[str], wanted: str | None) -> str | None:
    cameras = [name for name in columns if name.startswith("observation.image")]
    if wanted is not None:
        found = [name for name in cameras if name == wanted or name.rpartition(".")[2] == wanted]
        if not found:
            raise nearest("camera", wanted, [name.rpartition(".")[2] for name in cameras])
        return found[0]
    forward = [name for part in _FORWARD for name in cameras if part in name.rpartition(".")[2]]
    return next(iter(forward or cameras), None)


class ForeignLeRobot:
    """An EpisodeSource. `report` says what was mapped, padded and dropped; None for a folder that we recorded.

    Raises:
        FileNotFoundError: no LeRobot folder there.
        ValueError: columns that cannot be told apart, or none that the G1 has.
    """

    def __init__(self, config: DataSourceConfig, options: LeRobotOptions, layout: LeRobotLayout | None = None) -> None:
        self.config, self.options = config, options
        layout, folder = layout or LeRobotLayout(), Path(config.path)
        self.reader: LeRobotReader = LeRobotReader(folder, RATE_HZ)
        self.report: MappingReport | None = None
        if self.reader.info.neon is not None:
            return
        reader = self.reader = _Reader(folder, layout, options.camera)
        self._camera = reader.camera
        state_names = entry_names(reader, _STATE, layout, None)
        self._pose = _pose_columns(state_names)
        self._mappers: tuple[ActionMapper, ActionMapper | None] | None = None
        if config.use_relative_actions or self._pose is not None:
            self.report = options.arm.report
            return
        names = entry_names(reader, _ACTION, layout, options.names)
        rename = {name: to for name, to in layout.rename.items() if name in names} | dict(options.rename)
        mapper = make_mapper(names, rename, f"'action' of {folder}")
        if options.names is not None and len(names) == len(state_names):
            state_names = names  # what is said of the commands holds for the angles that follow them
        known = {name: to for name, to in rename.items() if name in state_names}
        told_apart = len(set(state_names)) == len(state_names)
        self._mappers = mapper, ActionMapper(state_names, known) if told_apart else None
        self.report = mapper.report

    def __len__(self) -> int:
        return len(self.reader)

    def steps(self, index: int) -> int:
        """Length at 50 Hz, as the metadata say."""
        length = self.reader.rows[index].length
        if self.report is not None and self._pose is not None and not self.config.use_relative_actions:
            length -= 1  # a step lies between two poses
        return resampled_steps(length, self.reader.info.fps, RATE_HZ)

    def succeeded(self, index: int) -> bool:
        """Whether it says so, whatever was seen in it. Raises BadEpisodeError for one that cannot be read."""
        return self.reader.episode(index, ()).success

    def episode(self, index: int, keys: Keys = None) -> NeonEpisode:
        """Read one. Raises BadEpisodeError for one that cannot be used."""
        raw = self.reader.episode(index, keys)
        if self.report is None:
            return raw
        try:
            return resample(motion_episode(self._motion(raw), self.options.control_mode), RATE_HZ)
        except ValueError as error:
            row = self.reader.rows[index]
            where = f"{self.reader.folder / row.data_file}, episode {row.index}"
            raise BadEpisodeError(f"{where}: {error}") from error

    def _motion(self, raw: NeonEpisode) -> G1Motion:
        seen, state = self._seen(raw), raw.observations.get("proprio")
        rest: dict[str, Any] = {"instruction": raw.instruction, "success": raw.success}
        if self.config.use_relative_actions:
            scaler, rate_hz = self.config.action_scaler, raw.rate_hz
            return arm_motion(raw.actions, scaler, rate_hz, self.options.arm, observations=seen, **rest)
        if self._pose is not None and state is not None:
            poses = np.asarray(state, np.float64)[:, self._pose]
            poses = np.pad(poses, ((0, 0), (0, STATE_DIM - poses.shape[1])))
            seen = {name: values[:-1] for name, values in seen.items()}
            return state_motion(poses, raw.rate_hz, self.options.arm, observations=seen, **rest)
        assert self._mappers is not None
        target, joint_pos, velocity = mapped_motion(raw.actions, self._mappers[0], state, self._mappers[1])
        return G1Motion(target, joint_pos, raw.rate_hz, velocity, observations=seen, **rest)

    def _seen(self, raw: NeonEpisode) -> dict[str, np.ndarray]:
        names = {name.removeprefix("observation.") for name in _SENSES}
        seen = {name: np.asarray(values) for name, values in raw.observations.items() if name in names}
        key = None if self._camera is None else observation_keys([self._camera])[self._camera]
        if key in raw.observations:
            seen["camera"] = small_pictures(raw.observations[key])
        return seen


def _pose_columns(names: Sequence[str]) -> list[int] | None:
    """Places of x, y, z, roll, pitch, yaw, and of the gripper where there is one."""
    plain = [name.lower() for name in names]
    if not all(name in plain for name in _POSE):
        return None
    return [plain.index(name) for name in (*_POSE, "gripper") if name in plain]


def entry_names(reader: _Reader, whole: str, layout: LeRobotLayout, given: Sequence[str] | None) -> list[str]:
    """A name for each entry of the action or the state: given, of the layout, of meta/info.json, or its number.

    Raises ValueError where there are more or fewer names than entries.
    """
    width = sum(reader.widths[part] for part in reader.parts[whole])
    if given is not None:
        names = [str(name) for name in given]
    else:
        said = read_names(reader.folder)
        names = []
        for part in reader.parts[whole]:
            numbered = [f"{part}[{number}]" for number in range(reader.widths[part])]
            names += layout.names.get(part) or said.get(part) or numbered
    if len(names) != width:
        raise ValueError(f"{reader.folder}: {whole!r} has {width} entries, but {len(names)} names are said: {names}.")
    return names


def read_names(folder: Path) -> dict[str, list[str]]:
    """Column -> names of its entries, as meta/info.json says: a list, a list in a list, or lists by group."""
    features = json.loads((folder / INFO).read_text(encoding="utf-8"))["features"]
    return {column: list(_leaves(feature.get("names"))) for column, feature in features.items()}


def _leaves(names: object) -> list[str]:
    if names is None:
        return []
    if isinstance(names, str):
        return [names]
    if isinstance(names, Mapping) and all(isinstance(place, int) for place in names.values()):
        return [str(name) for name in sorted(names, key=lambda name: names[name])]
    parts = names.values() if isinstance(names, Mapping) else names
    return [leaf for part in parts for leaf in _leaves(part)]  # type: ignore[attr-defined]

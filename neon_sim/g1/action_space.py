"""What a policy's numbers mean: actions in [-1, 1] to joint targets and a velocity command, and back.

| mode       | layout of one action                                                 | width |
|------------|----------------------------------------------------------------------|-------|
| arms_only  | left arm 7, right arm 7, vx, vy, yaw rate                            | 17    |
| upper_body | the same, then waist yaw, roll, pitch                                | 20    |
| whole_body | left arm 7, right arm 7, waist 3, left leg 6, right leg 6            | 29    |
| whole_body, include_locomotion=True | the same, then vx, vy, yaw rate (data sets only) | 32    |
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from numbers import Real
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.names import nearest

VELOCITY_NAMES: Final = ("vx", "vy", "yaw_rate")  # m/s forward, m/s left, rad/s turning left
CENTERS: Final = ("home", "limits")
_HOW_TO_WRITE: Final = "Write it with G1ActionSpace.to_json()."

# The joint order of Neon's documents (left arm, right arm, torso, head, legs) as hardware indices:
# `hardware_array[..., DOCUMENT_ORDER]` is the documents' array, `document_array[..., HARDWARE_ORDER]` the way back.
DOCUMENT_ORDER: Final = np.concatenate([joints.GROUPS[name] for name in ("arms", "waist", "legs")])
HARDWARE_ORDER: Final = np.argsort(DOCUMENT_ORDER)
DOCUMENT_ORDER.flags.writeable = HARDWARE_ORDER.flags.writeable = False


class ControlMode(StrEnum):
    """Which joints the policy commands; the walker keeps the rest."""

    ARMS_ONLY = "arms_only"
    UPPER_BODY = "upper_body"
    WHOLE_BODY = "whole_body"


# Head groups in action order. Left arm and right arm together are the one group "arms".
_LAYOUT: Final[dict[ControlMode, tuple[str, ...]]] = {
    ControlMode.ARMS_ONLY: ("arms", "locomotion"),
    ControlMode.UPPER_BODY: ("arms", "locomotion", "torso_head"),
    ControlMode.WHOLE_BODY: ("arms", "torso_head", "legs"),
}
# Places in the 32 values (29 joints in hardware order, then the velocity command) that a head group writes to.
_PLACES: Final[dict[str, np.ndarray]] = {
    "arms": joints.GROUPS["arms"],
    "locomotion": np.arange(joints.NUM_JOINTS, joints.NUM_JOINTS + 3),
    "torso_head": joints.GROUPS["waist"],
    "legs": joints.GROUPS["legs"],
}


def _locked(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def checked_max_velocity(given: Iterable[float]) -> tuple[float, float, float]:
    """Three positive finite speeds (m/s, m/s, rad/s) as a tuple of floats; ValueError for anything else."""
    values = tuple(given) if isinstance(given, Iterable) else (given,)
    if len(values) != 3 or not all(isinstance(value, Real) and 0.0 < value < math.inf for value in values):
        raise ValueError(f"max_velocity must be three positive finite numbers (m/s, m/s, rad/s), got {given!r}.")
    return float(values[0]), float(values[1]), float(values[2])


@dataclass(frozen=True, eq=False)
class G1ActionSpace:
    """One meaning of an action vector. Two spaces are equal when the same numbers move the robot in the same way.

    control_mode: which joints are owned. action_center: "home" puts 0 at `joints.HOME` and -1, +1 at the joint limits,
    linear on either side; "limits" is min/max scaling. include_locomotion: None is the mode's own layout; True on
    whole_body appends the velocity command, for data sets only (the environment refuses it).
    max_velocity: (m/s, m/s, rad/s) at action 1; the documents' limits are 0.5 m/s and 1.0 rad/s.
    Raises ValueError for an unknown mode or center, a velocity that is not positive, or arms without locomotion.
    """

    control_mode: ControlMode | str = ControlMode.ARMS_ONLY
    action_center: str = "home"
    include_locomotion: bool | None = None
    max_velocity: tuple[float, float, float] = (0.5, 0.5, 1.0)

    def __post_init__(self) -> None:
        if self.control_mode not in list(ControlMode):
            raise nearest("control mode", self.control_mode, list(ControlMode))
        if self.action_center not in CENTERS:
            raise nearest("action center", self.action_center, CENTERS)
        object.__setattr__(self, "control_mode", ControlMode(self.control_mode))
        object.__setattr__(self, "max_velocity", checked_max_velocity(self.max_velocity))
        always = "locomotion" in _LAYOUT[self.mode]
        if always and self.include_locomotion is False:
            raise ValueError(f"{self.mode} always carries vx, vy and yaw rate. Leave include_locomotion out.")
        # What a mode does anyway is stored as None: equality and dataclasses.replace then see one spelling only.
        object.__setattr__(self, "include_locomotion", None if always or not self.include_locomotion else True)

    def __str__(self) -> str:
        fast = "/".join(f"{value:g}" for value in self.max_velocity)
        speed = f", velocity up to {fast}" if self.has_velocity else ""
        return f"{self.control_mode} ({self.dim} wide, centered on {self.action_center}{speed})"

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, G1ActionSpace) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        # A velocity limit means nothing where the action has no velocity.
        speed = self.max_velocity if self.has_velocity else None
        return self.control_mode, self.action_center, self.include_locomotion, speed

    @property
    def mode(self) -> ControlMode:
        """The control mode as an enum member, whatever it was given as."""
        return ControlMode(self.control_mode)

    @cached_property
    def groups(self) -> dict[str, slice]:
        """Head group -> its slice of the action vector, in action order."""
        names = _LAYOUT[self.mode] + (("locomotion",) if self.include_locomotion else ())
        ends = np.cumsum([len(_PLACES[name]) for name in names]).tolist()
        return {name: slice(end - len(_PLACES[name]), end) for name, end in zip(names, ends, strict=True)}

    @cached_property
    def dim(self) -> int:
        """Width of one action."""
        return sum(len(_PLACES[name]) for name in self.groups)

    @property
    def has_velocity(self) -> bool:
        """True where the action carries vx, vy and yaw rate."""
        return "locomotion" in self.groups

    @cached_property
    def _places(self) -> np.ndarray:
        return _locked(np.concatenate([_PLACES[name] for name in self.groups]))

    @cached_property
    def joint_indices(self) -> np.ndarray:
        """Hardware index of every joint entry, in action order (velocity entries left out)."""
        return _locked(self._places[self._places < joints.NUM_JOINTS])

    @cached_property
    def owned_mask(self) -> np.ndarray:
        """(29,) bool, hardware order: True where the action commands the joint."""
        return _locked(np.isin(np.arange(joints.NUM_JOINTS), self._places))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """One name per action entry: joint names, and vx, vy, yaw_rate."""
        return tuple((joints.JOINT_NAMES + VELOCITY_NAMES)[place] for place in self._places)

    @cached_property
    def lower(self) -> np.ndarray:
        """(dim,) rad or m/s or rad/s: what action -1 means."""
        return _locked(np.append(joints.LOWER, np.negative(self.max_velocity))[self._places])

    @cached_property
    def upper(self) -> np.ndarray:
        """(dim,) rad or m/s or rad/s: what action +1 means."""
        return _locked(np.append(joints.UPPER, self.max_velocity)[self._places])

    @cached_property
    def center(self) -> np.ndarray:
        """(dim,) rad or m/s or rad/s: what action 0 means."""
        middle = 0.5 * (joints.LOWER + joints.UPPER) if self.action_center == "limits" else joints.HOME
        return _locked(np.append(middle, np.zeros(3))[self._places])

    @cached_property
    def _rest(self) -> np.ndarray:
        return _locked(np.append(joints.HOME, np.zeros(3)))

    def decode(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn actions into commands.

        action: (..., dim) in [-1, 1]. Returns joint targets (..., 29) rad in hardware order, with the joints that the
        action does not own at HOME, and the velocity (..., 3) in m/s, m/s, rad/s, zero where the action has none.
        Values outside [-1, 1] go on in a straight line: `safety.limit` cuts them and says so.
        Raises ValueError when the last axis is not `dim` wide.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape[-1:] != (self.dim,):
            raise ValueError(f"{self} takes actions of shape (..., {self.dim}), got {action.shape}.")
        # A weighted mean of the three, not center + slope * action: exact to the bit at -1, 0 and +1.
        size = np.abs(action)
        value = (1.0 - size) * self.center + 0.5 * ((size + action) * self.upper + (size - action) * self.lower)
        if action.ndim == 1:
            full = self._rest.copy()
            full[self._places] = value
            return full[: joints.NUM_JOINTS], full[joints.NUM_JOINTS :]
        full = np.empty((*action.shape[:-1], self._rest.size))
        full[...] = self._rest
        full[..., self._places] = value
        return full[..., : joints.NUM_JOINTS], full[..., joints.NUM_JOINTS :]

    def encode(self, joint_target: np.ndarray, velocity: np.ndarray | None = None) -> np.ndarray:
        """Turn commands into actions: the inverse of `decode` inside the limits, cut to [-1, 1] outside them.

        joint_target: (..., 29) rad, hardware order. velocity: (..., 3) m/s, m/s, rad/s; None is standing still.
        Returns (..., dim) float64. Only what the space owns is kept. Raises ValueError for other shapes.
        """
        joint_target = np.asarray(joint_target, dtype=np.float64)
        wanted = (*joint_target.shape[:-1], 3)
        command = np.zeros(wanted) if velocity is None else np.asarray(velocity, dtype=np.float64)
        if joint_target.shape[-1:] != (joints.NUM_JOINTS,) or command.shape != wanted:
            raise ValueError(
                f"encode takes joint targets (..., {joints.NUM_JOINTS}) and velocities (..., 3) with the same leading "
                f"shape, got {joint_target.shape} and {command.shape}."
            )
        offset = np.concatenate([joint_target, command], axis=-1)[..., self._places] - self.center
        reach = np.where(offset >= 0.0, self.upper - self.center, self.center - self.lower)
        return np.clip(offset / reach, -1.0, 1.0)

    def require_equal(self, other: "G1ActionSpace", what: str = "checkpoint") -> None:
        """Raise ValueError, naming both spaces, unless `other` (of a `what`) is this space."""
        if self != other:
            raise ValueError(f"The {what}'s action space is {other}, wanted {self}. Use a {what} of the same space.")

    def to_json(self) -> str:
        """The text of action_space.json: the settings, and the names and numbers that they stand for."""
        return json.dumps(self._description(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "G1ActionSpace":
        """Read `to_json`'s text.

        Raises ValueError for text that is no JSON object, unknown or missing keys, and names, limits or a center that
        differ from this robot's, since the same numbers would then move another joint or move it elsewhere.
        """
        data = _json_object(text)
        settings = {key: data[key] for key in ("control_mode", "action_center", "include_locomotion", "max_velocity")}
        space = cls(**settings)
        if data["names"] != list(space.names):
            raise ValueError(
                f"The file's entries are {data['names']}, but {space} has {list(space.names)}. "
                "Map the data by joint name (ActionMapper), then write the file again."
            )
        for key in ("lower", "center", "upper"):
            if not _same_numbers(data[key], getattr(space, key)):
                raise ValueError(
                    f"The file's {key} {data[key]} is not that of {space}: {getattr(space, key).tolist()}. "
                    "It was made for another robot or version; retrain, or convert the data by decoding and encoding."
                )
        return space

    def _description(self) -> dict[str, Any]:
        return {
            "control_mode": str(self.control_mode),
            "action_center": self.action_center,
            "include_locomotion": self.include_locomotion,
            "max_velocity": list(self.max_velocity),
            "names": list(self.names),
            "lower": self.lower.tolist(),
            "center": self.center.tolist(),
            "upper": self.upper.tolist(),
        }


def _same_numbers(given: object, expected: np.ndarray) -> bool:
    if not isinstance(given, list) or len(given) != len(expected):
        return False
    numbers = [value for value in given if isinstance(value, int | float)]
    return len(numbers) == len(given) and bool(np.allclose(numbers, expected, rtol=0.0, atol=1e-9))


def _json_object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"An action space file must be JSON: {error}. {_HOW_TO_WRITE}") from error
    wanted = set(G1ActionSpace()._description())
    if not isinstance(data, dict) or set(data) != wanted:
        keys = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"An action space file has exactly the keys {sorted(wanted)}, got {keys}. {_HOW_TO_WRITE}")
    return data

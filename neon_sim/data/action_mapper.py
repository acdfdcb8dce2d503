"""ActionMapper: another robot's joints onto the G1's, by name (eq. 18), and a report of what that leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.action_space import VELOCITY_NAMES
from neon_sim.names import nearest

G1_NAMES = (*joints.JOINT_NAMES, *VELOCITY_NAMES)


@dataclass(frozen=True)
class MappingReport:
    """What became of the source's columns and of the G1's places."""

    mapped: dict[str, str]  # source column -> G1 name
    padded: tuple[str, ...]  # G1 names that no column says: they stay at the value for "nothing said"
    dropped: tuple[str, ...]  # source columns without a place on the stock G1, grippers among them (D9)

    def __str__(self) -> str:
        dropped = ", ".join(self.dropped) or "nothing"
        return f"{len(self.mapped)} columns mapped, {len(self.padded)} of the G1's padded; dropped: {dropped}"


class ActionMapper:
    """a_G1[j] = a_src[i] where column i is joint j, a default elsewhere (eq. 18; its zero is the default's default).

    Args:
        source_names: one name per source column. "kLeftShoulderPitch", "left_shoulder_pitch" and
            "left_shoulder_pitch_joint" are the same joint.
        rename: source column -> G1 name, for names that do not say it themselves; None drops the column.

    Raises:
        ValueError: two columns for one joint, or a rename to a joint that the G1 has not.
    """

    def __init__(self, source_names: Sequence[str], rename: Mapping[str, str | None] | None = None) -> None:
        rename = rename or {}
        for name, target in rename.items():
            if name not in source_names:
                raise nearest("source column", name, source_names)
            if target is not None and target not in G1_NAMES:
                raise nearest("G1 joint", target, G1_NAMES)
        known = {_plain(name): name for name in G1_NAMES}
        targets = {name: rename[name] if name in rename else known.get(_plain(name)) for name in source_names}
        self.source_names = tuple(source_names)
        mapped = {name: target for name, target in targets.items() if target is not None}
        twice = sorted({target for target in mapped.values() if list(mapped.values()).count(target) > 1})
        if twice or len(set(source_names)) < len(source_names):
            raise ValueError(f"Every joint may have one source column; more than one has {twice or source_names}.")
        self._from = np.array([self.source_names.index(name) for name in mapped], dtype=np.intp)
        self._to = np.array([G1_NAMES.index(target) for target in mapped.values()], dtype=np.intp)
        padded = tuple(name for name in G1_NAMES if name not in mapped.values())
        dropped = tuple(name for name in source_names if name not in mapped)
        self.report = MappingReport(mapped, padded, dropped)

    def __call__(self, values: np.ndarray, default: np.ndarray | float = 0.0) -> np.ndarray:
        """Source values (..., n) -> G1 values (..., 32): 29 joints in hardware order, then vx, vy, yaw rate.

        default: (32,) or one number, for the places that no column says. Raises ValueError for another width.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.shape[-1:] != (len(self.source_names),):
            raise ValueError(f"ActionMapper wants {len(self.source_names)} columns, got shape {values.shape}.")
        full = np.empty((*values.shape[:-1], len(G1_NAMES)))
        full[...] = default
        full[..., self._to] = values[..., self._from]
        return full


def _plain(name: str) -> str:
    """A joint's name without the habits of whoever wrote it."""
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    if letters.startswith(("kleft", "kright", "kwaist")):  # Unitree's enum constants
        letters = letters[1:]
    return letters.removesuffix("joint")

"""The walkers that the walking benchmarks compare: by name, what to call them, and which weights they have."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from neon_sim.locomotion.balance import Balance
from neon_sim.names import nearest
from neon_sim.shipped import WALKER, asset_path
from neon_sim.walker import Walker

WALKERS: Final[dict[str, Callable[[], Any]]] = {
    "shipped": Walker,
    "stepping": functools.partial(Walker, stands=False),  # the network alone, also while it stands
    "standing": Balance,
    "base_gait": functools.partial(Walker, policy=False),
}


class Weights(NamedTuple):
    """Which file of weights a figure is of."""

    sha256: str  # first 12 hex digits
    note: str  # what the file says of itself

    @property
    def line(self) -> str:
        """For below a table."""
        return f"Weights {self.sha256}: {self.note}"


def make_walker(name: str) -> Any:
    """A walker by its name in `WALKERS`, or with the weights of an .npz file."""
    if name in WALKERS:
        return WALKERS[name]()
    if not name.endswith(".npz"):
        raise nearest("walker", name, [*WALKERS, "PATH.npz"])
    return Walker(Path(name))


def label_of(name: str) -> str:
    """What a walker is called in tables and folders: its name, or a file's with its folder, "mine-walker"."""
    if not name.endswith(".npz"):
        return name
    path = Path(name).resolve()
    return f"{path.parent.name}-{path.stem}"


def weights_of(name: str) -> Weights | None:
    """The weights of the walker that `make_walker` makes; None if it has none."""
    walker = make_walker(name)
    if not isinstance(walker, Walker):
        return None
    path = Path(name) if name.endswith(".npz") else asset_path(WALKER)
    return Weights(hashlib.sha256(path.read_bytes()).hexdigest()[:12], walker.weights.note)

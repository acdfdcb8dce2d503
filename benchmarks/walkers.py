"""The walkers that the walking benchmarks compare, by name."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from neon_sim.locomotion.balance import Balance
from neon_sim.names import nearest
from neon_sim.walker import Walker

WALKERS: Final[dict[str, Callable[[], Any]]] = {
    "shipped": Walker,
    "stepping": functools.partial(Walker, stands=False),  # the network alone, also while it stands
    "standing": Balance,
    "base_gait": functools.partial(Walker, policy=False),
}


def make_walker(name: str) -> Any:
    """A walker by its name in `WALKERS`, or with the weights of an .npz file."""
    if name in WALKERS:
        return WALKERS[name]()
    if not name.endswith(".npz"):
        raise nearest("walker", name, [*WALKERS, "PATH.npz"])
    return Walker(Path(name))

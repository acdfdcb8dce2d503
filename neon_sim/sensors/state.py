"""The privileged state as one flat vector, for plain reinforcement learning: no robot can sense it."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from neon_sim.robot import World

STATE_DIM: Final = 64
STATE_LIMIT = np.full(STATE_DIM, 100.0, np.float32)
_LOWEST: Final = -STATE_LIMIT
_BASE: Final = 7


def state_vector(world: World, truth: Mapping[str, Any]) -> np.ndarray:
    """Base pose and a task's truth -> (64,) float32, zero beyond what there is.

    First the pelvis in the world: pos_w 3 m, quat_wxyz 4. Then every number of the task's `privileged` in its order,
    dicts and arrays laid out flat; words are left out.

    Raises ValueError if a task has more to say than fits.
    """
    numbers: list[float] = []
    _add_numbers(truth, numbers)
    if len(numbers) > STATE_DIM - _BASE:
        raise ValueError(f"The state has room for {STATE_DIM - _BASE} numbers of a task, got {len(numbers)}.")
    vector = np.zeros(STATE_DIM, np.float32)
    vector[:3], vector[3:_BASE] = world.object_pose("pelvis")
    vector[_BASE : _BASE + len(numbers)] = numbers
    np.maximum(vector, _LOWEST, out=vector)
    return np.minimum(vector, STATE_LIMIT, out=vector)


def _add_numbers(value: Any, numbers: list[float]) -> None:
    """Put every number in `value` at the end of `numbers`, depth first; words are left out."""
    if isinstance(value, int | float | np.number | np.bool_):
        numbers.append(float(value))
    elif isinstance(value, np.ndarray | list | tuple):
        flat = np.asarray(value).ravel()
        if flat.dtype.kind in "fiub":
            numbers.extend(flat.tolist())
            return
        for part in flat.tolist():
            _add_numbers(part, numbers)
    elif isinstance(value, Mapping):
        for part in value.values():
            _add_numbers(part, numbers)

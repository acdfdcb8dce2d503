"""The privileged state as one flat vector, for plain reinforcement learning: no robot can sense it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from neon_sim.robot import World

STATE_DIM: Final = 64
STATE_LIMIT = np.full(STATE_DIM, 100.0, np.float32)
_BASE: Final = 7


def state_vector(world: World, truth: Mapping[str, Any]) -> np.ndarray:
    """Base pose and a task's truth -> (64,) float32, zero beyond what there is.

    First the pelvis in the world: pos_w 3 m, quat_wxyz 4. Then every number of the task's `privileged` in its order,
    dicts and arrays laid out flat; words are left out.

    Raises ValueError if a task has more to say than fits.
    """
    numbers = list(_numbers(truth))
    if len(numbers) > STATE_DIM - _BASE:
        raise ValueError(f"The state has room for {STATE_DIM - _BASE} numbers of a task, got {len(numbers)}.")
    vector = np.zeros(STATE_DIM, np.float32)
    vector[:3], vector[3:_BASE] = world.object_pose("pelvis")
    vector[_BASE : _BASE + len(numbers)] = numbers
    return np.clip(vector, -STATE_LIMIT, STATE_LIMIT, out=vector)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, np.ndarray | list | tuple):
        for part in np.asarray(value).ravel().tolist():
            yield from _numbers(part)
    elif isinstance(value, int | float | np.number | np.bool_):
        yield float(value)

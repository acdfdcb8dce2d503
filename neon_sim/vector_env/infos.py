"""Gymnasium's vector infos: arrays (N, ...) by name, each beside a mask (N,) of the envs that it is of."""

from copy import deepcopy
from typing import Any

import numpy as np


def infos_of(masks: dict[str, Any], rows: np.ndarray, count: int) -> dict[str, Any]:
    """Arrays (N, ...) of the envs `rows` among `count`, each beside its mask `_name` (N,)."""
    stepped = np.zeros(count, dtype=bool)
    stepped[rows] = True
    infos: dict[str, Any] = {}
    for name, value in masks.items():
        infos[name] = infos_of(value, rows, count) if isinstance(value, dict) else value
        infos[f"_{name}"] = stepped.copy()
    return infos


def row_of(infos: dict[str, Any], row: int) -> dict[str, Any]:
    """One env's info out of gymnasium's vector infos, in values of its own."""
    return {
        name: row_of(value, row) if isinstance(value, dict) else _own(value[row])
        for name, value in infos.items()
        if not name.startswith("_") and infos[f"_{name}"][row]
    }


def _own(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else deepcopy(value)


def forget(infos: dict[str, Any], rows: np.ndarray) -> None:
    """Make vector infos as if nothing had been said of these rows."""
    for name in [name for name in infos if not name.startswith("_")]:
        value = infos[name]
        if isinstance(value, dict):
            forget(value, rows)
        else:
            value[rows] = None if value.dtype == object else np.zeros((), value.dtype)
        infos[f"_{name}"][rows] = False

"""The walker's network in numpy: normalise, then linear layers with ELU between; one file of weights."""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neon_sim.locomotion.alike import interp

INPUT_LIMIT = 8.0  # standard deviations
_ARRAYS = ("gains", "mean", "scale", "note", "asked", "reached")


@dataclass(frozen=True)
class WalkerWeights:
    """What `agents/train_walker.py` makes."""

    gains: np.ndarray  # (18,) of the base gait
    mean: np.ndarray  # (O,) of the observation
    scale: np.ndarray  # (O,) one over its standard deviation
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]  # weight (out, in) and bias (out,) each
    note: str  # command, seed, steps, hours, machine
    asked: np.ndarray  # (3, K) rising commands vx, vy m/s, yaw rate rad/s of its training range
    reached: np.ndarray  # (3, K) rising: how fast it goes then

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Observations (B, O) -> actions (B, 16)."""
        value = ((observation - self.mean) * self.scale).clip(-INPUT_LIMIT, INPUT_LIMIT).astype(np.float32)
        for weight, bias in self.layers[:-1]:
            value = value.dot(weight.T)
            value += bias
            below = np.minimum(value, 0.0)
            np.expm1(below, out=below)
            np.maximum(value, below, out=value)  # ELU: x above 0, exp(x) - 1 below
        weight, bias = self.layers[-1]
        return (value.dot(weight.T) + bias).astype(np.float64)

    def ask(self, velocity: np.ndarray) -> np.ndarray:
        """What to command (3,) for a velocity (3,) to be reached; what lies beyond its reach becomes its limit."""
        return np.array([interp(wanted, *line) for wanted, line in zip(velocity.tolist(), self._lines, strict=True)])

    @cached_property
    def _lines(self) -> list[tuple[list[float], list[float]]]:
        """For each velocity what is reached and what to ask for then."""
        return list(zip(self.reached.tolist(), self.asked.tolist(), strict=True))


def save_weights(path: Path, weights: WalkerWeights) -> None:
    """Write one .npz, atomically."""
    arrays: dict[str, Any] = {name: getattr(weights, name) for name in _ARRAYS}
    for index, (weight, bias) in enumerate(weights.layers):
        arrays[f"weight_{index}"], arrays[f"bias_{index}"] = weight.astype(np.float32), bias.astype(np.float32)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(partial, path)


def load_weights(path: Path) -> WalkerWeights:
    """Read what `save_weights` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds no walker, or not all of one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No walker at {path}. Train one: python agents/train_walker.py --out FOLDER.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = dict(file)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:  # text, another format, cut short
        raise ValueError(f"{path} cannot be read ({error}). agents/train_walker.py writes walker.npz.") from error
    count = sum(name.startswith("weight_") for name in arrays)
    needed = {*_ARRAYS, "weight_0", *(f"bias_{i}" for i in range(count))}
    if not needed <= set(arrays):
        found = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{path} holds no walker but {found}. agents/train_walker.py writes walker.npz.")
    layers = tuple((arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(count))
    arrays["note"] = str(arrays["note"])
    return WalkerWeights(layers=layers, **{name: arrays[name] for name in _ARRAYS})


def parameters(layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    """How many numbers were learned."""
    return sum(weight.size + bias.size for weight, bias in layers)

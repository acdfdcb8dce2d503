"""The walker's network in numpy: normalise, then linear layers with ELU between; one file of weights."""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

INPUT_LIMIT = 8.0  # standard deviations


@dataclass(frozen=True)
class WalkerWeights:
    """What `agents/train_walker.py` makes."""

    gains: np.ndarray  # (18,) of the base gait
    mean: np.ndarray  # (O,) of the observation
    scale: np.ndarray  # (O,) one over its standard deviation
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]  # weight (out, in) and bias (out,) each
    note: str  # command, seed, steps, hours, machine

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Observations (B, O) -> actions (B, 16)."""
        value = ((observation - self.mean) * self.scale).clip(-INPUT_LIMIT, INPUT_LIMIT).astype(np.float32)
        for weight, bias in self.layers[:-1]:
            value = value @ weight.T
            value += bias
            value = np.maximum(value, np.expm1(np.minimum(value, 0.0)))  # ELU: x above 0, exp(x) - 1 below
        weight, bias = self.layers[-1]
        return (value @ weight.T + bias).astype(np.float64)


def save_weights(path: Path, weights: WalkerWeights) -> None:
    """Write one .npz, atomically."""
    arrays: dict[str, Any] = {name: getattr(weights, name) for name in ("gains", "mean", "scale", "note")}
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
            arrays = dict(file)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:  # text, another format, cut short
        raise ValueError(f"{path} cannot be read ({error}). agents/train_walker.py writes walker.npz.") from error
    count = sum(name.startswith("weight_") for name in arrays)
    needed = {"gains", "mean", "scale", "note", "weight_0", *(f"bias_{i}" for i in range(count))}
    if not needed <= set(arrays):
        found = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{path} holds no walker but {found}. agents/train_walker.py writes walker.npz.")
    layers = tuple((arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(count))
    return WalkerWeights(arrays["gains"], arrays["mean"], arrays["scale"], layers, str(arrays["note"]))


def parameters(layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    """How many numbers were learned."""
    return sum(weight.size + bias.size for weight, bias in layers)

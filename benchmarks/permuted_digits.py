"""Permuted digits, drawn here: seven rows of five dots somewhere in a picture, some missing, in noise, shuffled."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

GLYPHS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
SIDE = 12  # pixels of a picture's side


def draw_digits(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (count, 144) of digits at random places, some dots missing, in noise; and which digits (count,)."""
    glyphs = np.array([[[float(dot) for dot in row] for row in glyph.split()] for glyph in GLYPHS], np.float32)
    labels = rng.integers(len(GLYPHS), size=count)
    pictures = np.zeros((count, SIDE, SIDE), np.float32)
    rows, columns = rng.integers(2, SIDE - 7 - 1, size=count), rng.integers(2, SIDE - 5 - 1, size=count)
    for i, (label, row, column) in enumerate(zip(labels, rows, columns, strict=True)):
        pictures[i, row : row + 7, column : column + 5] = glyphs[label] * (rng.random((7, 5)) > 0.1)
    pictures += rng.normal(0.0, 0.15, pictures.shape).astype(np.float32)
    return torch.from_numpy(pictures.reshape(count, -1)), torch.from_numpy(labels)


@dataclass(frozen=True)
class Task:
    """One shuffling of the pixels."""

    train: dict[str, Tensor]  # "x" (N, 144), "y" (N,)
    test: dict[str, Tensor]


def make_tasks(count: int, train: int, test: int, seed: int) -> list[Task]:
    """`count` tasks of `train` and `test` pictures; the first task's pixels are where they were."""
    rng = np.random.default_rng([seed, 0])
    tasks = []
    for number in range(count):
        order = torch.from_numpy(rng.permutation(SIDE * SIDE) if number else np.arange(SIDE * SIDE))
        parts = []
        for pictures in (train, test):
            x, y = draw_digits(pictures, rng)
            parts.append({"x": x[:, order], "y": y})
        tasks.append(Task(*parts))
    return tasks

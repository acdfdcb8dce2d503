"""A fair sample of everything that ever came by, in a fixed number of bytes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neon_sim.training.fisher import Batch


class Reservoir:
    """Algorithm R (Vitter 1985): of n rows seen, each is kept with the same probability, min(1, capacity / n).

    budget_bytes: of all tensors together; the first row decides how many rows that is. rng: decides who stays, and who
    is drawn; it is part of the state. rows: no more than so many, if the budget holds more.
    """

    def __init__(self, budget_bytes: int, rng: np.random.Generator, rows: int | None = None) -> None:
        self.budget_bytes, self.rng, self.rows = budget_bytes, rng, rows
        self.seen = 0
        self.capacity = 0  # rows, known with the first
        self._rows: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes that are taken, used or not."""
        return sum(value.numel() * value.element_size() for value in self._rows.values())

    def add(self, batch: Batch) -> None:
        """Offer rows: tensors (N, ...) by name. Rows that are not finite are passed over.

        Raises:
            ValueError: rows unlike the first ones, or a budget that is too small for a single one.
        """
        batch = {name: value.detach() for name, value in batch.items()}
        if not self._rows:
            self._allocate(batch)
        self._check(batch)
        for row in finite_rows(batch).nonzero()[:, 0].tolist():
            self.seen += 1
            place = self.seen - 1 if self.seen <= self.capacity else int(self.rng.integers(self.seen))
            if place < self.capacity:
                for name, value in batch.items():
                    self._rows[name][place] = value[row]

    def sample(self, count: int) -> dict[str, Tensor] | None:
        """`count` rows, drawn with replacement; None while it is empty."""
        if not len(self) or count < 1:
            return None
        picks = torch.from_numpy(self.rng.integers(len(self), size=count))
        return {name: value[picks] for name, value in self._rows.items()}

    def get_state(self) -> dict[str, Any]:
        """The rows that are used, and the rng."""
        rows = {name: value[: len(self)].clone() for name, value in self._rows.items()}
        return {"rows": rows, "seen": self.seen, "rng": self.rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over `get_state`.

        Raises:
            ValueError: it was made with another budget.
        """
        self._rows, self.capacity, rows = {}, 0, state["rows"]
        if rows:
            self._allocate(rows)
            kept = len(next(iter(rows.values())))
            if kept != min(int(state["seen"]), self.capacity):
                raise ValueError(
                    f"The saved reservoir holds {kept} of {state['seen']} rows; this one would hold"
                    f" {self.capacity}. Resume with the budget that it was saved with."
                )
            for name, value in rows.items():
                self._rows[name][:kept] = value
        self.seen = int(state["seen"])
        self.rng.bit_generator.state = state["rng"]

    def _allocate(self, batch: Batch) -> None:
        row_bytes = sum(value[0].numel() * value.element_size() for value in batch.values())
        if row_bytes < 1 or row_bytes > self.budget_bytes:
            raise ValueError(f"One row takes {row_bytes} bytes, the budget is {self.budget_bytes}. Give more.")
        fits = self.budget_bytes // row_bytes
        self.capacity = fits if self.rows is None else min(self.rows, fits)
        self._rows = {name: value.new_empty((self.capacity, *value.shape[1:])) for name, value in batch.items()}

    def _check(self, batch: Batch) -> None:
        wanted = {name: (tuple(value.shape[1:]), value.dtype) for name, value in self._rows.items()}
        given = {name: (tuple(value.shape[1:]), value.dtype) for name, value in batch.items()}
        if given != wanted:
            raise ValueError(f"This reservoir keeps rows of {wanted}, got {given}. Another head needs its own.")


def finite_rows(batch: Batch) -> Tensor:
    """(N,) bool: whether all numbers of a row are finite."""
    parts = [value.reshape(len(value), -1).isfinite().all(1) for value in batch.values()]
    return torch.stack(parts).all(0)

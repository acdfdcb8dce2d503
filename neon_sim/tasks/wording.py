"""Instructions in words: templates to learn from, and paraphrases that are held out for testing."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neon_sim.names import nearest

HOLD_S: Final = (0.02, 60.0)  # s for which a task may ask to hold something: a control step at the least
SPLITS: Final = ("train", "test")  # of wordings and of objects; what is in one is never in the other


@dataclass(frozen=True)
class Wording:
    """Ways to say one thing. Templates are `str.format` strings; all of them take the same fields.

    Raises ValueError for a split without templates, and for a template in both splits.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (self.train and self.test):
            raise ValueError(f"A wording needs templates to train and to test with, got {self}. Add a paraphrase.")
        shared = set(self.train) & set(self.test)
        if shared:
            raise ValueError(f"Paraphrases for testing must be unseen in training, got {sorted(shared)} in both.")

    def draw(self, split: str, rng: np.random.Generator, **words: object) -> str:
        """One template of a split, its fields filled in; takes one number out of `rng`.

        Raises:
            ValueError: no such split.
        """
        templates = self.of(split)
        return templates[int(rng.integers(len(templates)))].format(**words)

    def of(self, split: str) -> tuple[str, ...]:
        """All templates of a split.

        Raises:
            ValueError: no such split.
        """
        if split not in SPLITS:
            raise nearest("split of wordings", split, SPLITS)
        return self.train if split == "train" else self.test


def check_splits(config: Any) -> None:
    """Refuse a task config whose `wording` or `objects` is no split.

    Raises:
        ValueError: naming the nearest split.
    """
    for field in ("wording", "objects"):
        if getattr(config, field) not in SPLITS:
            raise nearest(f"split for {field!r}", getattr(config, field), SPLITS)

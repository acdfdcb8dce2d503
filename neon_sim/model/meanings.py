"""Words by what they mean: a frozen table of word vectors, so that a wording nobody taught lies beside those that were.

The table's vectors come from a dictionary (`neon_sim.training.wordnet`), the small network behind it was taught with
paraphrases of the training wordings (`neon_sim.training.wordings`). The order of the words is not seen.
"""

import re
import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

_WORD: Final = re.compile(r"[a-z]+|\d+")
_RARE: Final = 0.03  # how soon a word is rare enough to count in full: weight 1/4 for the tenth, 3/4 for the hundredth
_SHORTEST: Final = 4  # letters of a known word that an unknown one may begin with
_BUCKETS: Final = 256  # for numbers and what else no dictionary has


class MeaningEncoder(nn.Module):
    """Mean of the words' vectors, common words counting less, through a network of two layers.

    A word that is not in the table is taken for the longest known one that it begins with ("leftwards" for "left"),
    and for a hash bucket of its own where there is none, as numbers are.

    Args:
        words: rows of the table, the most frequent word first.
        word_dim: width of a vector.
        form_bytes: length of the list of forms, see `write_forms`.
        dim: width of the answer.
    """

    vectors: Tensor  # (words, word_dim)
    forms: Tensor  # (form_bytes,) uint8

    def __init__(self, words: int, word_dim: int, form_bytes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(words, word_dim))
        self.register_buffer("forms", torch.zeros(form_bytes, dtype=torch.uint8))
        self.buckets = nn.Parameter(torch.randn(_BUCKETS, word_dim) / word_dim**0.5)
        self.scale = nn.LayerNorm(word_dim)
        self.net = nn.Sequential(nn.Linear(word_dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.norm = nn.LayerNorm(dim)
        self._row_of: dict[str, int] = {}
        self.register_load_state_dict_post_hook(_read_rows)

    def set_table(self, forms: Sequence[Sequence[str]], vectors: np.ndarray) -> None:
        """Put in the words: all forms of each, and its vector (words, word_dim)."""
        self.vectors.copy_(torch.from_numpy(vectors))
        self.forms.copy_(write_forms(forms))
        _read_rows(self, None)

    def rows(self, text: str) -> list[int]:
        """Rows of a text's words in the table; hash buckets follow after its end."""
        return [self._row(word) for word in _WORD.findall(text.lower())]

    def _row(self, word: str) -> int:
        for end in range(len(word), min(_SHORTEST, len(word)) - 1, -1):
            row = self._row_of.get(word[:end])
            if row is not None:
                return row
        return len(self.vectors) + zlib.crc32(word.encode()) % _BUCKETS

    def pool(self, rows: Tensor) -> Tensor:
        """Rows (B, L), -1 for none -> weighted mean vectors (B, word_dim); zeros for a text without words."""
        place = rows.clamp(min=0)
        rank = torch.where(place < len(self.vectors), place, len(self.vectors)) + 1.0
        weight = torch.where(rows >= 0, _RARE / (_RARE + 1.0 / rank), 0.0).unsqueeze(-1)
        found = torch.cat([self.vectors, self.buckets])[place]
        return (weight * found).sum(1) / weight.sum(1).clamp(min=1e-6)

    def embed(self, pooled: Tensor) -> Tensor:
        """Mean vectors (B, word_dim) -> (B, dim)."""
        return self.norm(self.net(self.scale(pooled)))

    def forward(self, texts: list[str]) -> Tensor:
        """Texts -> (B, dim)."""
        return self.embed(self.pool(padded([self.rows(text) for text in texts]).to(self.vectors.device)))


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of several texts -> (B, L) int64, -1 where a text is over."""
    longest = max(1, *(len(row) for row in rows))
    return torch.tensor([[*row, *[-1] * (longest - len(row))] for row in rows], dtype=torch.int64)


def write_forms(forms: Sequence[Sequence[str]]) -> Tensor:
    """All forms of all words as bytes: spaces between the forms of a word, a line for each word."""
    text = "\n".join(" ".join(word) for word in forms)
    return torch.from_numpy(np.frombuffer(text.encode("ascii"), np.uint8).copy())


def _read_rows(encoder: MeaningEncoder, _: Any) -> None:
    lines = bytes(encoder.forms.cpu().numpy()).decode("ascii").split("\n")
    encoder._row_of = {form: row for row, line in reversed(list(enumerate(lines))) for form in line.split()}

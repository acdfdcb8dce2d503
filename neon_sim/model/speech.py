"""SpeechResponseHead: what the robot says, read from the fused features (paper, 9.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

END_WORD = ""  # entry 0 of every vocabulary: the answer is over
_IGNORED = -100  # cross-entropy's mark for words after the end


class SpeechResponseHead(nn.Module):
    """Linear, then a softmax over a vocabulary, for each of `max_words` places of a short answer.

    The linear map has a low rank: features -> (max_words, rank) -> vocabulary, the second half shared by all places, so
    that a word is learned once wherever it stands. Words are chosen independently of each other: enough for the short
    narrations that the paper wants, not for free speech. PersonaPlexTTS turns the text into sound.

    Args:
        input_dim: width of the fused features.
        vocabulary: the words or word pieces that it may say; the end of an answer is added in front as entry 0.
        max_words: longest answer.
        rank: width between the two halves.

    Raises ValueError for an empty vocabulary, one with an empty word or with a word twice, and for sizes below 1.
    """

    def __init__(self, input_dim: int, vocabulary: Sequence[str], max_words: int = 12, rank: int = 64) -> None:
        super().__init__()
        if not vocabulary or END_WORD in vocabulary or len(set(vocabulary)) < len(vocabulary):
            raise ValueError(f"SpeechResponseHead wants different, non-empty words, got {list(vocabulary)[:8]}.")
        if max_words < 1 or rank < 1:
            raise ValueError(f"SpeechResponseHead wants max_words and rank of 1 or more, got {max_words} and {rank}.")
        self.words = (END_WORD, *vocabulary)
        self.max_words = max_words
        self.places = nn.Linear(input_dim, max_words * rank)
        self.output = nn.Linear(rank, len(self.words))
        self._ids = {word: index for index, word in enumerate(self.words)}

    def forward(self, features: Tensor) -> Tensor:
        """Fused features (B, input_dim) -> logits (B, max_words, words)."""
        return self.output(self.places(features).unflatten(-1, (self.max_words, -1)))

    def probabilities(self, features: Tensor) -> Tensor:
        """Fused features (B, input_dim) -> chance of each word at each place, (B, max_words, words)."""
        return self(features).softmax(dim=-1)

    def encode(self, answers: Sequence[str]) -> Tensor:
        """Answers, words apart by spaces, -> word ids (B, max_words) int64; after the end, -100 (not counted).

        Raises ValueError for an answer that is too long or has a word outside the vocabulary.
        """
        rows = torch.full((len(answers), self.max_words), _IGNORED)
        for row, answer in zip(rows, answers, strict=True):
            words = answer.split()
            if len(words) > self.max_words:
                raise ValueError(f"{answer!r} has {len(words)} words; this head says at most {self.max_words}.")
            unknown = [word for word in words if word not in self._ids]
            if unknown:
                raise ValueError(f"{answer!r} has words outside the vocabulary: {unknown}. Build the head with them.")
            ids = [self._ids[word] for word in words] + [0]
            row[: len(ids)] = torch.tensor(ids[: self.max_words])
        return rows

    def compute_loss(self, features: Tensor, answers: Sequence[str]) -> Tensor:
        """Mean cross-entropy per word, the end counted as one: features (B, input_dim), B answers -> scalar."""
        if len(answers) != len(features):
            raise ValueError(f"{len(features)} rows of features want as many answers, got {len(answers)}.")
        ids = self.encode(answers).to(features.device)
        return F.cross_entropy(self(features).float().flatten(0, 1), ids.flatten(), ignore_index=_IGNORED)

    @torch.no_grad()
    def respond(self, features: Tensor) -> list[str]:
        """The likeliest answer of each row: features (B, input_dim) -> B texts, empty where it has nothing to say."""
        return [self._text(row) for row in self(features).argmax(dim=-1).tolist()]

    def _text(self, ids: list[int]) -> str:
        length = ids.index(0) if 0 in ids else len(ids)
        return " ".join(self.words[index] for index in ids[:length])

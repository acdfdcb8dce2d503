"""Chat prompts with places for a clip and a sound: token ids, and the role of each, which pooling needs later."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# What a position is for. PROMPT is the frame around the content, and padding.
PROMPT, CLIP, SOUND, WORDS = range(4)

# ChatML, the frame that every Qwen model was trained in, with the usual system line.
SYSTEM = "You are a helpful assistant."
OPENING = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
CLOSING = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Part:
    """A run of tokens with one role."""

    ids: list[int]
    role: int = PROMPT


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts, padded on the right."""

    ids: Tensor  # (B, L) int64
    mask: Tensor  # (B, L) int64, 1 where a token is real
    roles: Tensor  # (B, L) int64

    def to(self, device: torch.device) -> "Prompts":
        """The same on another device."""
        return Prompts(self.ids.to(device), self.mask.to(device), self.roles.to(device))


def framing_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of our own text, in which `<|im_start|>` and the like are single tokens."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def instruction_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of somebody else's words: what looks like a special token in them is plain text."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def chat(tokenizer: Any, content: Sequence[Part], instruction: str) -> list[Part]:
    """One user turn, the content first and the instruction after it, up to where the assistant would begin.

    What follows the content is WORDS down to the assistant's opening, so that an empty instruction has words too; a
    causal model has seen the whole clip there.
    """
    return [
        Part(framing_ids(tokenizer, OPENING)),
        *content,
        Part(instruction_ids(tokenizer, instruction), WORDS),
        Part(framing_ids(tokenizer, CLOSING), WORDS),
    ]


def pad_prompts(chats: Sequence[Sequence[Part]], pad_id: int) -> Prompts:
    """Join the parts of each chat and pad them to the longest."""
    ids = [[token for part in parts for token in part.ids] for parts in chats]
    roles = [[part.role for part in parts for _ in part.ids] for parts in chats]
    longest = max(len(row) for row in ids)
    return Prompts(
        torch.tensor([row + [pad_id] * (longest - len(row)) for row in ids]),
        torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
        torch.tensor([row + [PROMPT] * (longest - len(row)) for row in roles]),
    )


def mean_over(hidden: Tensor, chosen: Tensor) -> Tensor:
    """Mean of (B, L, D) over the positions where `chosen` (B, L) is True; at least one in each row."""
    weight = chosen.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)


class RecentTexts:
    """Vectors of the last few texts: a robot hears the same instructions thousands of times."""

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    def __call__(self, texts: Sequence[str], encode: Callable[[list[str]], Tensor]) -> Tensor:
        """(B, D) for B texts; `encode` is asked once, for the distinct ones that are not known."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        fresh = dict(zip(missing, encode(missing), strict=True)) if missing else {}
        vectors = [fresh[text] if text in fresh else self._known[text] for text in texts]
        for text, vector in zip(texts, vectors, strict=True):
            self._known[text] = vector
            self._known.move_to_end(text)
        while len(self._known) > self.limit:
            self._known.popitem(last=False)
        return torch.stack(vectors)

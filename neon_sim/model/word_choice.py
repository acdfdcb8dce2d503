"""WordChoice: what a wording asks for, out of a few things; a wording nobody taught asks for one of them exactly."""

import torch
from torch import Tensor, nn


class WordChoice(nn.Module):
    """Words (B, dim) -> a soft choice (B, choices), positive, of sum one, in place of the words' own vector.

    The vector of a wording that nobody taught lies beside those that were, and heads that read it answer something they
    were not taught; a choice is one of those that they know. In training the logits are disturbed (std `noise`), so
    what the heads can rely on is a choice that is made, not one that is graded (Salakhutdinov and Hinton 2009, Semantic
    hashing).
    """

    def __init__(self, dim: int, choices: int, noise: float = 2.0) -> None:
        super().__init__()
        self.logits, self.noise = nn.Linear(dim, choices), noise

    def forward(self, words: Tensor) -> Tensor:
        """Words (B, dim) -> (B, choices)."""
        logits = self.logits(words)
        if self.training:
            logits = logits + self.noise * torch.randn_like(logits)
        return logits.softmax(dim=-1)

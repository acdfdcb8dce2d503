"""WordChoice: what words ask for, out of a few things; words that nobody taught ask for what they lie nearest to."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROUNDS = 20  # of moving the places to the middle of what is nearest to them
_SAME = 1.0 - 1e-5  # cosine of words that are the same but for rounding


class WordChoice(nn.Module):
    """Words (B, dim) -> a soft choice (B, choices), positive, of sum one, in place of the words' own vector.

    The vector of a wording that nobody taught lies beside those that were, and heads that read it answer something they
    were not taught. A choice is made among places where the wordings of the training lie: the nearer in angle the more
    it counts, a softmax of `sharpness` times the cosine. The places do not learn: a layer that learned with the heads
    would know what it was taught, and answer a wording that lies apart from all of that at random.

    Args:
        dim: width of the words.
        choices: places.
        sharpness: logits of the words that lie at a place itself; of those at right angles to it, 0.
        noise: std of what disturbs the logits in training, so that the heads do not rely on a choice that is graded
            (Salakhutdinov and Hinton 2009, Semantic hashing).
    """

    places: Tensor  # (choices, dim), of length one; zeros where none is needed, which nobody chooses

    def __init__(self, dim: int, choices: int, sharpness: float = 20.0, noise: float = 1.0) -> None:
        super().__init__()
        self.sharpness, self.noise = sharpness, noise
        self.register_buffer("places", F.normalize(torch.randn(choices, dim), dim=-1))

    def set_places(self, words: Tensor) -> None:
        """Spread the places over words (N, dim): spherical k-means, begun with those farthest from each other.

        Fewer different words than places have one each.
        """
        directions = F.normalize(words.to(self.places), dim=-1)
        places = directions[:1]
        while len(places) < len(self.places):
            nearness = (directions @ places.T).amax(1)
            farthest = int(nearness.argmin())
            if nearness[farthest] > _SAME:
                break
            places = torch.cat([places, directions[farthest][None]])
        for _ in range(_ROUNDS):
            nearest = F.one_hot((directions @ places.T).argmax(1), len(places)).to(directions)
            middles = F.normalize(nearest.T @ directions, dim=-1)
            places = torch.where(nearest.sum(0)[:, None] > 0, middles, places)
        self.places.zero_()[: len(places)] = places

    def forward(self, words: Tensor) -> Tensor:
        """Words (B, dim) -> (B, choices)."""
        logits = self.sharpness * F.normalize(words, dim=-1) @ self.places.T
        if self.training:
            logits = logits + self.noise * torch.randn_like(logits)
        return logits.masked_fill((self.places == 0).all(dim=1), -torch.inf).softmax(dim=-1)

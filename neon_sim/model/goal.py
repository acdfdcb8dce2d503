"""The goal token: what the words ask for and where the clip shows it, small enough to be put in by hand."""

import torch
from torch import Tensor, nn

from neon_sim.model.video_backbone import BackboneFeatures

GOAL_DIM = 5  # left, right (which hand), x, y, z (palm target, m / GOAL_SCALE_M, pelvis frame)
GOAL_SCALE_M = 0.25
HANDS = 2
BOTH = 2  # in the place of a hand, where the words ask for both of them


class GoalReader(nn.Module):
    """Reads the goal token out of a backbone's token grid, with the instruction as the attention's query.

    Args:
        hidden_size: width D of the backbone.
        num_tokens: N cells of its grid.
        width: width of the attention and of the MLP.
        heads: attention heads.
        heard_size: width of an encoded sound that asks beside the instruction; 0 = none does.
    """

    def __init__(
        self, hidden_size: int, num_tokens: int, width: int = 192, heads: int = 6, heard_size: int = 0
    ) -> None:
        super().__init__()
        self.heads, self.width, self.heard_size = heads, width, heard_size
        context = 2 * hidden_size + heard_size
        self.query = nn.Sequential(nn.Linear(context, width), nn.GELU(), nn.Linear(width, width))
        self.key_value = nn.Linear(hidden_size, 2 * width)
        self.places = nn.Parameter(0.02 * torch.randn(num_tokens, hidden_size))
        self.norm = nn.LayerNorm(width + context)
        self.mlp = nn.Sequential(nn.Linear(width + context, 2 * width), nn.GELU(), nn.Linear(2 * width, GOAL_DIM))

    def forward(self, features: BackboneFeatures, heard: Tensor | None = None) -> Tensor:
        """Backbone features -> raw goal (B, 5): two hand logits, then the position / GOAL_SCALE_M.

        heard: (B, heard_size); zeros where nothing is given.
        """
        batch = len(features.pooled)
        parts = [features.pooled, features.text]
        if self.heard_size:
            parts.append(features.pooled.new_zeros(batch, self.heard_size) if heard is None else heard)
        context = torch.cat(parts, dim=-1)
        q = self.query(context).view(batch, self.heads, 1, -1)
        keys, values = self.key_value(features.tokens + self.places).chunk(2, dim=-1)
        k, v = (t.view(batch, -1, self.heads, self.width // self.heads).transpose(1, 2) for t in (keys, values))
        found = nn.functional.scaled_dot_product_attention(q, k, v).reshape(batch, self.width)
        return self.mlp(self.norm(torch.cat([found, context], dim=-1)))


class NoGoal(nn.Module):
    """In the place of a goal's embedding where the heads do without: token (B, 5) -> (B, 0)."""

    def forward(self, goal: Tensor) -> Tensor:
        """Nothing, once per sample."""
        return goal[:, :0]


def goal_embedding(width: int) -> nn.Module:
    """What the heads are told of a goal token: (B, 5) -> (B, width); width 0 tells them nothing."""
    return nn.Sequential(nn.Linear(GOAL_DIM, width), nn.GELU()) if width else NoGoal()


def goal_token(raw: Tensor) -> Tensor:
    """Raw goal (B, 5) -> token (B, 5): hand probabilities in place of logits."""
    return torch.cat([raw[:, :HANDS].softmax(-1), raw[:, HANDS:]], dim=-1)


def make_goal(hand: Tensor, pos_b: Tensor) -> Tensor:
    """Token (B, 5) from the hand (B,) int64, 0 left, 1 right, and the palm target (B, 3) m in the pelvis frame."""
    return torch.cat([nn.functional.one_hot(hand, HANDS).to(pos_b.dtype), pos_b / GOAL_SCALE_M], dim=-1)


def goal_position(goal: Tensor) -> Tensor:
    """Palm target (B, 3) in metres out of a raw goal or a token (B, 5)."""
    return goal[:, HANDS:] * GOAL_SCALE_M


def goal_loss(raw: Tensor, hand: Tensor, pos_b: Tensor) -> Tensor:
    """Cross-entropy of the hand plus smooth L1 of the position (knee at 5 cm), scalar, a mean over the samples.

    hand: (B,) 0 left, 1 right, `BOTH`: then the position alone is learned.
    """
    position = nn.functional.smooth_l1_loss(raw[:, HANDS:], pos_b / GOAL_SCALE_M, beta=0.2)
    hands = nn.functional.cross_entropy(raw[:, :HANDS], hand, ignore_index=BOTH, reduction="sum") / len(hand)
    return 0.1 * hands + position

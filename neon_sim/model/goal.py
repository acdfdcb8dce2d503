"""The goal token: what the words ask for and where the clip shows it, small enough to be put in by hand."""

import torch
from torch import Tensor, nn

from neon_sim.model.video_backbone import BackboneFeatures

GOAL_DIM = 5  # left, right (which hand), x, y, z (palm target, m / GOAL_SCALE_M, pelvis frame)
GOAL_SCALE_M = 0.25
HANDS = 2


class GoalReader(nn.Module):
    """Reads the goal token out of a backbone's token grid, with the instruction as the attention's query.

    Args:
        hidden_size: width D of the backbone.
        num_tokens: N cells of its grid.
        width: width of the attention and of the MLP.
        heads: attention heads.
    """

    def __init__(self, hidden_size: int, num_tokens: int, width: int = 192, heads: int = 6) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.query = nn.Sequential(nn.Linear(2 * hidden_size, width), nn.GELU(), nn.Linear(width, width))
        self.key_value = nn.Linear(hidden_size, 2 * width)
        self.places = nn.Parameter(0.02 * torch.randn(num_tokens, hidden_size))
        self.norm = nn.LayerNorm(width + 2 * hidden_size)
        self.mlp = nn.Sequential(
            nn.Linear(width + 2 * hidden_size, 2 * width), nn.GELU(), nn.Linear(2 * width, GOAL_DIM)
        )

    def forward(self, features: BackboneFeatures) -> Tensor:
        """Backbone features -> raw goal (B, 5): two hand logits, then the position / GOAL_SCALE_M."""
        batch = len(features.pooled)
        context = torch.cat([features.pooled, features.text], dim=-1)
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
    """Cross-entropy of the hand plus smooth L1 of the position (knee at 5 cm), scalar."""
    position = nn.functional.smooth_l1_loss(raw[:, HANDS:], pos_b / GOAL_SCALE_M, beta=0.2)
    return 0.1 * nn.functional.cross_entropy(raw[:, :HANDS], hand) + position

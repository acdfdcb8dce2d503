"""What a head with cross-attention looks at beside the fused features: backbone tokens, with the goal token."""

import torch
from torch import Tensor, nn


class ContextTokens(nn.Module):
    """Backbone tokens (B, N, token_dim), and a goal token (B, goal_dim) as one row more. goal_dim 0: tokens only."""

    def __init__(self, token_dim: int, goal_dim: int = 0) -> None:
        super().__init__()
        self.token_dim, self.goal_dim = token_dim, goal_dim
        self.goal_proj = nn.Linear(goal_dim, token_dim) if goal_dim else None

    def forward(self, tokens: Tensor | None, goal: Tensor | None = None) -> Tensor:
        """(B, N, token_dim) and (B, goal_dim) -> (B, N + 1, token_dim). Raises ValueError for what is missing."""
        if tokens is None or tokens.dim() != 3 or tokens.shape[-1] != self.token_dim:
            got = None if tokens is None else tuple(tokens.shape)
            raise ValueError(f"Cross-attention wants backbone tokens (B, N, {self.token_dim}), got {got}.")
        if self.goal_proj is None:
            return tokens
        wanted = (len(tokens), self.goal_dim)
        if goal is None or goal.shape != wanted:
            got = None if goal is None else tuple(goal.shape)
            raise ValueError(f"Cross-attention wants a goal token {wanted}, got {got}.")
        return torch.cat([tokens, self.goal_proj(goal).unsqueeze(1)], dim=1)

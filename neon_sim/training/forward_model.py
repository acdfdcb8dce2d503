"""f_pred: what the fused features will be after a chunk. The learner's own, trained on what happened (D17)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.demos import Demos
from neon_sim.training.losses import coherence_loss


class ForwardModel(nn.Module):
    """Residual MLP f_before, chunk -> f_after, and the projection P of instruction embeddings into feature space.

    Args:
        features: width D of the fused features.
        steps, actions: shape of a chunk.
        text: width of the instruction embedding.
        hidden: width of the MLP.
    """

    def __init__(self, features: int, steps: int, actions: int, text: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(features + steps * actions, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, features),
        )
        self.text_projection = nn.Linear(text, features, bias=False)

    def forward(self, before: Tensor, chunk: Tensor) -> Tensor:
        """(B, D), (B, T, A) -> predicted features (B, D)."""
        return before + self.net(torch.cat([before, chunk.flatten(1)], dim=-1))

    def wanted_change(self, text: Tensor) -> Tensor:
        """P e_text (B, D): the direction in which the instruction asks the features to move."""
        return self.text_projection(text)

    @staticmethod
    def for_model(model: NeonVLA) -> "ForwardModel":
        """A fresh one with the sizes of a NeonVLA, on its device."""
        width, steps = model.fused_dim, model.config.num_action_steps
        fresh = ForwardModel(width, steps, model.action_space.dim, model.backbone.hidden_size)
        return fresh.to(next(model.parameters()).device)


@torch.no_grad()
def fused_features(model: NeonVLA, demos: Demos, rows: Tensor, senses: tuple[str, ...]) -> Tensor:
    """Fused features (len(rows), D) of demonstrations, in eval mode, a thousand at a time."""
    model.eval()
    parts = []
    for some in rows.split(1000):
        features = demos.features(some)
        parts.append(model.fuse(features.pooled, demos.senses(some, senses), features.text))
    return torch.cat(parts)


def pretrain_forward_model(
    model: NeonVLA, demos: Demos, senses: tuple[str, ...], seed: int, epochs: int = 8
) -> tuple[ForwardModel, float]:
    """Fit f_pred and P on consecutive demonstration chunks.

    Returns the model and its error on the last tenth, as a share of the error of predicting no change.
    """
    torch.manual_seed(seed)
    rows = demos.consecutive()
    before, after = fused_features(model, demos, rows, senses), fused_features(model, demos, rows + 1, senses)
    chunk, text = demos.arrays["executed"][rows], demos.arrays["text"][rows].float()
    forward_model = ForwardModel.for_model(model)
    optimizer = torch.optim.AdamW(forward_model.parameters(), 1e-3, weight_decay=0.01)
    border = int(0.9 * len(rows))
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        for batch in torch.from_numpy(rng.permutation(border)).split(256):
            predicted = forward_model(before[batch], chunk[batch])
            wanted = forward_model.wanted_change(text[batch])
            loss = F.mse_loss(predicted, after[batch])
            loss = loss + 0.1 * coherence_loss(after[batch], before[batch], wanted)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    forward_model.eval()
    with torch.no_grad():
        error = F.mse_loss(forward_model(before[border:], chunk[border:]), after[border:])
        return forward_model, float(error / F.mse_loss(before[border:], after[border:]))

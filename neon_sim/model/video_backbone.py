"""The frozen foundation model behind the heads: one interface, swapped by one config line."""

from dataclasses import dataclass

import torch
from torch import nn

from neon_sim.names import nearest

# Ids of the documents whose loading code this version does not have yet.
_DOCUMENTED = (
    "Qwen/Qwen2.5-Omni-3B",
    "Qwen/Qwen2.5-Omni-7B",
    "Qwen/Qwen2.5-VL-3B-Instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "nvidia/Cosmos-Reason2-2B",
    "nvidia/Cosmos-Reason2-8B",
    "TRIBEv2",
)
_AVAILABLE = ("compact",)


@dataclass(frozen=True)
class BackboneConfig:
    """Which foundation model, and how it is fed.

    The hidden size is not here: it is read from the loaded model (D3).
    """

    model_id: str = "compact"
    weights: str | None = None  # folder with the weights; None = the ones shipped with the package
    fps: float = 4.0  # frames per second of the clip
    max_frames: int = 4  # frames in a clip
    image_size: int = 128  # px, square
    freeze_backbone: bool = True

    def __post_init__(self) -> None:
        if self.model_id in _DOCUMENTED:
            raise ValueError(
                f"Backbone {self.model_id!r} cannot be loaded by this version yet. Use one of {_AVAILABLE}."
            )
        if self.model_id not in _AVAILABLE:
            raise nearest("backbone", self.model_id, _AVAILABLE)


@dataclass(frozen=True)
class BackboneFeatures:
    """What a backbone says about a clip and an instruction."""

    tokens: torch.Tensor  # (B, N, D) one per grid cell
    pooled: torch.Tensor  # (B, D) f_vis of eq. 1
    text: torch.Tensor  # (B, D) the instruction alone


class VideoBackbone(nn.Module):
    """Interface of every backbone. Subclasses implement `forward` and set `hidden_size`."""

    hidden_size: int  # D
    num_tokens: int  # N cells of the token grid

    @staticmethod
    def from_config(config: BackboneConfig) -> "VideoBackbone":
        """Build the backbone that `config.model_id` names, load its weights, and freeze it if asked to."""
        from neon_sim.model.compact import load_compact  # a subclass: importing it at the top would be a cycle

        backbone = load_compact(config)
        if config.freeze_backbone:
            backbone.requires_grad_(False)
            backbone.eval()
        return backbone

    def forward(self, frames: torch.Tensor, instructions: list[str]) -> BackboneFeatures:
        """Encode clips (B, T, H, W, 3) uint8, oldest frame first, with one instruction each."""
        raise NotImplementedError

"""The presets with their sizes, counted on models that have shapes and no weights."""

from typing import Final

import torch

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import COMPACT, TRIBE, BackboneConfig, VideoBackbone
from neon_sim.training.config import COSMOS_2B, COSMOS_8B, OMNI_3B, OMNI_7B, PRESETS, VL_3B, VL_7B
from neon_sim.training.train_config import TrainConfig

# Width of the features, and cells along a side of the token grid of a 224 px picture (256 px for V-JEPA 2): the widths
# are the documents', to count with; a model that is loaded has its own config's (D3).
_WIDTH_AND_SIDE: Final = {
    OMNI_7B: (3584, 8), OMNI_3B: (2048, 8), VL_7B: (3584, 8), VL_3B: (2048, 8),
    COSMOS_8B: (4096, 7), COSMOS_2B: (1536, 7), TRIBE: (1024, 16),
}  # fmt: skip


class _Shape(VideoBackbone):
    """What NeonVLA asks of a backbone before there is a clip."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.hidden_size, side = _WIDTH_AND_SIDE[config.model_id]
        self.num_tokens = max(config.token_slices, 1) * side * side


def trainable_parameters(config: TrainConfig) -> int:
    """How many weights a preset trains, its backbone's adapter left out."""
    backbone = config.model.backbone
    shape = VideoBackbone.from_config(backbone) if backbone.model_id == COMPACT else _Shape(backbone)
    with torch.device("meta"):
        return NeonVLA(config.model, shape).parameter_table()["trainable"]


# Bytes of optimiser state for each trained parameter: two moments, in 8 or in 32 bits. bitsandbytes' scale of each
# block of 256 is 3 % more than that and left out.
_STATE_BYTES: Final = {"paged_adamw_8bit": 2, "adamw": 8}
_FLOAT_BYTES: Final = 4  # weights and gradients are float32; bf16 training casts them on their way


def memory_mb(parameters: int, optim: str) -> tuple[float, float]:
    """MB (1e6 bytes) of so many trainable parameters: their weights, and weights, gradients and optimiser states.

    Activations, the backbone and the libraries come on top.
    """
    weights = _FLOAT_BYTES * parameters
    return weights / 1e6, (2 * weights + _STATE_BYTES[optim] * parameters) / 1e6


def preset_table() -> str:
    """Markdown: preset, backbone, control mode, head, senses, trainable parameters in millions, and their memory."""
    header = ("preset", "backbone", "mode", "head", "senses", "trainable", "weights", "to train")
    rows = [f"| {' | '.join(header)} |", "| " + " | ".join(["---"] * len(header)) + " |"]
    for name, build in PRESETS.items():
        config = build()
        model = config.model
        parameters = trainable_parameters(config)
        weights, training = memory_mb(parameters, config.optim)
        senses = [sense for sense in ("eef", "lidar", "audio") if getattr(model, f"use_{sense}")]
        cells = [
            f"`{name}`",
            model.backbone.model_id.rpartition("/")[2],
            model.control_mode,
            str(model.head.get("head_type", "chunking")),
            " ".join(["camera", "proprio", *senses]),
            f"{parameters / 1e6:.1f} M",
            f"{weights:.0f} MB",
            f"{training:.0f} MB",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)

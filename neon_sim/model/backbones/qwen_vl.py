"""Qwen2.5-VL: video and language (Qwen2.5-VL technical report, arXiv 2502.13923)."""

import torch
from torch import Tensor

from neon_sim.model.backbones.chat_backbone import ChatBackbone

# CLIP's channel statistics (OpenAI, 2021), which Qwen2-VL's vision tower was trained with.
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


class QwenVL(ChatBackbone):
    """Qwen2.5-VL behind the common interface. Time enters by its rotary positions, in seconds."""

    model_class = "Qwen2_5_VLModel"
    default_mean, default_std = CLIP_MEAN, CLIP_STD

    def timing(self, batch: int) -> dict[str, Tensor]:
        """Seconds per slice of the clip."""
        return {"second_per_grid_ts": torch.full((batch,), self.temporal / self.config.fps)}

"""Cosmos-Reason2: NVIDIA's physical reasoner, in the architecture of Qwen3-VL (arXiv 2511.21631)."""

from neon_sim.model.backbones.chat_backbone import ChatBackbone
from neon_sim.model.backbones.preprocess import slice_times
from neon_sim.model.backbones.prompt import CLIP, Part, framing_ids


class Cosmos(ChatBackbone):
    """Cosmos-Reason2 or any other Qwen3-VL behind the common interface. Time stands in the prompt, as text."""

    model_class = "Qwen3VLModel"
    default_mean = default_std = [0.5, 0.5, 0.5]

    def clip_parts(self) -> list[Part]:
        """A time stamp before each slice, and each slice framed by itself."""
        config, cells, parts = self.model_config, self.cells_per_side**2, []
        for time_s in slice_times(self.num_slices * self.temporal, self.config.fps, self.temporal):
            parts += [
                Part([*framing_ids(self.tokenizer, f"<{time_s:.1f} seconds>"), config.vision_start_token_id]),
                Part([config.video_token_id] * cells, CLIP),
                Part([config.vision_end_token_id]),
            ]
        return parts

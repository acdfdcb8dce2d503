"""Qwen2.5-Omni: video, sound and language (arXiv 2503.20215). Its thinker only: the robot's voice is elsewhere."""

import torch
from torch import Tensor

from neon_sim.model.backbones.chat_backbone import ChatBackbone
from neon_sim.model.backbones.preprocess import check_waveform, log_mel
from neon_sim.model.backbones.prompt import SOUND, Part
from neon_sim.model.backbones.qwen_vl import CLIP_MEAN, CLIP_STD
from neon_sim.model.video_backbone import BackboneFeatures


class QwenOmni(ChatBackbone):
    """Qwen2.5-Omni behind the common interface; sound is optional and stands after the clip in the prompt.

    The model's other layout, which shuffles sound and picture every two seconds, wants both to begin together; the
    robot's clip (4 s) and its ears (0.3 to 3 s) only end together.
    """

    model_class = "Qwen2_5OmniThinkerModel"
    default_mean, default_std = CLIP_MEAN, CLIP_STD
    hears = True

    def forward(self, frames: Tensor, instructions: list[str], audio: Tensor | None = None) -> BackboneFeatures:
        """Encode clips (B, T, H, W, 3) uint8 with one instruction each, and mono sound (B, S) at 16 kHz if given."""
        if audio is None:
            return self.encode(frames, instructions, {}, [])
        check_waveform(audio, len(frames))
        mel = log_mel(audio, self.model_config.audio_config.num_mel_bins)
        sound = {"input_features": mel, "feature_attention_mask": torch.ones(len(mel), mel.shape[-1]).long()}
        return self.encode(frames, instructions, sound, self.sound_parts(mel.shape[-1]))

    def sound_parts(self, count: int) -> list[Part]:
        """The place of `count` mel frames in the prompt: two strided layers leave one token for four of them."""
        config, halved = self.model_config, (count - 1) // 2 + 1
        return [
            Part([config.audio_start_token_id]),
            Part([config.audio_token_id] * ((halved - 2) // 2 + 1), SOUND),
            Part([config.audio_end_token_id]),
        ]

    def timing(self, batch: int) -> dict[str, Tensor]:
        """Seconds per slice of the clip."""
        return {"video_second_per_grid": torch.full((batch,), self.temporal / self.config.fps)}

    def extra_inputs(self, kinds: dict[str, Tensor]) -> dict[str, Tensor]:
        """None: this model reads the kinds off the ids."""
        return {}

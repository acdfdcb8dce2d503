"""The frozen foundation model behind the heads: one interface, swapped by one config line."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neon_sim.names import nearest

COMPACT = "compact"
TRIBE = "TRIBEv2"

# The documents' ids, and the architecture (`model_type` of the config.json) that stands behind each.
DOCUMENTED = {
    "Qwen/Qwen2.5-Omni-3B": "qwen2_5_omni",
    "Qwen/Qwen2.5-Omni-7B": "qwen2_5_omni",
    "Qwen/Qwen2.5-VL-3B-Instruct": "qwen2_5_vl",
    "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2_5_vl",
    "nvidia/Cosmos-Reason2-2B": "qwen3_vl",
    "nvidia/Cosmos-Reason2-8B": "qwen3_vl",
    TRIBE: "neon_tribe",
}
DTYPES = ("bfloat16", "float16", "float32")
ATTENTIONS = ("auto", "eager", "sdpa", "flash_attention_2")

# Frames and pixels of a clip: what our compact backbone was trained on, and the documents' numbers for the others.
_COMPACT_CLIP, _DOCUMENTED_CLIP = (4, 128), (16, 224)


@dataclass(frozen=True)
class BackboneConfig:
    """Which foundation model, how it is loaded, and how it is fed.

    The hidden size is not here: it is read from the model's own config (D3). The compact backbone reads `weights` and
    `freeze_backbone` only. `dataclasses.replace` keeps the clip's size: to change family, write a new config.
    """

    model_id: str = COMPACT  # compact, TRIBEv2, a hub id, or a local folder (with a slash in it: ./omni)
    weights: str | None = None  # folder with the weights of that model; None = model_id's own, or the shipped ones
    fps: float = 4.0  # frames per second of the clip
    max_frames: int = 0  # frames in a clip; 0 = the family's own: 4 for compact, 16 for the others
    image_size: int = 0  # px, square; 0 = the family's own: 128 for compact, 224 for the others
    freeze_backbone: bool = True  # False: a LoRA adapter is trained (TRIBEv2: its cross-modal transformer)
    load_in_4bit: bool = True  # NF4 with double quantisation, the language model only: eyes and ears keep `dtype`
    dtype: str = "bfloat16"
    device: str = "auto"  # cuda, mps or cpu, the first there is
    device_map: str = "auto"  # how accelerate spreads the layers when device is auto and there is CUDA
    attn_implementation: str = "auto"  # flash-attention 2 where it is installed, else sdpa, else eager
    lazy_load: bool = True  # weights are read at the first clip; sizes are known at once
    token_slices: int = 1  # newest slices in time of the token grid that the heads see; 0 = the whole clip
    revision: str | None = None  # commit or branch of a hub id
    adapter: str | None = None  # folder with a LoRA adapter that `save_adapter` wrote
    lora_rank: int = 16
    lora_alpha: int = 32

    def __post_init__(self) -> None:
        if self.model_id not in (COMPACT, *DOCUMENTED) and "/" not in self.model_id:
            raise nearest("backbone", self.model_id, (COMPACT, *DOCUMENTED))
        if self.dtype not in DTYPES:
            raise nearest("dtype", self.dtype, DTYPES)
        if self.attn_implementation not in ATTENTIONS:
            raise nearest("attn_implementation", self.attn_implementation, ATTENTIONS)
        if min(self.max_frames, self.image_size, self.token_slices) < 0 or self.lora_rank < 1 or self.fps <= 0:
            raise ValueError(
                "BackboneConfig wants fps > 0, lora_rank >= 1, and max_frames, image_size and token_slices >= 0 "
                f"(0 = the family's own), got {self}."
            )
        frames, pixels = _COMPACT_CLIP if self.model_id == COMPACT else _DOCUMENTED_CLIP
        object.__setattr__(self, "max_frames", self.max_frames or frames)
        object.__setattr__(self, "image_size", self.image_size or pixels)


@dataclass(frozen=True)
class BackboneFeatures:
    """What a backbone says about a clip and an instruction: float32, on the device of the frames."""

    tokens: Tensor  # (B, N, D) one per grid cell
    pooled: Tensor  # (B, D) f_vis of eq. 1
    text: Tensor  # (B, D) the instruction alone


class VideoBackbone(nn.Module):
    """Interface of every backbone. Subclasses implement `forward` and set `hidden_size` and `num_tokens`."""

    hidden_size: int  # D
    num_tokens: int  # N cells of the token grid
    hears: bool = False  # True: `forward` takes a third argument, `audio` (B, S) at 16 kHz, or None

    @staticmethod
    def from_config(config: BackboneConfig) -> "VideoBackbone":
        """Build the backbone that `config.model_id` names and freeze it if asked to.

        Raises:
            ImportError: a foundation model without the extra that loads it; the message carries the pip line.
            ConnectionError: a hub id that is neither cached nor within reach.
            ValueError: a folder that holds no backbone, or another one than the id says.
        """
        # Both import this module: at the top they would be a cycle.
        if config.model_id == COMPACT:
            from neon_sim.model.compact import load_compact

            backbone: VideoBackbone = load_compact(config)
        else:
            from neon_sim.model.backbones.families import build

            backbone = build(config)
        if config.freeze_backbone:
            backbone.requires_grad_(False)
            backbone.eval()
        return backbone

    def load(self) -> "VideoBackbone":
        """Make sure that the weights are in memory; a lazy backbone does it at its first clip otherwise."""
        return self

    def fingerprint(self) -> str:
        """Hex digits that change with everything the features depend on: weights, precision, size of the clip."""
        return module_digest(self, f"{type(self).__name__} {getattr(self, 'config', None)}")

    def forward(self, frames: Tensor, instructions: list[str]) -> BackboneFeatures:
        """Encode clips (B, T, H, W, 3) uint8, oldest frame first, with one instruction each."""
        raise NotImplementedError


def module_digest(module: nn.Module, label: str) -> str:
    """SHA-256, in hex, of a label and of every weight and buffer of a module."""
    digest = hashlib.sha256(label.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_clips(frames: Tensor, instructions: list[str]) -> None:
    """Raise ValueError unless frames are clips (B, T, H, W, 3) uint8 with as many instructions."""
    if frames.dim() != 5 or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or not frames.shape[1]:
        raise ValueError(
            f"A backbone wants clips (B, T, H, W, 3) uint8 with T >= 1, got {tuple(frames.shape)} {frames.dtype}."
        )
    if len(instructions) != len(frames):
        raise ValueError(f"{len(frames)} clips want as many instructions, got {len(instructions)}.")

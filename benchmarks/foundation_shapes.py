"""Foundation models of their published sizes with random weights, written as the hub's folders are: no download.

What a forward pass costs and what the weights occupy follow from the sizes, not from what the weights have learned.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from neon_sim.model.backbones.prompt import OPENING
from neon_sim.model.video_backbone import TRIBE

INSTRUCTION: Final = "touch the red ball with your left hand"
DTYPE: Final = torch.bfloat16
WEIGHT_STD: Final = 0.02  # initializer_range of every one of these models
_SPECIAL: Final = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>")


@dataclass(frozen=True)
class Part:
    """One transformers model: names of its config class and model class, and what the config is built with."""

    config_class: str
    model_class: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """A backbone: the documents' id, and its models by folder ("" is the backbone's own)."""

    model_id: str
    parts: dict[str, Part]


def _mrope(sections: list[int], theta: float, **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "mrope_section": sections, "rope_theta": theta, **more}


# Sizes: the config.json that each model was published with.
_QWEN25_TEXT: Final[dict[str, Any]] = {
    "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
    "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 32768,
    "rope_parameters": _mrope([16, 24, 24], 1e6),
}  # fmt: skip
_QWEN25_EYES: Final[dict[str, Any]] = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
    "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip
_QWEN3_TEXT: Final[dict[str, Any]] = {
    "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 32768,
    "rope_parameters": _mrope([24, 20, 20], 5e6, mrope_interleaved=True),
}  # fmt: skip
_QWEN3_EYES: Final[dict[str, Any]] = {
    "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2048,
    "patch_size": 16, "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17],
}  # fmt: skip
_EARS: Final[dict[str, Any]] = {
    "num_mel_bins": 128, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
    "d_model": 1280, "output_dim": 2048,
}  # fmt: skip
_PLACES: Final = {
    "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652, "vision_end_token_id": 151653
}  # fmt: skip
_OMNI_PLACES: Final = {
    "audio_token_index": 151646, "image_token_index": 151655, "video_token_index": 151656,
    "vision_start_token_id": 151652, "vision_end_token_id": 151653, "audio_start_token_id": 151647,
    "audio_end_token_id": 151648,
}  # fmt: skip
_VITG: Final[dict[str, Any]] = {
    "hidden_size": 1408, "num_hidden_layers": 40, "num_attention_heads": 22, "mlp_ratio": 48 / 11, "crop_size": 256,
    "patch_size": 16,
}  # fmt: skip
_LLAMA: Final[dict[str, Any]] = {
    "vocab_size": 128256, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
    "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
}  # fmt: skip

PUBLISHED: Final = {
    "Qwen2.5-VL-3B": Shape(
        "Qwen/Qwen2.5-VL-3B-Instruct",
        {
            "": Part(
                "Qwen2_5_VLConfig",
                "Qwen2_5_VLModel",
                {"text_config": _QWEN25_TEXT, "vision_config": _QWEN25_EYES, **_PLACES},
            )
        },
    ),
    "Cosmos-Reason2-2B": Shape(
        "nvidia/Cosmos-Reason2-2B",
        {
            "": Part(
                "Qwen3VLConfig", "Qwen3VLModel", {"text_config": _QWEN3_TEXT, "vision_config": _QWEN3_EYES, **_PLACES}
            )
        },
    ),
    "Qwen2.5-Omni-3B": Shape(
        "Qwen/Qwen2.5-Omni-3B",
        {
            "": Part(
                "Qwen2_5OmniThinkerConfig",
                "Qwen2_5OmniThinkerModel",
                {
                    "text_config": _QWEN25_TEXT,
                    "vision_config": _QWEN25_EYES,
                    "audio_config": _EARS,
                    **_OMNI_PLACES,
                },
            )
        },
    ),
    "TRIBEv2": Shape(
        TRIBE,
        {
            "video": Part("VJEPA2Config", "VJEPA2Model", _VITG),
            "audio": Part("Wav2Vec2BertConfig", "Wav2Vec2BertModel", {}),  # its defaults are w2v-bert-2.0's sizes
            "text": Part("LlamaConfig", "LlamaModel", _LLAMA),
        },
    ),
}

# What makes the same models small, by the field's name.
_TINY_FIELDS: Final[dict[str, Any]] = {
    "vocab_size": 600, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "depth": 2, "num_heads": 2, "fullatt_block_indexes": [1],
    "deepstack_visual_indexes": [0, 1], "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 96,
    "d_model": 64, "output_dim": 64, "out_hidden_size": 64, "num_position_embeddings": 16, "mlp_ratio": 2.0,
    "crop_size": 32, "hidden_size": 64, "mrope_section": [4, 6, 6],
}  # fmt: skip
_TINY_MORE: Final[dict[str, dict[str, Any]]] = {
    "VJEPA2Config": {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1},
    "Wav2Vec2BertConfig": {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
        "conv_depthwise_kernel_size": 3,
    },
}  # fmt: skip
_FIRST_PLACE: Final = 151600  # ids above it are places in the prompt; the tiny vocabulary has them at its end


def shape_of(name: str, tiny: bool) -> Shape:
    """One of `PUBLISHED`, or the same with some ten thousand weights."""
    shape = PUBLISHED[name]
    return Shape(shape.model_id, {where: _tiny(part) for where, part in shape.parts.items()}) if tiny else shape


def _tiny(part: Part) -> Part:
    return Part(part.config_class, part.model_class, {**_shrunk(part.options), **_TINY_MORE.get(part.config_class, {})})


def _shrunk(options: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            found[name] = _shrunk(value)
        elif isinstance(value, int) and value > _FIRST_PLACE and name != "vocab_size":
            found[name] = value - _FIRST_PLACE + 500
        else:
            found[name] = _TINY_FIELDS.get(name, value)
    return found


def write_random(shape: Shape, folder: Path, device: torch.device, seed: int = 0) -> int:
    """Write a backbone's folder with random bfloat16 weights, made on the device; returns how many weights.

    A folder that an earlier run left half written is replaced.
    """
    shutil.rmtree(folder, ignore_errors=True)
    counted = sum(write_part(part, folder / where, device, seed) for where, part in shape.parts.items())
    if shape.model_id == TRIBE:
        encoders = {f"{name}_encoder": name for name in shape.parts}
        (folder / "config.json").write_text(json.dumps({"model_type": "neon_tribe", **encoders}))
        transformers.SeamlessM4TFeatureExtractor().save_pretrained(folder / "audio")
    return counted


def write_part(part: Part, folder: Path, device: torch.device, seed: int) -> int:
    """Write one model: matrices are normal, norms are one, biases zero."""
    config = getattr(transformers, part.config_class)(**part.options)
    with torch.device("meta"):
        model = getattr(transformers, part.model_class)(config).to(DTYPE)
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, WEIGHT_STD, generator=generator)
            else:
                weight.fill_(float(name.endswith("weight")))
    model.save_pretrained(folder, max_shard_size="4GB")
    small_tokenizer().save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def small_tokenizer() -> Any:
    """A byte-level BPE that knows our own lines: about as many tokens for them as the published ones make."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([OPENING, INSTRUCTION, "assistant <0.2 seconds>"] * 4, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        bos_token="<|begin_of_text|>",
        additional_special_tokens=_SPECIAL,
    )

"""Random foundation models of a few ten thousand weights, written by save_pretrained as the hub's are."""

import json
from pathlib import Path
from typing import Any

import torch

SPECIAL = (
    "<|pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|AUDIO|>",
    "<|begin_of_text|>",
)
IDS = {name: i for i, name in enumerate(SPECIAL)}
HIDDEN = 32
_ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
_TEXT: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # large enough for the input to matter
}
_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": HIDDEN,
    "initializer_range": 0.3,
}
_QWEN25 = {**_VISION, "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
_QWEN3 = {**_VISION, "patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
_PLACES = {
    "image_token_id": IDS["<|image_pad|>"],
    "video_token_id": IDS["<|video_pad|>"],
    "vision_start_token_id": IDS["<|vision_start|>"],
    "vision_end_token_id": IDS["<|vision_end|>"],
}


def tiny_tokenizer() -> Any:
    """A byte-level BPE with the special tokens of the Qwen family, trained on two lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=390,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["touch the red ball with your left hand", "press the green button"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|pad|>", bos_token="<|begin_of_text|>", additional_special_tokens=SPECIAL[1:]
    )


def _save(model: Any, folder: Path, **preprocessor: Any) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def save_qwen_vl(folder: Path, seed: int = 0) -> Path:
    """A Qwen2.5-VL of two layers."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed)
    config = Qwen2_5_VLConfig(text_config={**_TEXT, "rope_parameters": _ROPE}, vision_config=_QWEN25, **_PLACES)
    return _save(Qwen2_5_VLForConditionalGeneration(config), folder, image_mean=[0.4] * 3, image_std=[0.3] * 3)


def save_cosmos(folder: Path, seed: int = 0) -> Path:
    """A Qwen3-VL of two layers: the architecture of Cosmos-Reason2."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    torch.manual_seed(seed)
    text = {**_TEXT, "head_dim": 16, "rope_parameters": {**_ROPE, "mrope_interleaved": True}}
    return _save(
        Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=_QWEN3, **_PLACES)), folder
    )


def save_omni(folder: Path, seed: int = 0) -> Path:
    """A Qwen2.5-Omni thinker of two layers per tower, in the layout of the hub's whole Omni: talker keys included."""
    from safetensors.torch import load_file, save_file
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    torch.manual_seed(seed)
    config = Qwen2_5OmniThinkerConfig(
        text_config={**_TEXT, "rope_parameters": _ROPE},
        vision_config=_QWEN25,
        audio_config={
            "num_mel_bins": 128,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "d_model": 32,
            "output_dim": HIDDEN,
            "initializer_range": 0.3,
        },
        audio_token_index=IDS["<|AUDIO|>"],
        image_token_index=IDS["<|image_pad|>"],
        video_token_index=IDS["<|video_pad|>"],
        vision_start_token_id=IDS["<|vision_start|>"],
        vision_end_token_id=IDS["<|vision_end|>"],
        audio_start_token_id=IDS["<|audio_bos|>"],
        audio_end_token_id=IDS["<|audio_eos|>"],
    )
    _save(Qwen2_5OmniThinkerForConditionalGeneration(config), folder)
    weights = {f"thinker.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file({**weights, "talker.model.norm.weight": torch.ones(2)}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_omni", "thinker_config": config.to_dict()}))
    return folder


def save_tribe_encoders(folder: Path, seed: int = 0) -> Path:
    """A V-JEPA 2, a Wav2Vec2-BERT and a LLaMA, and the config.json that names them; the fusion is not trained."""
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        SeamlessM4TFeatureExtractor,
        VJEPA2Config,
        VJEPA2Model,
        Wav2Vec2BertConfig,
        Wav2Vec2BertModel,
    )

    torch.manual_seed(seed)
    small: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.3}
    video = VJEPA2Config(
        hidden_size=24,
        crop_size=32,
        patch_size=16,
        mlp_ratio=2.0,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        **small,
    )
    VJEPA2Model(video).save_pretrained(folder / "video")
    audio = Wav2Vec2BertConfig(hidden_size=16, intermediate_size=32, conv_depthwise_kernel_size=3, **small)
    Wav2Vec2BertModel(audio).save_pretrained(folder / "audio")
    SeamlessM4TFeatureExtractor().save_pretrained(folder / "audio")
    _save(LlamaForCausalLM(LlamaConfig(**_TEXT)), folder / "text")
    encoders = {f"{name}_encoder": name for name in ("video", "audio", "text")}
    values = {"model_type": "neon_tribe", **encoders, "dim": HIDDEN, "layers": 1, "heads": 4}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


SAVERS = {"qwen_vl": save_qwen_vl, "cosmos": save_cosmos, "omni": save_omni, "tribe": save_tribe_encoders}


def tiny_clips(batch: int = 2, length: int = 4, side: int = 56, seed: int = 0) -> torch.Tensor:
    """Clips (batch, length, side, side, 3) uint8 of noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, length, side, side, 3), dtype=torch.uint8, generator=generator)


def tone(batch: int = 2, seconds: float = 1.0, hz: float = 440.0) -> torch.Tensor:
    """A sine (batch, S) at 16 kHz, a little louder in each row."""
    time_s = torch.arange(int(16000 * seconds)) / 16000.0
    return torch.linspace(0.1, 0.3, batch)[:, None] * torch.sin(2.0 * torch.pi * hz * time_s)

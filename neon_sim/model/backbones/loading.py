"""Weights of foundation models: where they lie, in what precision and on which device they are read, what may train.

Nothing here runs code that came with a checkpoint: safetensors only, and the classes of the installed transformers.
"""

import hashlib
import json
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.names import nearest

PIP_LINE = "pip install 'neon-sim[vla]'"
PREPROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
ENCODERS = ("visual", "audio_tower")  # what stays in `dtype` when the language model is quantised
LORA_TARGETS = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
_DEVICES = ("cpu", "cuda", "mps")
_SAMPLES, _SAMPLE_BYTES = 32, 65536


def require_extra(package: str) -> Any:
    """Import a package of the `vla` extra. Raises ImportError with the pip line if it is missing."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f"This backbone needs {package!r}, which cannot be imported ({error}): {PIP_LINE}") from error


def source_of(config: BackboneConfig) -> str:
    """The folder or hub id that the weights come from. Raises ValueError for a path that is not a folder."""
    source = config.weights or config.model_id
    path = Path(source).expanduser()
    if path.is_dir():
        return str(path)
    if config.weights is not None or source.startswith((".", "/", "~")):
        raise ValueError(f"No folder {source!r} with a backbone. Give the path of one that save_pretrained wrote.")
    return source


def read_config(source: str, revision: str | None = None) -> Any:
    """The transformers config of a folder or hub id.

    Raises:
        ConnectionError: the id is neither cached nor within reach.
        ValueError: the folder has no config that transformers knows.
    """
    auto = require_extra("transformers").AutoConfig
    try:
        return auto.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise unreadable(source, error) from error


def unreadable(source: str, error: Exception) -> Exception:
    """What to say when a source cannot be read: a damaged folder, or a hub id without network and cache."""
    if Path(source).is_dir():
        return ValueError(f"{source} does not hold a whole backbone ({error}). Save it again with save_pretrained.")
    return ConnectionError(
        f"{source!r} is not cached and the hub did not give it ({error}). Pass a local folder instead: "
        f"BackboneConfig(model_id={source!r}, weights='/path/to/folder')."
    )


def read_preprocessor(source: str, revision: str | None = None) -> dict[str, Any]:
    """Mean, deviation and sizes from the checkpoint's preprocessor files, the one for videos first; {} without any."""
    cached_file = require_extra("transformers.utils").cached_file
    found: dict[str, Any] = {}
    for name in reversed(PREPROCESSORS):
        path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            values = json.loads(Path(path).read_text())
            found |= values.get("video_processor", values.get("image_processor", values))
    return found


def pick_device(wanted: str) -> torch.device:
    """A device by name; "auto" is CUDA, Apple's MPS or the CPU, the first there is.

    Raises ValueError for a name that is none, and for a kind of device that is not in this machine.
    """
    if wanted != "auto":
        return _device_named(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _device_named(name: str) -> torch.device:
    kind, _, index = name.partition(":")
    if kind not in _DEVICES or (index and not index.isdecimal()):
        raise nearest("device", name, ("auto", *_DEVICES))
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[kind]:
        raise ValueError(f"There is no {kind} device that torch can use here. Take auto or cpu.")
    return torch.device(name)


def pick_attention(wanted: str, model_class: Any, device: torch.device) -> str:
    """The attention to ask transformers for: what was wanted, or the next best that runs here.

    "auto" is flash-attention 2, sdpa, eager, in that order. A warning says when an explicit wish is not met.
    """
    flash = device.type == "cuda" and require_extra("transformers.utils").is_flash_attn_2_available()
    runs = {
        "flash_attention_2": flash and getattr(model_class, "_supports_flash_attn", False),
        "sdpa": getattr(model_class, "_supports_sdpa", False),
        "eager": True,
    }
    order = ["flash_attention_2", "sdpa", "eager"]
    asked = order if wanted == "auto" else order[order.index(wanted) :]
    chosen = next(name for name in asked if runs[name])
    if wanted not in ("auto", chosen):
        warnings.warn(f"{wanted} does not run here with {model_class.__name__}; using {chosen}.", stacklevel=2)
    return chosen


def load_model(model_class: Any, source: str, model_config: Any, config: BackboneConfig, quantize: bool) -> Any:
    """Read a transformers model: dtype, device, attention and, if `quantize` and the config says so, NF4.

    Raises:
        ConnectionError, ValueError: as `read_config`; ValueError too for weights that lack a tensor of the model,
            which transformers would fill with random numbers.
    """
    require_extra("accelerate")
    device = pick_device(config.device)
    spread = config.device == "auto" and device.type == "cuda"
    options: dict[str, Any] = {
        "config": model_config,
        "dtype": getattr(torch, config.dtype),
        "device_map": config.device_map if spread else {"": str(device)},
        "attn_implementation": pick_attention(config.attn_implementation, model_class, device),
        "revision": config.revision,
    }
    if quantize and config.load_in_4bit:
        options["quantization_config"] = quantization(config)
    try:
        model, report = model_class.from_pretrained(source, use_safetensors=True, output_loading_info=True, **options)
    except OSError as error:
        raise unreadable(source, error) from error
    if report["missing_keys"]:
        raise unreadable(source, ValueError(f"no weights for {sorted(report['missing_keys'])[:3]}"))
    if "quantization_config" in options:
        keep_narrow_layers_plain(model)
    return model


def keep_narrow_layers_plain(model: nn.Module) -> None:
    """Let no 4-bit layer whose rows are no whole blocks take bitsandbytes' way for processors with bf16 instructions.

    That way repacks weights block by block and fails with such a row (0.50.2). Only tiny models have any.
    """
    four_bit = require_extra("bitsandbytes").nn.Linear4bit
    for layer in model.modules():
        if isinstance(layer, four_bit) and layer.in_features % layer.weight.quant_state.blocksize:
            layer.support_avx512bf16_for_cpu = False


def quantization(config: BackboneConfig) -> Any:
    """NF4 with double quantisation and arithmetic in `dtype` (QLoRA, Dettmers et al. 2023), encoders left alone."""
    require_extra("bitsandbytes")
    return require_extra("transformers").BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, config.dtype),
        llm_int8_skip_modules=[*ENCODERS, "lm_head"],  # the option serves four bits as well
    )


def freeze(model: nn.Module) -> nn.Module:
    """Eval mode, and no parameter asks for a gradient."""
    return model.requires_grad_(False).eval()


def adapt(model: Any, config: BackboneConfig) -> Any:
    """Put the LoRA adapter on that the config asks for, new or from `config.adapter`; the weights below stay frozen.

    A model that is frozen and has no adapter comes back as it is.
    """
    freeze(model)
    if config.adapter is not None:
        peft = require_extra("peft")
        adapted = peft.PeftModel.from_pretrained(model, config.adapter, is_trainable=not config.freeze_backbone)
        return freeze(adapted) if config.freeze_backbone else adapted
    if config.freeze_backbone:
        return model
    peft = require_extra("peft")
    lora = peft.LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=LORA_TARGETS)
    return peft.get_peft_model(model, lora)


def config_fingerprint(config: BackboneConfig, *sources: str) -> str:
    """SHA-256, in hex, of the sources and of those fields that change what the same weights say about a clip."""
    fields = (config.fps, config.max_frames, config.image_size, config.token_slices, config.dtype, config.load_in_4bit)
    return hashlib.sha256(repr((fields, sources)).encode()).hexdigest()


def source_fingerprint(source: str, model_config: Any) -> str:
    """What stands for the weights of a source without reading all of them.

    A hub id is as good as its commit. Of a folder's files the small ones are hashed whole, and of the others the size
    and 32 samples: a few megabytes out of many gigabytes, and no fine-tuning leaves those alone.
    """
    if not Path(source).is_dir():
        return f"{source}@{getattr(model_config, '_commit_hash', None)}"
    digest = hashlib.sha256()
    for path in sorted(Path(source).rglob("*")):
        if path.suffix in (".json", ".safetensors", ".jinja", ".txt"):
            digest.update(f"{path.relative_to(source)} {path.stat().st_size}".encode())
            digest.update(_sample(path))
    return digest.hexdigest()


def _sample(path: Path) -> bytes:
    """The whole of a small file, or evenly spaced pieces of a large one."""
    size = path.stat().st_size
    if size <= _SAMPLES * _SAMPLE_BYTES:
        return path.read_bytes()
    pieces = []
    with path.open("rb") as file:
        for i in range(_SAMPLES):
            file.seek(i * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))  # from the first byte to the last
            pieces.append(file.read(_SAMPLE_BYTES))
    return b"".join(pieces)

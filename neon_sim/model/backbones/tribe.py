"""TRIBEv2-style backbone: V-JEPA 2 sees, Wav2Vec2-BERT hears, LLaMA reads, all frozen; `TribeFusion` joins them."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neon_sim.model.backbones.loading import (
    config_fingerprint,
    freeze,
    load_model,
    pick_device,
    read_config,
    read_preprocessor,
    require_extra,
    source_fingerprint,
    source_of,
    unreadable,
)
from neon_sim.model.backbones.preprocess import SAMPLE_RATE, check_waveform, prepare_frames
from neon_sim.model.backbones.prompt import WORDS, Part, RecentTexts, instruction_ids, mean_over, pad_prompts
from neon_sim.model.backbones.tribe_fusion import MODALITIES, TribeConfig, TribeFusion, on_time_line
from neon_sim.model.compact import fit_length
from neon_sim.model.video_backbone import (
    BackboneConfig,
    BackboneFeatures,
    VideoBackbone,
    check_clips,
    module_digest,
)

MODEL_TYPE = "neon_tribe"
FUSION_FILE = "fusion.safetensors"
_CLASSES = {"video": "VJEPA2Model", "audio": "Wav2Vec2BertModel", "text": "LlamaModel"}
# ImageNet's channel statistics, V-JEPA 2's own.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class TribeBackbone(VideoBackbone):
    """Three frozen encoders and the transformer that joins them on V-JEPA's time line.

    - tokens: V-JEPA's newest slices, cell by cell, each with what all senses say at that time added.
    - pooled: the joined senses, averaged over time.
    - text: LLaMA's mean over the words, projected.

    Pictures come at the encoder's own `crop_size`. With `freeze_backbone=False` the transformer learns; the encoders
    never do.
    """

    hears = True

    def __init__(self, config: BackboneConfig, tribe: TribeConfig) -> None:
        super().__init__()
        if config.adapter is not None:
            raise ValueError("TRIBEv2 takes no LoRA adapter: its cross-modal transformer is what trains. Leave it out.")
        if config.revision is not None:
            raise ValueError(
                f"TRIBEv2 has three encoders in three repositories: revision {config.revision!r} can be of one only. "
                "Download the commits that you want, and name their folders in the config.json of `weights`."
            )
        self.config, self.tribe = config, tribe
        self.sources = {name: str(getattr(tribe, f"{name}_encoder")) for name in MODALITIES}
        self.configs: dict[str, Any] = {name: read_config(self.sources[name]) for name in MODALITIES}
        video = self.configs["video"]
        self.tubelet, self.side = video.tubelet_size, video.crop_size
        self.num_slices = -(-config.max_frames // self.tubelet)
        self.kept_slices = min(config.token_slices or self.num_slices, self.num_slices)
        self.num_tokens = self.kept_slices * (video.crop_size // video.patch_size) ** 2
        self.hidden_size = tribe.dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # without trained weights the projection is at least the same one everywhere
            self.fusion = TribeFusion(tribe, {name: self.configs[name].hidden_size for name in MODALITIES})
        self.fusion.to(pick_device(config.device))
        self.encoders = nn.ModuleDict()
        self.tokenizer: Any = None
        self.ears: Any = None
        self.mean, self.std = _MEAN, _STD
        self._texts = RecentTexts()

    def load(self) -> "TribeBackbone":
        """Read the three encoders, unless they are there. Raises as `loading.load_model` does."""
        if self.encoders:
            return self
        transformers = require_extra("transformers")
        encoders = {
            name: freeze(
                load_model(
                    getattr(transformers, _CLASSES[name]),
                    self.sources[name],
                    self.configs[name],
                    self.config,
                    quantize=name == "text",
                )
            )
            for name in MODALITIES
        }
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.sources["text"])
        self.ears = transformers.SeamlessM4TFeatureExtractor.from_pretrained(self.sources["audio"])
        found = read_preprocessor(self.sources["video"])
        self.mean, self.std = found.get("image_mean", _MEAN), found.get("image_std", _STD)
        self.encoders.update(encoders)
        return self

    def train(self, mode: bool = True) -> "TribeBackbone":
        """Training mode for the cross-modal transformer if it learns; the encoders stay in eval mode."""
        super().train(mode and not self.config.freeze_backbone)
        self.encoders.eval()
        return self

    def fingerprint(self) -> str:
        """As `VideoBackbone.fingerprint`; the encoders count by their files, so that nothing is loaded for it."""
        encoders = [source_fingerprint(self.sources[name], self.configs[name]) for name in MODALITIES]
        return config_fingerprint(self.config, *encoders, module_digest(self.fusion, str(self.tribe)))

    def forward(self, frames: Tensor, instructions: list[str], audio: Tensor | None = None) -> BackboneFeatures:
        """Encode clips (B, T, H, W, 3) uint8 with one instruction each, and mono sound (B, S) at 16 kHz if given."""
        check_clips(frames, instructions)
        if audio is not None:
            check_waveform(audio, len(frames))
        self.load()
        with torch.no_grad():
            grid, heard, read = self.see(frames), self.hear(audio, len(frames)), self.read(instructions)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_backbone):
            keep = self.fusion.keep(len(frames), audio is not None)
            cells = self.fusion.project("video", grid)  # (B, slices, cells, D)
            text = self.fusion.project("text", read)
            joined = self.fusion(cells.mean(dim=2), self.fusion.project("audio", heard), text, keep)
            seen = cells[:, -self.kept_slices :] * keep[:, :1, None, None]
            tokens = (seen + joined[:, -self.kept_slices :, None]).flatten(1, 2)
            pooled = joined.mean(dim=1)
        return BackboneFeatures(*(value.to(frames.device) for value in (tokens, pooled, text)))

    def see(self, frames: Tensor) -> Tensor:
        """Clips (B, T, H, W, 3) uint8 -> V-JEPA's cells (B, slices, cells, D_video)."""
        encoder: Any = self.encoders["video"]
        clip = fit_length(frames, self.num_slices * self.tubelet).to(encoder.device)
        pixels = prepare_frames(clip, self.side, self.mean, self.std, encoder.dtype)
        hidden = encoder(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
        return self._here(hidden).unflatten(1, (self.num_slices, -1))

    def hear(self, audio: Tensor | None, batch: int) -> Tensor:
        """Sound (B, S), or None for zeros -> Wav2Vec2-BERT on the clip's time line (B, slices, D_audio)."""
        encoder: Any = self.encoders["audio"]
        if audio is None:
            return self._here(torch.zeros(batch, self.num_slices, encoder.config.hidden_size))
        waves = list(audio.detach().float().cpu().numpy())
        inputs = self.ears(waves, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        features = inputs["input_features"].to(encoder.device, encoder.dtype)
        hidden = encoder(input_features=features).last_hidden_state
        states_hz = hidden.shape[1] * SAMPLE_RATE / audio.shape[1]
        return on_time_line(self._here(hidden), states_hz * self.tubelet / self.config.fps, self.num_slices)

    def read(self, instructions: list[str]) -> Tensor:
        """Instructions -> LLaMA's mean over the words (B, D_text); the last ones are remembered."""
        return self._texts(instructions, self._read)

    def _read(self, instructions: list[str]) -> Tensor:
        begin = self.tokenizer.bos_token_id
        opening = [] if begin is None else [begin]
        chats = []
        for text in instructions:
            words = instruction_ids(self.tokenizer, text)
            chats.append([Part(opening), Part(words, WORDS)] if words else [Part(opening or [0], WORDS)])
        prompts = pad_prompts(chats, self.tokenizer.pad_token_id or 0)
        encoder: Any = self.encoders["text"]
        ids, mask = prompts.ids.to(encoder.device), prompts.mask.to(encoder.device)
        hidden = encoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        hidden = self._here(hidden)
        return mean_over(hidden, prompts.roles.to(hidden.device) == WORDS)

    def _here(self, value: Tensor) -> Tensor:
        """In float32 on the device of the cross-modal transformer."""
        return value.to(self.fusion.marks.device, torch.float32)


def save_tribe(backbone: TribeBackbone, folder: Path, learned: Mapping[str, Tensor] | None = None) -> None:
    """Write `config.json` and the cross-modal transformer; the encoders are named there, not copied.

    Encoders that lie in the folder are named relative to it, so that the whole can be moved.
    learned: in place of the transformer's own weights of these names, where it lies in shares on several processes.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    values = {"model_type": MODEL_TYPE, **asdict(backbone.tribe)}
    for name in (f"{name}_encoder" for name in MODALITIES):
        if Path(values[name]).is_relative_to(folder):
            values[name] = str(Path(values[name]).relative_to(folder))
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    partial = folder / (FUSION_FILE + ".partial")
    whole = backbone.fusion.state_dict() | dict(learned or {})
    save_file({name: value.contiguous() for name, value in whole.items()}, partial)
    partial.replace(folder / FUSION_FILE)


def load_tribe(config: BackboneConfig) -> TribeBackbone:
    """The TRIBEv2-style backbone of a folder that `save_tribe` wrote, or the documents' encoders without one.

    A warning says when the cross-modal transformer is untrained. Raises as `VideoBackbone.from_config` does.
    """
    folder = Path(source_of(config)) if config.weights or Path(config.model_id).is_dir() else None
    backbone = TribeBackbone(config, TribeConfig() if folder is None else read_tribe(folder))
    if folder is None or not (folder / FUSION_FILE).is_file():
        if config.freeze_backbone:
            warnings.warn(
                "The cross-modal transformer of this TRIBEv2 is untrained: a fixed random projection of its encoders.",
                stacklevel=2,
            )
        return backbone
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        backbone.fusion.load_state_dict(load_file(folder / FUSION_FILE))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise unreadable(str(folder), error) from error
    return backbone


def read_tribe(folder: Path) -> TribeConfig:
    """The config of a folder; encoders that lie in the folder get their full path. Raises ValueError."""
    try:
        values = json.loads((folder / "config.json").read_text())
        found = values.pop("model_type", None)
        tribe = TribeConfig(**values)
    except (OSError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise unreadable(str(folder), error) from error
    if found != MODEL_TYPE:
        raise ValueError(f"{folder} holds model_type {found!r}, not {MODEL_TYPE!r}. Make one with save_tribe.")
    inside = {f"{name}_encoder": folder / getattr(tribe, f"{name}_encoder") for name in MODALITIES}
    return TribeConfig(**{**asdict(tribe), **{name: str(path) for name, path in inside.items() if path.is_dir()}})

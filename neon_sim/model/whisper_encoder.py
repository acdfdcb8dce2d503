"""Frozen ears: Whisper's encoder (arXiv 2212.04356), and the one that a backbone with hearing has of its own."""

from typing import Any

import torch
from torch import Tensor, nn

from neon_sim.model.audio import AudioConfig, Tower
from neon_sim.model.backbones.loading import (
    freeze,
    load_model,
    read_config,
    require_extra,
    source_of,
)
from neon_sim.model.backbones.preprocess import SAMPLE_RATE, check_waveform, log_mel
from neon_sim.model.backbones.qwen_omni import QwenOmni
from neon_sim.model.backbones.tribe import TribeBackbone
from neon_sim.model.video_backbone import BackboneConfig, VideoBackbone

_STATE_SAMPLES = 320  # 20 ms: the spectrogram's hop times the stride of the second convolution


def build_tower(config: AudioConfig, backbone: VideoBackbone | None) -> Tower:
    """The frozen ear that the config names. Raises as `AudioEncoder` does."""
    if config.encoder_type == "whisper":
        return WhisperTower(config.weights, config.context_s)
    return BackboneTower(backbone)


class WhisperTower:
    """The encoder of any Whisper in transformers' layout, in float32, on the device of the sound that comes.

    Whisper pads every sound to 30 s and attends over all of it. A smaller `context_s` cuts its table of positions: it
    then pads to that length only, which is cheaper and not what it was trained on. Either way, what it says about the
    padding is left out of the mean.

    Args:
        source: hub id, or the folder of a model that `save_pretrained` wrote.
        context_s: s, at most what the model has positions for.

    Raises:
        ImportError, ConnectionError: as `VideoBackbone.from_config`.
        ValueError: no Whisper, or one with fewer positions.
    """

    def __init__(self, source: str, context_s: float = 30.0) -> None:
        self._loading = BackboneConfig(source, dtype="float32", device="cpu", load_in_4bit=False)
        self.source = source_of(self._loading)
        try:
            self._config: Any = read_config(self.source)
        except ConnectionError as error:
            raise ConnectionError(
                f"{source!r} is not cached and the hub did not give it. Pass a local folder: "
                "AudioConfig(encoder_type='whisper', weights='/path/to/folder')."
            ) from error
        if self._config.model_type != "whisper":
            raise ValueError(f"{source} holds a {self._config.model_type}. AudioConfig.weights wants a Whisper.")
        self.positions = round(context_s * SAMPLE_RATE / _STATE_SAMPLES)
        if self.positions > self._config.max_source_positions:
            longest = self._config.max_source_positions * _STATE_SAMPLES / SAMPLE_RATE
            raise ValueError(f"{source} hears at most {longest:g} s, got context_s {context_s:g}. Take less.")
        self.width: int = self._config.d_model
        self.encoder: Any = None  # None before `load`

    def load(self) -> None:
        """Read the encoder's weights, unless they are there; the decoder is dropped."""
        if self.encoder is not None:
            return
        whisper = require_extra("transformers").WhisperModel
        encoder = load_model(whisper, self.source, self._config, self._loading, quantize=False).encoder
        table = encoder.embed_positions.weight.detach()[: self.positions].clone()
        encoder.embed_positions = nn.Embedding.from_pretrained(table)
        encoder.config.max_source_positions = encoder.max_source_positions = self.positions
        self.encoder = freeze(encoder)

    @torch.no_grad()
    def states(self, waveform: Tensor) -> Tensor:
        """Mono samples (B, S) at 16 kHz -> Whisper's last hidden states, (B, positions, width), 20 ms each.

        Raises ValueError for sound longer than the context.
        """
        check_waveform(waveform, len(waveform))
        room = self.positions * _STATE_SAMPLES
        if waveform.shape[1] > room:
            raise ValueError(
                f"This Whisper hears {room / SAMPLE_RATE:g} s, got {waveform.shape[1] / SAMPLE_RATE:g} s. Keep the "
                "newest part, or raise AudioConfig.context_s."
            )
        self.load()
        self.encoder.to(waveform.device)
        padded = nn.functional.pad(waveform.float(), (0, room - waveform.shape[1]))
        return self.encoder(log_mel(padded, self._config.num_mel_bins)).last_hidden_state

    def hear(self, waveform: Tensor) -> Tensor:
        """Mono samples in [-1, 1] at 16 kHz, (B, S) -> (B, width): the mean of the states that heard any of it."""
        return self.states(waveform)[:, : -(-waveform.shape[1] // _STATE_SAMPLES)].mean(dim=1)


class BackboneTower:
    """The ear of a backbone that hears, before its language model or its fusion: nothing is loaded twice.

    Raises ValueError for a backbone that is deaf.
    """

    def __init__(self, backbone: VideoBackbone | None) -> None:
        if isinstance(backbone, QwenOmni):
            self.width: int = backbone.model_config.audio_config.output_dim
        elif isinstance(backbone, TribeBackbone):
            self.width = backbone.configs["audio"].hidden_size
        else:
            found = "no backbone" if backbone is None else f"a {type(backbone).__name__}"
            raise ValueError(
                f"The audio encoder 'omni' wants a backbone that hears (Qwen2.5-Omni, TRIBEv2), got {found}. "
                "Take encoder_type 'whisper' or 'mel_spectrogram' with it."
            )
        self.backbone: QwenOmni | TribeBackbone = backbone

    def load(self) -> None:
        """Read the backbone's weights, unless they are there."""
        self.backbone.load()

    @torch.no_grad()
    def hear(self, waveform: Tensor) -> Tensor:
        """Mono samples in [-1, 1] at 16 kHz, (B, S) -> (B, width): the mean of the tower's states over time."""
        check_waveform(waveform, len(waveform))
        self.load()
        if isinstance(self.backbone, TribeBackbone):
            return self.backbone.hear(waveform, len(waveform)).mean(dim=1)
        model: Any = self.backbone.model
        device = next(model.parameters()).device
        mel = log_mel(waveform, self.backbone.model_config.audio_config.num_mel_bins).to(device)
        mask = torch.ones(len(mel), mel.shape[-1], dtype=torch.long, device=device)
        states = model.get_audio_features(mel, mask).last_hidden_state  # all samples in one row after the other
        return states.float().unflatten(0, (len(mel), -1)).mean(dim=1)

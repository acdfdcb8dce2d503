"""Hearing at 16 kHz, by one ear or two: log-mel and convolutions (eq. 21), Whisper, or the backbone's own ears."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from neon_sim.model.spectra import Spectra
from neon_sim.model.speech import SpeechResponseHead
from neon_sim.model.tts import PersonaPlexTTS
from neon_sim.model.video_backbone import VideoBackbone
from neon_sim.names import nearest

__all__ = ["AudioConfig", "AudioEncoder", "PersonaPlexTTS", "SpeechResponseHead"]

ENCODER_TYPES = ("mel_spectrogram", "whisper", "omni")

_NEWEST = 0.25  # share of the time that counts as newest, for two ears


@dataclass(frozen=True)
class AudioConfig:
    """Which of the documents' three encoders, and its sizes.

    "mel_spectrogram" is ours and light: 80 bins at 16 kHz, 25 ms windows every 10 ms (Whisper's framing). "whisper" is
    the frozen encoder of `weights`. "omni" is the ear that the backbone has anyway (Qwen2.5-Omni, TRIBEv2). Of the last
    two, only the projection to `output_dim` is trained and saved.
    Raises ValueError for an unknown encoder type and for a context outside Whisper's.
    """

    encoder_type: str = "mel_spectrogram"
    sample_rate: int = 16000  # Hz
    n_mels: int = 80  # mel_spectrogram only, like the next three
    n_fft: int = 400  # samples, 25 ms
    hop: int = 160  # samples, 10 ms
    channels: int = 128  # width of the convolutions
    output_dim: int = 256
    weights: str = "openai/whisper-base"  # whisper only, like the next: hub id, or local folder (with a slash in it)
    context_s: float = 30.0  # s of sound and silence that it is shown; it was trained on 30, less costs less

    def __post_init__(self) -> None:
        if self.encoder_type not in ENCODER_TYPES:
            raise nearest("audio encoder type", self.encoder_type, ENCODER_TYPES)
        if not 0.1 <= self.context_s <= 30.0:
            raise ValueError(f"AudioConfig.context_s wants 0.1 to 30 s, got {self.context_s}. Whisper knows no more.")
        if self.encoder_type != "mel_spectrogram" and self.sample_rate != 16000:
            raise ValueError(f"{self.encoder_type} hears at 16000 Hz only, got {self.sample_rate}. Resample the sound.")


class Tower(Protocol):
    """A frozen ear, none of whose weights is saved with the heads."""

    width: int

    def load(self) -> None:
        """Read the weights now; the first sound does it otherwise."""

    def hear(self, waveform: Tensor) -> Tensor:
        """Mono samples in [-1, 1] at 16 kHz, (B, S) -> (B, width)."""


class AudioEncoder(nn.Module):
    """W_proj Pool(Conv(log-mel)) (eq. 21), or W_proj Pool(tower) of a frozen ear; the mean over time pools both.

    Two microphones, which "mel_spectrogram" alone can use, tell left from right: see `Spectra.between_ears`. Of what is
    found there, the maximum over time is taken, in which a word that was said once is not drowned, and the mean of the
    newest quarter, because left is elsewhere once the robot has turned.

    Args:
        config: None for the defaults.
        backbone: whose ear "omni" takes.
        microphones: 1, or 2 for left and right.

    Raises:
        ImportError, ConnectionError: "whisper" without the extra that loads it, or without its weights within reach.
        ValueError: "omni" without a backbone that hears; weights that are no Whisper; a frozen ear for two microphones.
    """

    def __init__(
        self, config: AudioConfig | None = None, backbone: VideoBackbone | None = None, microphones: int = 1
    ) -> None:
        super().__init__()
        self.config = config = config or AudioConfig()
        self.microphones = microphones
        if microphones not in (1, 2) or (microphones == 2 and config.encoder_type != "mel_spectrogram"):
            asked = f"{microphones} for {config.encoder_type}"
            raise ValueError(f"AudioEncoder wants 1 microphone, or 2 for mel_spectrogram, got {asked}.")
        self._tower: list[Tower] = []  # in a list: not a submodule, so no checkpoint carries it
        if config.encoder_type == "mel_spectrogram":
            self._build_convolutions(config)
            width = config.channels * microphones  # of two: all of the time, and the newest part of it
        else:
            # It imports the foundation models' loading code, which imports this module.
            from neon_sim.model.whisper_encoder import build_tower

            self._tower.append(build_tower(config, backbone))
            width = self._tower[0].width
        self.proj = nn.Linear(width, config.output_dim)

    def _build_convolutions(self, config: AudioConfig) -> None:
        self.spectra = Spectra(config.sample_rate, config.n_mels, config.n_fft, config.hop, self.microphones)
        self.conv = nn.Sequential(
            nn.Conv1d(self.spectra.bands, config.channels, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv1d(config.channels, config.channels, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
        )

    def load(self) -> None:
        """Read a frozen ear's weights now; the first sound does it otherwise."""
        for tower in self._tower:
            tower.load()

    def forward(self, sound: Tensor) -> Tensor:
        """Samples in [-1, 1] at config.sample_rate -> (B, output_dim).

        (B, S) of one microphone; of two (B, 2 * S), all of the left one first, as the env has it; or what `spectra`
        made of them before, (B, bands, T).
        """
        if self._tower:
            with torch.no_grad():
                heard = self._tower[0].hear(sound)
            return self.proj(heard.to(self.proj.weight))
        spectra = sound if sound.dim() == 3 else self.spectra(sound)
        found = self.conv(spectra.to(self.proj.weight.dtype))
        if self.microphones == 1:
            return self.proj(found.mean(dim=-1))
        newest = found[..., -math.ceil(_NEWEST * found.shape[-1]) :]
        return self.proj(torch.cat([found.amax(dim=-1), newest.mean(dim=-1)], dim=-1))

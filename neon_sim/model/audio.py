"""Hearing: a log-mel spectrogram and a small convolution stack (eq. 21), for 16 kHz mono."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neon_sim.model.speech import SpeechResponseHead
from neon_sim.names import nearest

__all__ = ["AudioConfig", "AudioEncoder", "SpeechResponseHead"]

ENCODER_TYPES = ("mel_spectrogram",)
_NOT_YET = ("whisper", "omni")  # in the documents, not in this version

# Slaney's mel scale (Auditory Toolbox, 1998): 15 mels linear up to 1 kHz, from there 27 mels per factor of 6.4.
_LINEAR_HZ_PER_MEL, _LOG_START_HZ, _LOG_START_MEL, _MEL_PER_LOG = 200.0 / 3.0, 1000.0, 15.0, 27.0 / math.log(6.4)

_POWER_FLOOR = 1e-10  # -100 dB: what silence reads


@dataclass(frozen=True)
class AudioConfig:
    """The documents' mel encoder: 80 bins at 16 kHz, 25 ms windows every 10 ms (Whisper's framing)."""

    encoder_type: str = "mel_spectrogram"
    sample_rate: int = 16000  # Hz
    n_mels: int = 80
    n_fft: int = 400  # samples, 25 ms
    hop: int = 160  # samples, 10 ms
    channels: int = 128  # width of the convolutions
    output_dim: int = 256


def hz_to_mel(hz: Tensor) -> Tensor:
    """Frequency in Hz -> Slaney mels, any shape."""
    log_part = _LOG_START_MEL + torch.log(hz.clamp(min=_LOG_START_HZ) / _LOG_START_HZ) * _MEL_PER_LOG
    return torch.where(hz < _LOG_START_HZ, hz / _LINEAR_HZ_PER_MEL, log_part)


def mel_to_hz(mel: Tensor) -> Tensor:
    """Slaney mels -> frequency in Hz, any shape; the inverse of `hz_to_mel`."""
    log_part = _LOG_START_HZ * torch.exp((mel.clamp(min=_LOG_START_MEL) - _LOG_START_MEL) / _MEL_PER_LOG)
    return torch.where(mel < _LOG_START_MEL, mel * _LINEAR_HZ_PER_MEL, log_part)


def mel_edges(n_mels: int, sample_rate: int) -> Tensor:
    """Corner frequencies in Hz, (n_mels + 2,): band i rises from edge i, peaks at i + 1, ends at i + 2."""
    top = hz_to_mel(torch.tensor(sample_rate / 2, dtype=torch.float64))
    return mel_to_hz(torch.linspace(0.0, float(top), n_mels + 2, dtype=torch.float64))


def mel_filterbank(n_mels: int, n_fft: int, sample_rate: int) -> Tensor:
    """Triangular bands of equal area over the STFT's bins: (n_mels, n_fft // 2 + 1), 1/Hz.

    Raises ValueError when a band is so narrow that no bin falls into it.
    """
    bins = torch.linspace(0.0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    edges = mel_edges(n_mels, sample_rate).unsqueeze(1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0.0)
    if not bool((triangles > 0).any(dim=1).all()):
        raise ValueError(
            f"mel_filterbank wants a bin in every band; {n_mels} bands are too many for n_fft {n_fft} at "
            f"{sample_rate} Hz. Take fewer bands or a longer window."
        )
    return (triangles * 2.0 / (right - left)).float()


class AudioEncoder(nn.Module):
    """W_proj Pool(Conv(log-mel)) (eq. 21): two strided convolutions, a mean over time, a projection."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: AudioConfig | None = None) -> None:
        """Raises ValueError for an encoder type that does not exist, or not yet."""
        super().__init__()
        self.config = config = config or AudioConfig()
        if config.encoder_type in _NOT_YET:
            raise ValueError(
                f"Audio encoder {config.encoder_type!r} is named by the documents but is not in this version. "
                f"Use encoder_type={ENCODER_TYPES[0]!r}."
            )
        if config.encoder_type not in ENCODER_TYPES:
            raise nearest("audio encoder type", config.encoder_type, ENCODER_TYPES)
        # Both follow from the config, so checkpoints do not carry them.
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        filterbank = mel_filterbank(config.n_mels, config.n_fft, config.sample_rate)
        self.register_buffer("filterbank", filterbank, persistent=False)
        self.conv = nn.Sequential(
            nn.Conv1d(config.n_mels, config.channels, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv1d(config.channels, config.channels, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
        )
        self.proj = nn.Linear(config.channels, config.output_dim)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Mono samples in [-1, 1], (B, S) -> log10 mel power (B, n_mels, S // hop + 1), finite, at least -10.

        Raises ValueError when the clip is shorter than half a window, which leaves nothing to reflect at its ends.
        """
        if waveform.dim() != 2 or waveform.shape[1] <= self.config.n_fft // 2:
            raise ValueError(
                f"AudioEncoder wants (B, samples) with more than {self.config.n_fft // 2} samples at "
                f"{self.config.sample_rate} Hz, got {tuple(waveform.shape)}. Pad the clip with zeros."
            )
        # The FFT has no half-precision kernel on the CPU, hence float32 whatever the weights are.
        n_fft, hop, window = self.config.n_fft, self.config.hop, self.window.float()
        spectrum = torch.stft(waveform.float(), n_fft, hop, window=window, center=True, return_complex=True)
        return (self.filterbank.float() @ spectrum.abs().square()).clamp(min=_POWER_FLOOR).log10()

    def forward(self, waveform: Tensor) -> Tensor:
        """Mono samples in [-1, 1] at config.sample_rate, (B, S) -> (B, output_dim)."""
        # Whisper's affine map of log10 power to about [-1.5, 1.5], without its clip at the loudest frame: the same
        # sound reads the same whatever else is in the clip.
        mel = ((self.log_mel(waveform) + 4.0) / 4.0).to(self.proj.weight.dtype)
        return self.proj(self.conv(mel).mean(dim=-1))

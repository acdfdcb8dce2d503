"""Hearing at 16 kHz, by one ear or two: log-mel and convolutions (eq. 21), Whisper, or the backbone's own ears."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from neon_sim.model.speech import SpeechResponseHead
from neon_sim.model.tts import PersonaPlexTTS
from neon_sim.model.video_backbone import VideoBackbone
from neon_sim.names import nearest

__all__ = ["AudioConfig", "AudioEncoder", "PersonaPlexTTS", "SpeechResponseHead"]

ENCODER_TYPES = ("mel_spectrogram", "whisper", "omni")

# Slaney's mel scale (Auditory Toolbox, 1998): 15 mels linear up to 1 kHz, from there 27 mels per factor of 6.4.
_LINEAR_HZ_PER_MEL, _LOG_START_HZ, _LOG_START_MEL, _MEL_PER_LOG = 200.0 / 3.0, 1000.0, 15.0, 27.0 / math.log(6.4)

_POWER_FLOOR = 1e-10  # -100 dB: what silence reads
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
    """W_proj Pool(Conv(log-mel)) (eq. 21), or W_proj Pool(tower) of a frozen ear; the mean over time pools both.

    Two microphones, which "mel_spectrogram" alone can use, tell left from right: see `between_ears`. Of what is found
    there, the maximum over time is taken, in which a word that was said once is not drowned, and the mean of the newest
    quarter, because left is elsewhere once the robot has turned.

    Args:
        config: None for the defaults.
        backbone: whose ear "omni" takes.
        microphones: 1, or 2 for left and right.

    Raises:
        ImportError, ConnectionError: "whisper" without the extra that loads it, or without its weights within reach.
        ValueError: "omni" without a backbone that hears; weights that are no Whisper; a frozen ear for two microphones.
    """

    window: Tensor
    filterbank: Tensor

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
        # Both follow from the config, so checkpoints do not carry them.
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        with torch.device("cpu"):  # numbers, also where the weights are shapes only
            filterbank = mel_filterbank(config.n_mels, config.n_fft, config.sample_rate)
        self.register_buffer("filterbank", filterbank, persistent=False)
        bands = 1 if self.microphones == 1 else 3  # of two: loudness, level and phase between them
        self.conv = nn.Sequential(
            nn.Conv1d(config.n_mels * bands, config.channels, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv1d(config.channels, config.channels, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
        )

    def load(self) -> None:
        """Read a frozen ear's weights now; the first sound does it otherwise."""
        for tower in self._tower:
            tower.load()

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Mono samples in [-1, 1], (B, S) -> log10 mel power (B, n_mels, S // hop + 1), finite, at least -10.

        Of the encoder type "mel_spectrogram": a frozen ear makes its own. Raises ValueError when the clip is shorter
        than half a window, which leaves nothing to reflect at its ends.
        """
        if waveform.dim() != 2 or waveform.shape[1] <= self.config.n_fft // 2:
            raise ValueError(
                f"AudioEncoder wants (B, samples) with more than {self.config.n_fft // 2} samples at "
                f"{self.config.sample_rate} Hz, got {tuple(waveform.shape)}. Pad the clip with zeros."
            )
        return self._mel_power(self._spectrum(waveform)).log10()

    def between_ears(self, waveform: Tensor) -> Tensor:
        """Samples of two microphones (B, 2 * S), all of the left one first -> (B, 3 * n_mels, S // hop + 1).

        Of every band the log10 power as `forward` scales it, the log10 of left over right, and the sine of the phase by
        which left is ahead, 1 at most. Raises ValueError as `log_mel`, and for a number of samples that is odd.
        """
        if waveform.dim() != 2 or waveform.shape[1] % 2:
            raise ValueError(f"Two microphones give (B, 2 * samples), got {tuple(waveform.shape)}.")
        left, right = (self._spectrum(side) for side in waveform.chunk(2, dim=1))
        left_power, right_power = self._mel_power(left), self._mel_power(right)
        ahead = self.filterbank.float() @ (left * right.conj()).imag / (left_power * right_power).sqrt()
        loudness = _scaled((0.5 * (left_power + right_power)).log10())
        return torch.cat([loudness, (left_power / right_power).log10(), ahead], dim=1)

    def _spectrum(self, waveform: Tensor) -> Tensor:
        # The FFT has no half-precision kernel on the CPU, hence float32 whatever the weights are.
        n_fft, hop, window = self.config.n_fft, self.config.hop, self.window.float()
        return torch.stft(waveform.float(), n_fft, hop, window=window, center=True, return_complex=True)

    def _mel_power(self, spectrum: Tensor) -> Tensor:
        return (self.filterbank.float() @ spectrum.abs().square()).clamp(min=_POWER_FLOOR)

    def forward(self, waveform: Tensor) -> Tensor:
        """Samples in [-1, 1] at config.sample_rate -> (B, output_dim).

        (B, S) of one microphone; of two (B, 2 * S), all of the left one first, as the env has it.
        """
        if self._tower:
            with torch.no_grad():
                heard = self._tower[0].hear(waveform)
            return self.proj(heard.to(self.proj.weight))
        if self.microphones == 2:
            found = self.conv(self.between_ears(waveform).to(self.proj.weight.dtype))
            newest = found[..., -math.ceil(_NEWEST * found.shape[-1]) :]
            return self.proj(torch.cat([found.amax(dim=-1), newest.mean(dim=-1)], dim=-1))
        mel = _scaled(self.log_mel(waveform)).to(self.proj.weight.dtype)
        return self.proj(self.conv(mel).mean(dim=-1))


def _scaled(log_power: Tensor) -> Tensor:
    """Whisper's affine map of log10 power to about [-1.5, 1.5], without its clip at the loudest frame: the same sound
    reads the same whatever else is in the clip.
    """
    return (log_power + 4.0) / 4.0

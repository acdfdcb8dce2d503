"""Sound as an ear that learns reads it: log-mel spectra, and of two microphones what differs between them."""

import math
from typing import Final

import torch
from torch import Tensor, nn

# Slaney's mel scale (Auditory Toolbox, 1998): 15 mels linear up to 1 kHz, from there 27 mels per factor of 6.4.
_LINEAR_HZ_PER_MEL, _LOG_START_HZ, _LOG_START_MEL, _MEL_PER_LOG = 200.0 / 3.0, 1000.0, 15.0, 27.0 / math.log(6.4)

_POWER_FLOOR: Final = 1e-10  # -100 dB: what silence reads


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


class Spectra(nn.Module):
    """Samples (B, microphones * S) -> what the convolutions see, (B, bands, S // hop + 1) float32; nothing is learned.

    Args:
        sample_rate: Hz.
        n_mels: bands of a microphone.
        n_fft: samples of a window.
        hop: samples from one window to the next.
        microphones: 1 or 2.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, sample_rate: int, n_mels: int, n_fft: int, hop: int, microphones: int) -> None:
        super().__init__()
        self.sample_rate, self.n_fft, self.hop, self.microphones = sample_rate, n_fft, hop, microphones
        self.bands = n_mels * (1 if microphones == 1 else 3)  # of two: loudness, level and phase between them
        # Both follow from the sizes, so checkpoints do not carry them.
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        with torch.device("cpu"):  # numbers, also where the weights are shapes only
            filterbank = mel_filterbank(n_mels, n_fft, sample_rate)
        self.register_buffer("filterbank", filterbank, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Samples in [-1, 1]; of two microphones all of the left one first, as the env has it."""
        return self.between_ears(waveform) if self.microphones == 2 else _scaled(self.log_mel(waveform))

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Mono samples in [-1, 1], (B, S) -> log10 mel power (B, n_mels, S // hop + 1), finite, at least -10.

        Raises ValueError when the clip is shorter than half a window, which leaves nothing to reflect at its ends.
        """
        return self._mel_power(self._spectrum(waveform)).log10()

    def between_ears(self, waveform: Tensor) -> Tensor:
        """Samples of two microphones (B, 2 * S), all of the left one first -> (B, 3 * n_mels, S // hop + 1).

        Of every band the log10 power as one microphone has it, the log10 of left over right, and the sine of the phase
        by which left is ahead, 1 at most. Raises ValueError as `log_mel`, and for a number of samples that is odd.
        """
        if waveform.dim() != 2 or waveform.shape[1] % 2:
            raise ValueError(f"Two microphones give (B, 2 * samples), got {tuple(waveform.shape)}.")
        left, right = (self._spectrum(side) for side in waveform.chunk(2, dim=1))
        left_power, right_power = self._mel_power(left), self._mel_power(right)
        ahead = self.filterbank.float() @ (left * right.conj()).imag / (left_power * right_power).sqrt()
        loudness = _scaled((0.5 * (left_power + right_power)).log10())
        return torch.cat([loudness, (left_power / right_power).log10(), ahead], dim=1)

    def _spectrum(self, waveform: Tensor) -> Tensor:
        if waveform.dim() != 2 or waveform.shape[1] <= self.n_fft // 2:
            raise ValueError(
                f"AudioEncoder wants (B, samples) with more than {self.n_fft // 2} samples at {self.sample_rate} Hz, "
                f"got {tuple(waveform.shape)}. Pad the clip with zeros."
            )
        # The FFT has no half-precision kernel on the CPU, hence float32 whatever the weights are.
        window = self.window.float()
        return torch.stft(waveform.float(), self.n_fft, self.hop, window=window, center=True, return_complex=True)

    def _mel_power(self, spectrum: Tensor) -> Tensor:
        return (self.filterbank.float() @ spectrum.abs().square()).clamp(min=_POWER_FLOOR)


def _scaled(log_power: Tensor) -> Tensor:
    """Whisper's affine map of log10 power to about [-1.5, 1.5], without its clip at the loudest frame: the same sound
    reads the same whatever else is in the clip.
    """
    return (log_power + 4.0) / 4.0

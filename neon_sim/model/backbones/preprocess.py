"""Frames and sound as foundation models want them, in plain torch: torchvision and its video processors stay out."""

import torch
from torch import Tensor
from torch.nn import functional as F

from neon_sim.model.spectra import mel_filterbank

SAMPLE_RATE = 16000  # Hz
_N_FFT, _HOP = 400, 160  # samples: Whisper's 25 ms windows every 10 ms


def frame_indices(count: int, source_fps: float, fps: float, max_frames: int) -> list[int]:
    """Which of `count` frames make the clip that ends with the newest: oldest first, each nearest to the fps grid.

    There are fewer than `max_frames` where the recording is shorter. Raises ValueError for an empty recording.
    """
    if count < 1 or source_fps <= 0 or fps <= 0 or max_frames < 1:
        raise ValueError(
            f"frame_indices wants a frame and positive rates, got {count} frames at {source_fps} per second, "
            f"fps {fps}, max_frames {max_frames}."
        )
    step = source_fps / fps
    length = min(max_frames, int((count - 1) / step + 1e-9) + 1)
    return [count - 1 - round(i * step) for i in reversed(range(length))]


def prepare_frames(
    frames: Tensor, side: int, mean: list[float], std: list[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Pictures (B, T, H, W, 3) uint8 -> (B, T, 3, side, side), resized to a square and normalised per channel."""
    pixels = resize(frames.flatten(0, 1).permute(0, 3, 1, 2), side)
    centre, scale = (torch.tensor(v, dtype=torch.float32, device=frames.device).view(3, 1, 1) for v in (mean, std))
    pixels = (pixels / 255.0 - centre) / scale
    return pixels.view(*frames.shape[:2], 3, side, side).to(dtype)


def resize(pictures: Tensor, side: int) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 3, side, side) float32 of whole numbers 0 to 255: Pillow's antialiased bicubic.

    Pillow goes along the rows first and stores bytes in between, which matters where the curve overshoots.
    """
    pixels, height = pictures.float(), pictures.shape[-2]
    for size in ((height, side), (side, side)):
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True).round().clamp(0.0, 255.0)
    return pixels


def patchify(pixels: Tensor, patch: int, merge: int = 2, temporal: int = 2) -> Tensor:
    """Clips (B, T, C, H, W) -> flat patches (B * t * h * w, C * temporal * patch^2), t = T / temporal, h = H / patch.

    The order is Qwen's: the merge x merge patches that become one token stand together. Raises ValueError for a clip
    that does not divide.
    """
    batch, length, channels, height, width = pixels.shape
    if length % temporal or height % (patch * merge) or width % (patch * merge):
        raise ValueError(
            f"patchify wants T in steps of {temporal} and pictures in steps of {patch * merge} px, got {length} frames "
            f"of {height} x {width}. Repeat a frame, or resize first."
        )
    rows, columns = height // (patch * merge), width // (patch * merge)
    split = pixels.reshape(batch, length // temporal, temporal, channels, rows, merge, patch, columns, merge, patch)
    return split.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(-1, channels * temporal * patch * patch)


def slice_times(length: int, fps: float, temporal: int = 2) -> list[float]:
    """Seconds since the clip's start of each group of `temporal` frames: the middle of its first and its last."""
    return [(first + (temporal - 1) / 2) / fps for first in range(0, length, temporal)]


def log_mel(waveform: Tensor, n_mels: int = 128) -> Tensor:
    """Mono samples in [-1, 1] at 16 kHz, (B, S) -> Whisper's log-mel features (B, n_mels, ceil(S / 160)).

    Log10 power, at most 8 below the loudest, mapped by (x + 4) / 4. Silence follows the clip, as in Whisper's padding
    to 30 s, of which nothing is kept here.
    """
    count = -(-waveform.shape[1] // _HOP)
    padded = F.pad(waveform.float(), (0, count * _HOP - waveform.shape[1] + _N_FFT))
    window = torch.hann_window(_N_FFT, device=waveform.device)
    spectrum = torch.stft(padded, _N_FFT, _HOP, window=window, return_complex=True)[..., :count]
    filters = mel_filterbank(n_mels, _N_FFT, SAMPLE_RATE).to(waveform.device)
    power = (filters @ spectrum.abs().square()).clamp(min=1e-10).log10()
    loudest = power.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(power, loudest - 8.0) + 4.0) / 4.0


def check_waveform(audio: Tensor, batch: int, least_s: float = 0.1) -> None:
    """Raise ValueError unless audio is (batch, S) float samples of at least `least_s` seconds at 16 kHz."""
    least = int(least_s * SAMPLE_RATE)
    if audio.dim() != 2 or len(audio) != batch or audio.shape[1] < least or not audio.is_floating_point():
        raise ValueError(
            f"Audio wants ({batch}, S) float samples in [-1, 1] at 16 kHz with S >= {least}, got {tuple(audio.shape)} "
            f"{audio.dtype}. Pad it with zeros, or leave it out."
        )

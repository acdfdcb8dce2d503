"""The part of TRIBEv2 that is ours: three senses on one time line, a transformer across them, smoothing in time.

The idea is published (TRIBE, arXiv 2507.22229; its code is CC BY-NC and not used here): one frozen encoder per sense, a
transformer over all of them, whole senses dropped in training so that one may be missing later.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neon_sim.model.compact import Block

MODALITIES = ("video", "audio", "text")


@dataclass(frozen=True)
class TribeConfig:
    """Three encoders (hub ids, or folders beside the config.json) and the sizes of what joins them."""

    video_encoder: str = "facebook/vjepa2-vitg-fpc64-256"  # V-JEPA 2, ViT-g
    audio_encoder: str = "facebook/w2v-bert-2.0"  # Wav2Vec2-BERT 2.0
    text_encoder: str = "meta-llama/Llama-3.2-3B"
    dim: int = 1024  # D, the width of the features
    layers: int = 2
    heads: int = 8
    kernel: int = 9  # steps that the temporal smoothing looks at
    modality_dropout: float = 0.3  # chance that a training sample loses one of its senses

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.dim % 2 or self.kernel % 2 == 0:
            raise ValueError(
                f"TribeConfig wants an even dim that the heads divide and an odd kernel, got dim {self.dim}, "
                f"heads {self.heads}, kernel {self.kernel}."
            )


class TemporalSmoothing(nn.Module):
    """A depthwise convolution along time; it begins as a moving average, and the ends repeat."""

    def __init__(self, dim: int, kernel: int = 9) -> None:
        super().__init__()
        self.kernel = kernel
        self.conv = nn.Conv1d(dim, dim, kernel, groups=dim, bias=False)
        nn.init.constant_(self.conv.weight, 1.0 / kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        ends = self.kernel // 2
        return self.conv(F.pad(x.transpose(1, 2), (ends, ends), mode="replicate")).transpose(1, 2)


def drop_modalities(present: Tensor, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """Take one sense from a sample with the given probability: (B, M) bool -> (B, M) bool.

    Which one is even chance among those present, and the last one is never taken.
    """
    lots = torch.rand(present.shape, generator=generator).to(present.device).masked_fill(~present, -1.0)
    unlucky = torch.rand(len(present), generator=generator).to(present.device) < probability
    unlucky &= present.sum(1) > 1
    taken = F.one_hot(lots.argmax(1), present.shape[1]).bool() & unlucky[:, None]
    return present & ~taken


def on_time_line(states: Tensor, per_slice: float, slices: int) -> Tensor:
    """States of a sound that ends with the clip, (B, F, D), averaged into the clip's slices, (B, slices, D).

    `per_slice` states last as long as a slice. Slices before the sound began are zero; a sound that began before the
    clip loses its beginning.
    """
    newest = states[:, -max(1, round(slices * per_slice)) :]
    lasts = min(slices, max(1, round(newest.shape[1] / per_slice)))
    means = F.adaptive_avg_pool1d(newest.transpose(1, 2), lasts).transpose(1, 2)
    return F.pad(means, (0, 0, slices - lasts, 0))


def step_waves(steps: int, dim: int) -> Tensor:
    """Sines and cosines that number the steps, (steps, dim): the encoding of "Attention Is All You Need"."""
    frequency = torch.exp(torch.arange(0, dim, 2) * (-torch.log(torch.tensor(10000.0)) / dim))
    angle = torch.arange(steps)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(steps, dim)


class TribeFusion(nn.Module):
    """Projects three senses to one width, lets them look at each other, and smooths the result in time.

    Untrained it is a fixed random projection of what the encoders say, averaged over senses and time: the blocks add
    nothing before they are trained.
    """

    def __init__(self, config: TribeConfig, dims: dict[str, int]) -> None:
        super().__init__()
        self.config, dim = config, config.dim
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dims[name]) for name in MODALITIES})
        self.projections = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in MODALITIES})
        self.marks = nn.Parameter(0.02 * torch.randn(len(MODALITIES), dim))  # which sense; all that a lost one says
        self.blocks = nn.ModuleList(Block(dim, config.heads) for _ in range(config.layers))
        for name, parameter in self.blocks.named_parameters():
            if ".out." in name or ".mlp.2." in name:  # the last layer of either branch
                nn.init.zeros_(parameter)
        self.smoothing = TemporalSmoothing(dim, config.kernel)

    def project(self, name: str, features: Tensor) -> Tensor:
        """One sense (..., D_sense) -> (..., D)."""
        return self.projections[name](self.norms[name](features))

    def keep(self, batch: int, hears: bool, generator: torch.Generator | None = None) -> Tensor:
        """Which senses each sample has, (B, 3) bool: the ones that came, less what training takes away."""
        present = torch.tensor([[True, hears, True]], device=self.marks.device).repeat(batch, 1)
        if not self.training:
            return present
        return drop_modalities(present, self.config.modality_dropout, generator)

    def forward(self, video: Tensor, audio: Tensor, text: Tensor, keep: Tensor) -> Tensor:
        """Projected senses, video and audio (B, T, D), text (B, D), and which count (B, 3) -> (B, T, D)."""
        steps = video.shape[1]
        senses = torch.stack([video, audio, text[:, None].expand_as(video)], dim=2)  # (B, T, 3, D)
        senses = senses * keep[:, None, :, None].to(senses.dtype) + self.marks
        x = senses + step_waves(steps, self.config.dim).to(senses)[:, None]
        x = x.flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.smoothing(x.unflatten(1, (steps, len(MODALITIES))).mean(dim=2))

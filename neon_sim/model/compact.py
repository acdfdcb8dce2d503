"""The compact backbone (D2): a clip encoder of about two and a half million parameters, trained in this simulator.

Frames go through a small convolutional net to an 8 x 8 grid, four frames are mixed cell by cell, a transformer looks
across the grid. Words go through a transformer of their own. A language query over the grid finds what is named.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from neon_sim.model.kept import Kept, is_still
from neon_sim.model.meanings import MeaningEncoder
from neon_sim.model.video_backbone import BackboneConfig, BackboneFeatures, VideoBackbone, check_clips
from neon_sim.names import nearest

SHIPPED: Final = ("compact_backbone", "compact_words")  # the same eyes; the second one knows words by their meaning
TEXT_SIDES: Final = ("hashed", "meanings")

_WORD = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")


@dataclass(frozen=True)
class CompactConfig:
    """Sizes of the compact backbone."""

    dim: int = 160
    grid: int = 8  # cells per side: image_size / 16
    num_frames: int = 4
    image_size: int = 128
    channels: tuple[int, int, int, int] = (32, 64, 96, 128)
    layers: int = 2
    text_layers: int = 2
    heads: int = 5
    vocabulary: int = 4096  # hash buckets for words
    max_words: int = 64
    # Not in the repr, which the fingerprint of features is made of: what was cached before there was a choice is valid.
    text: str = field(default="hashed", repr=False)  # or "meanings": MeaningEncoder, with the next three
    words: int = field(default=0, repr=False)
    word_dim: int = field(default=0, repr=False)
    form_bytes: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.text not in TEXT_SIDES:
            raise nearest("text side", self.text, TEXT_SIDES)
        if self.grid * 16 != self.image_size:
            raise ValueError(f"grid must be image_size / 16, got {self.grid} and {self.image_size}.")


def tokenize(texts: list[str], vocabulary: int, max_words: int) -> torch.Tensor:
    """Words -> (B, L) int64 hash buckets, 0 = padding; L is the longest text's length, at most max_words."""
    rows = [
        [1 + zlib.crc32(w.encode()) % (vocabulary - 1) for w in _WORD.findall(t.lower())[:max_words]] for t in texts
    ]
    longest = max(1, *(len(row) for row in rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64)


def grid_places(grid: int, dim: int) -> torch.Tensor:
    """Row and column of every cell as sines and cosines, (grid * grid, dim): where training of the places begins."""
    quarter = dim // 4
    frequency = torch.pi / 2.0 * 2.0 ** torch.linspace(0.0, 3.0, quarter)
    centre = (torch.arange(grid) + 0.5) / grid * 2.0 - 1.0
    angle = centre[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows, columns = wave[:, None].expand(-1, grid, -1), wave[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).reshape(grid * grid, 4 * quarter)


class Block(nn.Module):
    """Pre-norm transformer block with full attention; `mask` (B, L) is True where a token is real."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(B, L, D) -> (B, L, D)."""
        batch, length, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        attention_mask = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.mlp(self.norm2(x))


class FrameEncoder(nn.Module):
    """One frame to a grid of cells: four stride-2 convolutions."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        widths = (3, *config.channels)
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            kernel = 5 if i == 0 else 3
            layers += [nn.Conv2d(before, after, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(after), nn.GELU()]
        self.net = nn.Sequential(*layers, nn.Conv2d(widths[-1], config.dim, 1))
        self._kept: Kept[list[nn.Module]] = Kept()

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N, cells, D)."""
        x = frames.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        return (self._folded(x) if is_still(self) else self.net(x)).flatten(2).transpose(1, 2)

    def _folded(self, x: torch.Tensor) -> torch.Tensor:
        """`net` in eval mode with each normalisation folded into its convolution: a third faster, the shipped weights
        2e-6 off at most.
        """
        layers: list[Any] = list(self.net)
        last = layers.pop()
        for fused in self._kept.get(self, None, lambda: list(map(_fused, layers[0::3], layers[1::3]))):
            x = fused(x)
            torch.ops.aten.gelu_(x)  # in place: memory that is new costs as much as what is done in it
        cells: torch.Tensor = last(x)
        return cells


def _fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    fused: nn.Module = fuse_conv_bn_eval(conv, norm).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return fused


class TextEncoder(nn.Module):
    """Hashed words through a small transformer; mean over real words."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocabulary, config.dim, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(config.max_words, config.dim))
        self.blocks = nn.ModuleList(Block(config.dim, config.heads) for _ in range(config.text_layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, texts: list[str]) -> torch.Tensor:
        """Texts -> (B, D)."""
        ids = tokenize(texts, self.config.vocabulary, self.config.max_words).to(self.places.device)
        mask = ids > 0
        mask[:, 0] = True  # an empty text still has one (padding) token
        x = self.words(ids) + self.places[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        weight = mask.unsqueeze(-1).to(x.dtype)
        return self.norm((x * weight).sum(1) / weight.sum(1))


def build_text_encoder(config: CompactConfig) -> nn.Module:
    """The text side that the config names: list of texts -> (B, D)."""
    if config.text == "meanings":
        return MeaningEncoder(config.words, config.word_dim, config.form_bytes, config.dim)
    return TextEncoder(config)


class GridPool(nn.Module):
    """Attention pooling over grid cells: the query comes from a vector, cells carry learned coordinates."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.places = nn.Parameter(grid_places(config.grid, dim))
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """tokens (B, N, D), query (B, Q, D) -> (B, Q, D)."""
        batch, count, dim = tokens.shape
        placed = tokens + self.places
        q, k, v = self.query(query), self.key(placed), self.value(placed)
        q, k, v = (t.view(batch, -1, self.heads, dim // self.heads).transpose(1, 2) for t in (q, k, v))
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, -1, dim)
        return self.norm(found + self.mlp(found + query))


class CompactBackbone(VideoBackbone):
    """Clip and words in, a token grid and pooled vectors out."""

    def __init__(self, config: CompactConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CompactConfig()
        self.hidden_size, self.num_tokens = config.dim, config.grid**2
        self.frame_encoder = FrameEncoder(config)
        self.mix = nn.Linear(config.num_frames * config.dim, config.dim)
        self.places = nn.Parameter(grid_places(config.grid, config.dim))
        self.blocks = nn.ModuleList(Block(config.dim, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.text_encoder: nn.Module = build_text_encoder(config)
        self.clip_query = nn.Parameter(0.02 * torch.randn(1, 1, config.dim))
        self.clip_pool = GridPool(config)
        self.ground = GridPool(config)
        self._kept: Kept[torch.Tensor] = Kept()

    def encode_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W, 3) uint8 -> per-frame cells (B, T, N, D)."""
        cells = self.frame_encoder(frames.flatten(0, 1))
        return cells.view(*frames.shape[:2], *cells.shape[1:])

    def mix_frames(self, cells: torch.Tensor) -> torch.Tensor:
        """Per-frame cells (B, num_frames, N, D), oldest first -> clip tokens (B, N, D)."""
        x = self.mix(cells.transpose(1, 2).flatten(2)) + cells[:, -1] + self.places
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """Texts -> (B, D). A frozen backbone keeps its last answer: a robot hears the same words for an episode."""
        return self._kept.get(self.text_encoder, tuple(texts), lambda: self.text_encoder(texts))

    def clip_vector(self, tokens: torch.Tensor) -> torch.Tensor:
        """Clip tokens (B, N, D) -> one vector (B, D) for the whole clip."""
        return self.clip_pool(tokens, self.clip_query.expand(len(tokens), -1, -1))[:, 0]

    def find(self, tokens: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """What the words (B, D) or (B, Q, D) name in the clip: same shape as `text`."""
        query = text if text.dim() == 3 else text[:, None]
        return self.ground(tokens, query).view(text.shape)

    def forward(self, frames: torch.Tensor, instructions: list[str]) -> BackboneFeatures:
        """Encode clips (B, T, H, W, 3) uint8; shorter clips repeat their oldest frame.

        Raises:
            ValueError: for frames of another size or type, and a number of instructions other than B.
        """
        side = self.config.image_size
        if frames.dim() != 5 or tuple(frames.shape[2:]) != (side, side, 3):
            raise ValueError(f"The compact backbone wants clips (B, T, {side}, {side}, 3), got {tuple(frames.shape)}.")
        check_clips(frames, instructions)
        clip = fit_length(frames, self.config.num_frames)
        tokens = self.mix_frames(self.encode_frames(clip))
        text = self.encode_text(instructions)
        return BackboneFeatures(tokens, self.clip_vector(tokens) + self.find(tokens, text), text)


def fit_length(frames: torch.Tensor, length: int) -> torch.Tensor:
    """Last `length` frames of (B, T, ...), the oldest repeated in front where there are fewer."""
    if frames.shape[1] < length:
        missing = length - frames.shape[1]
        frames = torch.cat([frames[:, :1].expand(-1, missing, *frames.shape[2:]), frames], dim=1)
    return frames[:, -length:]


def save_compact(backbone: CompactBackbone, folder: Path, learned: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write `config.json` and `backbone.safetensors` (16-bit floats where that loses nothing that matters).

    learned: in place of its own weights of these names, for a backbone that lies in shares on several processes.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(backbone.config), indent=2) + "\n")
    whole = backbone.state_dict() | dict(learned or {})
    state = {name: value.half() if value.is_floating_point() else value for name, value in whole.items()}
    partial = folder / "backbone.safetensors.partial"
    save_file({name: value.contiguous() for name, value in state.items()}, partial)
    partial.replace(folder / "backbone.safetensors")


def load_compact(config: BackboneConfig) -> CompactBackbone:
    """Load the compact backbone from `config.weights`: a folder, or one of `SHIPPED`; None is the first of them.

    Raises:
        ValueError: when the folder is not a compact backbone or its file is damaged; nothing is half-loaded.
    """
    from neon_sim.shipped import asset_path

    weights = config.weights or SHIPPED[0]
    return read_compact(asset_path(f"g1/{weights}") if weights in SHIPPED else Path(weights))


def read_compact(folder: Path) -> CompactBackbone:
    """Read a folder that `save_compact` wrote. Raises ValueError as `load_compact` does."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        values = json.loads((folder / "config.json").read_text())
        values["channels"] = tuple(values["channels"])
        backbone = CompactBackbone(CompactConfig(**values))
        state = load_file(folder / "backbone.safetensors")
        backbone.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state.items()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{folder} does not hold a whole compact backbone ({error}). Train one: python agents/train_backbone.py"
        ) from error
    return backbone

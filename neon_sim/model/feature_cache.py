"""Features on disk: a frozen backbone says the same about the same clip, so training asks it once."""

import hashlib
import shutil
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Final
from uuid import uuid4

import torch
from torch import Tensor

from neon_sim.model.video_backbone import BackboneFeatures, VideoBackbone, check_clips

_NAMES = ("tokens", "pooled", "text")
_SPARE: Final = 2 * 2**30  # bytes of the disk that are left to others
_RECOUNT: Final = 64  # looks at what all processes wrote, on the way from an empty folder to a full one
Sample = dict[str, Tensor]  # one clip's features, without the batch axis


def sample_key(frames: Tensor, instruction: str, audio: Tensor | None = None) -> str:
    """Hex digits for the content of one clip (T, H, W, 3) uint8, its words and its sound (S,)."""
    digest = hashlib.blake2b(digest_size=20)
    for value in (frames, audio):
        if value is not None:
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        digest.update(b"|")
    digest.update(instruction.encode())
    return digest.hexdigest()


class FeatureCache:
    """A backbone that remembers. Called like one: `cache(frames, instructions)` or `(frames, instructions, audio)`.

    There is one safetensors file per clip, in a folder per backbone (weights, precision and clip size: another backbone
    never reads them). Files are written whole or not at all, so several processes may share the folder, and an
    interrupted run loses nothing. If everything is there, a lazy backbone is never loaded.

    Args:
        folder: where the files go.
        backbone: a frozen one.
        dtype: how features are stored. float32 returns the backbone's bits; float16 and bfloat16 halve the files, and
            then the first pass is rounded too, so that every pass gives the same bits.
        memory_mb: megabytes of the most recent features that are kept in memory.
        limit_gb: nothing is added to this backbone's folder beyond it (within a few percent of it for each process that
            writes), nor to a disk with less than 2 GB left: clips that do not fit are encoded each time.
    """

    def __init__(
        self,
        folder: str | Path,
        backbone: VideoBackbone,
        dtype: torch.dtype = torch.float32,
        memory_mb: float = 256.0,
        limit_gb: float = 64.0,
    ) -> None:
        """Raises ValueError for a backbone that learns: what it says today is wrong tomorrow."""
        if any(parameter.requires_grad for parameter in backbone.parameters()) or backbone.training:
            raise ValueError("FeatureCache wants a frozen backbone in eval mode: set freeze_backbone=True.")
        self.backbone, self.dtype = backbone, dtype
        label = f"{backbone.fingerprint()} {dtype}"
        self.folder = Path(folder) / hashlib.sha256(label.encode()).hexdigest()[:24]
        self.hits, self.misses = 0, 0  # clips
        self.full = False  # something did not fit: nothing more is added by this process
        self._limit = int(memory_mb * 2**20)
        self._disk_limit = int(limit_gb * 2**30)
        self._counted = self._added = 0  # bytes of all files when they were counted last, and of those written since
        self._counts = False  # whether they were counted at all
        self._recent: OrderedDict[str, Sample] = OrderedDict()
        self._size = 0  # bytes in _recent

    def __call__(self, frames: Tensor, instructions: list[str], audio: Tensor | None = None) -> BackboneFeatures:
        """Features of clips (B, T, H, W, 3) uint8, one instruction each, and sound (B, S) for a backbone that hears.

        Only the clips that are not known are encoded, together; a clip that comes twice in a batch is encoded once.
        """
        check_clips(frames, instructions)
        sounds = [None] * len(frames) if audio is None else list(audio)
        keys = [sample_key(*sample) for sample in zip(frames, instructions, sounds, strict=True)]
        samples = {key: found for key in dict.fromkeys(keys) if (found := self._find(key)) is not None}
        missing = {key: row for row, key in reversed(list(enumerate(keys))) if key not in samples}
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        if missing:
            samples |= self._encode(missing, frames, instructions, audio)
        stacked = (torch.stack([samples[key][name] for key in keys]).float().to(frames.device) for name in _NAMES)
        return BackboneFeatures(*stacked)

    def _encode(
        self, missing: dict[str, int], frames: Tensor, instructions: list[str], audio: Tensor | None
    ) -> dict[str, Sample]:
        rows = list(missing.values())
        heard = () if audio is None else (audio[rows],)
        with torch.no_grad():
            features = self.backbone(frames[rows], [instructions[row] for row in rows], *heard)
        fresh: dict[str, Sample] = {}
        for i, key in enumerate(missing):
            fresh[key] = {name: getattr(features, name)[i].to("cpu", self.dtype).contiguous() for name in _NAMES}
            self._write(key, fresh[key])
            self._remember(key, fresh[key])
        return fresh

    def _find(self, key: str) -> Sample | None:
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        sample = self._read(key)
        if sample is not None:
            self._remember(key, sample)
        return sample

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"  # 256 folders: a million files in one are slow to list

    def _read(self, key: str) -> Sample | None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._path(key)
        try:
            sample = load(path.read_bytes())
        except FileNotFoundError:
            return None
        except SafetensorError as error:
            warnings.warn(f"{path} is damaged ({error}); the clip is encoded again.", stacklevel=4)
            return None
        return sample if set(sample) == set(_NAMES) else None

    def _write(self, key: str, sample: Sample) -> None:
        from safetensors.torch import save

        if self.full or not self._has_room(_bytes(sample)):
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{key}.{uuid4().hex}.partial")  # another process may write the same clip
        partial.write_bytes(save(sample))
        partial.replace(path)

    def _has_room(self, size: int) -> bool:
        if not self._counts or self._added > self._disk_limit / _RECOUNT:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._counted = sum(path.stat().st_size for path in self.folder.glob("*/*.safetensors"))
            self._counts, self._added = True, 0
        self._added += size
        free = shutil.disk_usage(self.folder).free
        self.full = self._counted + self._added > self._disk_limit or free - size < _SPARE
        if self.full:
            warnings.warn(
                f"{self.folder} has no room for more features (its limit is {self._disk_limit / 2**30:g} GB, the disk "
                f"has {free / 2**30:.0f} GB left): clips that are not there are encoded each time. Remove what older "
                "runs left there, or raise TrainConfig.feature_cache_gb.",
                stacklevel=5,
            )
        return not self.full

    def _remember(self, key: str, sample: Sample) -> None:
        self._recent[key] = sample
        self._size += _bytes(sample)
        while self._size > self._limit and self._recent:
            _, oldest = self._recent.popitem(last=False)
            self._size -= _bytes(oldest)


def _bytes(sample: Sample) -> int:
    return sum(value.nbytes for value in sample.values())

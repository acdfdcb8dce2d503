"""Demonstrations of track and press as a frozen backbone sees them: as a film, as its last picture, and out of order.

Episodes are those that agents/collect.py records with --as-judged --policy noisy_expert --sensors proprio camera. What
is kept of them is one sample a chunk: the senses, the expert's wish, and the features of the same clip in every view.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.data.windows import WindowConfig, cut_window
from neon_sim.episode import NeonEpisode
from neon_sim.eval.outcomes import kept
from neon_sim.inference.policy import ClipBuffer
from neon_sim.model.video_backbone import BackboneConfig, BackboneFeatures, VideoBackbone
from neon_sim.training.batches import Group
from neon_sim.training.demos import save_rows
from neon_sim.training.recording import Collecting, Recorder, as_judged
from neon_sim.training.workers import parallel_map

FIRST_SEED: Final = 3_700_000  # of the demonstrations; agents/collect.py begins at 4,000,000
SHARD: Final = 10  # episodes in one file
CHUNK: Final = 16  # control steps of a chunk, and from one sample to the next
_SENSES: Final = ("proprio", "eef")
_FEATURES: Final = ("tokens", "pooled", "text")


def _film(frames: Tensor, rng: np.random.Generator) -> Tensor:
    return frames


def _last_frame(frames: Tensor, rng: np.random.Generator) -> Tensor:
    return frames[:, -1:].expand_as(frames)


def _shuffled(frames: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.stack([clip[torch.from_numpy(rng.permutation(len(clip)))] for clip in frames])


def _past_shuffled(frames: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.cat([_shuffled(frames[:, :-1], rng), frames[:, -1:]], dim=1)


# Clips (B, T, H, W, 3), oldest frame first -> what the backbone is shown, of the same shape. "shuffled" loses which
# picture is the present one as well as the order; "past shuffled" loses the order of the older ones alone.
VIEWS: Final[dict[str, Callable[[Tensor, np.random.Generator], Tensor]]] = {
    "clip": _film,
    "last frame": _last_frame,
    "shuffled": _shuffled,
    "past shuffled": _past_shuffled,
}


class ViewedBackbone(VideoBackbone):
    """A frozen backbone that is shown its clips in one of `VIEWS`; rng draws the order of the shuffled ones."""

    def __init__(self, backbone: VideoBackbone, view: str, rng: np.random.Generator) -> None:
        super().__init__()
        self.backbone, self.view, self.rng = backbone, view, rng
        self.hidden_size, self.num_tokens = backbone.hidden_size, backbone.num_tokens

    def forward(self, frames: Tensor, instructions: list[str]) -> BackboneFeatures:
        """Clips (B, T, H, W, 3) uint8, oldest first, and one instruction each."""
        features: BackboneFeatures = self.backbone(VIEWS[self.view](frames, self.rng), instructions)
        return features


def collecting(task: str) -> Collecting:
    """How a task is recorded: as long as it is judged, the expert disturbed by what the task bears."""
    return as_judged(Collecting(task=task, policy="noisy_expert", sensors=("proprio", "camera")))


@dataclass(frozen=True)
class DemoShard:
    """Consecutive seeds of one task that belong into one file. backbone: None = the shipped one."""

    task: str
    path: Path
    first_seed: int
    count: int
    backbone: str | None
    commit: str  # of the code that records

    @property
    def note(self) -> Path:
        """A JSON file beside it: when, by what and of which seeds it was recorded, and what its bytes hash to."""
        return self.path.with_suffix(".json")


def record_shard(shard: DemoShard) -> bool:
    """Record a shard unless it is there; returns whether it is new."""
    if shard.path.exists() and shard.note.exists():
        return False
    torch.set_num_threads(1)
    recorder = Recorder(collecting(shard.task))
    backbone = VideoBackbone.from_config(BackboneConfig(weights=shard.backbone))
    rows: list[dict[str, np.ndarray]] = []
    for seed in range(shard.first_seed, shard.first_seed + shard.count):
        rows += episode_rows(recorder.episode(seed), seed, backbone)
    recorder.env.close()
    save_rows(rows, shard.path)
    shard.note.unlink(missing_ok=True)  # of a file that was lost
    digest = hashlib.sha256(shard.path.read_bytes()).hexdigest()
    about = {"file": shard.path.name, "first_seed": shard.first_seed, "episodes": shard.count, "sha256": digest}
    kept(shard.note, lambda: about, shard.commit)
    return True


def record(folder: Path, task: str, episodes: int, backbone: str | None, workers: int, commit: str) -> list[DemoShard]:
    """The demonstrations of one task, recorded once into `folder`; what an earlier run left is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = [
        DemoShard(task, folder / f"{task}_{i:05d}.npz", FIRST_SEED + i, min(SHARD, episodes - i), backbone, commit)
        for i in range(0, episodes, SHARD)
    ]
    list(parallel_map(record_shard, shards, workers, f"recording {task}"))
    return shards


def episode_rows(episode: NeonEpisode, seed: int, backbone: VideoBackbone) -> list[dict[str, np.ndarray]]:
    """One row a chunk: senses, expert's chunk and mask, hand (-1: either), goal, and features in every view.

    goal (3,) m, pelvis frame: where the palm's target is when the chunk is over, which a film can tell of a target that
    moves. Where it is now, the last picture shows.
    """
    config = WindowConfig(CHUNK, CHUNK)
    columns = np.arange(episode.actions.shape[1])
    windows = [cut_window(episode, step, config, columns) for step in range(0, len(episode), CHUNK)]
    clips = torch.from_numpy(clips_of(episode, config))
    words = [episode.instruction] * len(clips)
    seen = {name: _encode(ViewedBackbone(backbone, name, _rng(seed, name)), clips, words) for name in VIEWS}
    targets = episode.infos["goal_pos_b"]
    rows = []
    for i, window in enumerate(windows):
        row: dict[str, np.ndarray] = {name: window.senses[name] for name in _SENSES}
        row |= {"chunk": window.chunk, "mask": window.mask, "hand": np.array(window.hand), "episode": np.array(seed)}
        row["goal"] = targets[min((i + 1) * CHUNK, len(targets) - 1)].astype(np.float32)
        row |= {f"{part} {view}": values[i] for view, parts in seen.items() for part, values in parts.items()}
        rows.append(row)
    return rows


def clips_of(episode: NeonEpisode, config: WindowConfig) -> np.ndarray:
    """The clips (N, T, H, W, 3) that a policy has before it when it is asked, every `CHUNK` steps."""
    buffer = ClipBuffer(fps=config.fps)
    clips, last = [], None
    for step, frame in enumerate(episode.observations["camera"]):
        if last is None or not np.array_equal(frame, last):
            buffer.add(frame, step / episode.rate_hz)
            last = frame
        if step % CHUNK == 0:
            clips.append(buffer.clip(config.frames))
    return np.stack(clips)


@torch.inference_mode()
def _encode(backbone: VideoBackbone, clips: Tensor, words: list[str]) -> dict[str, np.ndarray]:
    features = backbone(clips, words)
    return {part: getattr(features, part).numpy().astype(np.float16) for part in _FEATURES}


def _rng(seed: int, view: str) -> np.random.Generator:
    return np.random.default_rng([seed, list(VIEWS).index(view), 13])


class ViewedDemos:
    """All demonstrations of one task in one view, in memory."""

    def __init__(self, arrays: dict[str, Tensor]) -> None:
        self.arrays = arrays

    @classmethod
    def load(cls, paths: Sequence[Path], view: str) -> "ViewedDemos":
        """Read what `record` wrote; of the features, one view's alone."""
        plain = (*_SENSES, "chunk", "mask", "hand", "goal", "episode")
        stored = {name: name for name in plain} | {part: f"{part} {view}" for part in _FEATURES}
        parts: dict[str, list[np.ndarray]] = {name: [] for name in stored}
        for path in paths:
            with np.load(path) as file:
                for name, key in stored.items():
                    parts[name].append(file[key])
        return cls({name: torch.from_numpy(np.concatenate(arrays)) for name, arrays in parts.items()})

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        """Rows (N,) for training and rows held back, by episode: the last `share` of them, and at least one."""
        episodes = self.arrays["episode"].unique(sorted=True)
        border = episodes[-max(1, int(len(episodes) * share))]
        held_back = self.arrays["episode"] >= border
        return torch.nonzero(~held_back)[:, 0], torch.nonzero(held_back)[:, 0]

    def batch(self, rows: Tensor) -> tuple[BackboneFeatures, Group]:
        """Features and samples of some rows, float32."""
        taken: dict[str, Any] = {name: values[rows] for name, values in self.arrays.items()}
        features = BackboneFeatures(*(taken[part].float() for part in _FEATURES))
        senses = {name: taken[name].float() for name in _SENSES}
        words = [""] * len(rows)  # they are in the features
        return features, Group(None, words, senses, taken["chunk"], taken["mask"], taken["hand"], taken["goal"])

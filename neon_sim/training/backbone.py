"""Training the compact backbone: captions for the clip, phrases for the balls in it, and the next frame's latents."""

import math
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from neon_sim.model.compact import CompactBackbone, save_compact
from neon_sim.training.captions import caption, describe, direction
from neon_sim.training.precision import mixed_precision

COLORS = ("red", "green", "blue", "yellow", "purple")
QUERIES = (
    "{color}",
    "the {color} ball",
    "touch the {color} ball with your {hand} hand",
    "put your {hand} hand on the {color} ball",
    "reach for the {color} ball with the {hand} hand",
    "use the {hand} hand to touch the {color} ball",
)
POSITION_SCALE_M = 0.25
FRAME_S = 0.24  # s between frames of a film
CHECKPOINT_S = 120.0
CLIPS_PER_FILM = 4
MASKED_SHARE = 0.25  # cells that are hidden from the next-frame predictor


@dataclass(frozen=True)
class Films:
    """All films of a set in memory: frames (N, F, H, W, 3) u8, ball_pos_b (N, F, n, 3) m, colors (N, n)."""

    frames: np.ndarray
    ball_pos_b: np.ndarray
    colors: np.ndarray
    drift: np.ndarray | None = None  # (N, n) index into captions.DIRECTIONS; films of version 0.1.0 lack it

    def motion(self) -> np.ndarray:
        """(N, F, n) index into captions.DIRECTIONS from each frame's last displacement; 0 at the first frame."""
        velocity = np.diff(self.ball_pos_b, axis=1) / FRAME_S
        flat = np.array([direction(v) for v in velocity.reshape(-1, 3)])
        return np.concatenate([np.zeros_like(self.colors)[:, None], flat.reshape(velocity.shape[:3])], axis=1)


def load_films(paths: list[Path]) -> Films:
    """Read shards that `clips.save_films` wrote."""
    parts = [dict(np.load(path)) for path in paths]
    keys = [f.name for f in fields(Films) if f.name in parts[0]]
    return Films(**{key: np.concatenate([part[key] for part in parts]) for key in keys})


class Pretext(nn.Module):
    """The backbone with the small heads that only training needs."""

    def __init__(self, backbone: CompactBackbone) -> None:
        super().__init__()
        dim = backbone.hidden_size
        self.backbone = backbone
        self.clip_proj, self.caption_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.region_proj, self.phrase_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.numbers = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 3))
        self.next_frame = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.mask_cell = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.tensor([2.7, 2.7]))  # e^2.7 = 15: inverse temperatures


def windows(cells: Tensor, length: int) -> Tensor:
    """(B, F, N, D) -> (B * F, length, N, D): the clip that ends at each frame, its oldest frame repeated in front."""
    padded = torch.cat([cells[:, :1].expand(-1, length - 1, -1, -1), cells], dim=1)
    return padded.unfold(1, length, 1).permute(0, 1, 4, 2, 3).flatten(0, 1)


def contrastive(a: Tensor, b: Tensor, log_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of matching rows (n, D), (n, D)."""
    logits = F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T * log_scale.exp().clamp(max=100.0)
    target = torch.arange(len(a))
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


class BackboneTrainer:
    """AdamW with a cosine over a time budget; stops and resumes from one file.

    Args:
        films: the training set.
        seed: of weights, batches and wordings.
        batch_films: films in a batch; each gives one clip per frame.
        learning_rate: peak.
    """

    def __init__(self, films: Films, seed: int, batch_films: int, learning_rate: float) -> None:
        torch.manual_seed(seed)
        self.films, self.motion = films, films.motion()
        self.rng = np.random.default_rng(seed)
        self.batch_films = batch_films
        self.learning_rate = learning_rate
        self.backbone = CompactBackbone()
        self.pretext = Pretext(self.backbone)
        self.optimizer = torch.optim.AdamW(self.pretext.parameters(), lr=learning_rate, weight_decay=0.02)
        self.step, self.spent_s = 0, 0.0

    def run(self, budget_s: float, state_path: Path) -> None:
        """Train until `budget_s` seconds of training are spent, over all runs together."""
        if state_path.exists():
            self._restore(state_path)
        self.pretext.train()
        saved_s = self.spent_s
        with tqdm(total=round(budget_s), initial=round(self.spent_s), unit="s", desc="training") as bar:
            try:
                while self.spent_s < budget_s:
                    begun = time.perf_counter()
                    losses = self._update(min(1.0, self.spent_s / budget_s))
                    self.spent_s += time.perf_counter() - begun
                    bar.n = min(round(self.spent_s), bar.total)
                    if self.step % 20 == 0:
                        bar.set_postfix({k: f"{v:.3f}" for k, v in losses.items()} | {"step": self.step})
                    if self.spent_s - saved_s > CHECKPOINT_S:
                        self._checkpoint(state_path)
                        saved_s = self.spent_s
            finally:
                self._checkpoint(state_path)
        self.backbone.eval()

    def save(self, folder: Path) -> None:
        """Write the backbone alone."""
        save_compact(self.backbone, folder)

    def _update(self, progress: float) -> dict[str, float]:
        warm = min(1.0, (self.step + 1) / 100)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        losses = self._losses(self.rng.integers(len(self.films.frames), size=self.batch_films))
        self.optimizer.zero_grad(set_to_none=True)
        total = losses["caption"] * 0.3 + losses["phrase"] * 0.3 + losses["numbers"] * 5.0 + losses["next"] * 0.3
        total.backward()
        nn.utils.clip_grad_norm_(self.pretext.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _losses(self, rows: np.ndarray) -> dict[str, Tensor]:
        frames = torch.from_numpy(self.films.frames[rows])
        batch, length = frames.shape[:2]
        pretext, backbone = self.pretext, self.backbone
        with mixed_precision(torch.device("cpu")):
            cells = backbone.encode_frames(frames)
            hidden = torch.rand(*cells.shape[:3], 1) < MASKED_SHARE
            seen = torch.where(hidden & (torch.rand(batch, 1, 1, 1) < 0.5), pretext.mask_cell.to(cells.dtype), cells)
            # A few clips of each film: neighbours are nearly alike, so more films teach more than more clips.
            ends = np.sort(self.rng.permuted(np.tile(np.arange(length), (batch, 1)), axis=1)[:, :CLIPS_PER_FILM])
            chosen = torch.from_numpy((ends + np.arange(batch)[:, None] * length).ravel())
            tokens = backbone.mix_frames(windows(seen, backbone.config.num_frames)[chosen])
            has_next = torch.from_numpy(ends.ravel() < length - 1)
            target = F.layer_norm(cells.detach().float().flatten(0, 1)[chosen[has_next] + 1], cells.shape[-1:])
            following = F.smooth_l1_loss(pretext.next_frame(tokens[has_next]).float(), target)
            found = backbone.find(tokens, self._queries(rows, CLIPS_PER_FILM))
            last = torch.arange(CLIPS_PER_FILM - 1, len(tokens), CLIPS_PER_FILM)
            clip = pretext.clip_proj(backbone.clip_vector(tokens[last]))
            captions, phrases = self._texts(rows, ends[:, -1])
            region = pretext.region_proj(found[last]).flatten(0, 1)
            losses = {
                "caption": contrastive(
                    clip, pretext.caption_proj(backbone.text_encoder(captions)), pretext.log_scale[0]
                ),
                "phrase": contrastive(
                    region, pretext.phrase_proj(backbone.text_encoder(phrases)), pretext.log_scale[1]
                ),
            }
            numbers = pretext.numbers(found).float()
        truth = torch.from_numpy(self.films.ball_pos_b[rows][np.arange(batch)[:, None], ends]).flatten(0, 1)
        return losses | {"numbers": F.smooth_l1_loss(numbers, truth / POSITION_SCALE_M, beta=0.1), "next": following}

    def _queries(self, rows: np.ndarray, length: int) -> Tensor:
        """Embeddings (B * F, n, D) of a wording that names each ball; equal texts are encoded once."""
        texts = []
        for row in rows:
            template = QUERIES[self.rng.integers(len(QUERIES))]
            hand = ("left", "right")[self.rng.integers(2)]
            texts += [template.format(color=COLORS[color], hand=hand) for color in self.films.colors[row]]
        unique = sorted(set(texts))
        vectors = self.backbone.text_encoder(unique)[[unique.index(text) for text in texts]]
        per_film = vectors.view(len(rows), -1, vectors.shape[-1])
        return per_film[:, None].expand(-1, length, -1, -1).flatten(0, 1)

    def _texts(self, rows: np.ndarray, times: np.ndarray) -> tuple[list[str], list[str]]:
        captions, phrases = [], []
        for row, t in zip(rows, times, strict=True):
            names = [COLORS[color] for color in self.films.colors[row]]
            pos, moving = self.films.ball_pos_b[row, t], self.motion[row, t]
            captions.append(caption(names, pos, list(moving), self.rng))
            phrases += [describe(*ball) for ball in zip(names, pos, (int(m) for m in moving), strict=True)]
        return captions, phrases

    def _checkpoint(self, path: Path) -> None:
        state = {
            "pretext": self.pretext.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "step": self.step,
            "spent_s": self.spent_s,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def _restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.pretext.load_state_dict(state["pretext"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        self.step, self.spent_s = state["step"], state["spent_s"]

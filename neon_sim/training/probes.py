"""What a frozen backbone knows: small probes on its features, trained on one set of films and judged on another."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neon_sim.model.compact import CompactBackbone
from neon_sim.training.backbone import COLORS, Films, windows
from neon_sim.training.captions import DIRECTIONS

PROBE_EPOCHS = 20
MOVING = range(1, len(DIRECTIONS))  # "still" is left out of the direction probe


@torch.inference_mode()
def encode_films(backbone: CompactBackbone, films: Films) -> tuple[Tensor, Tensor]:
    """Per clip (N * F): pooled clip vectors (., D), and what a phrase for each ball finds (., n, D)."""
    backbone.eval()
    phrases = backbone.text_encoder([f"the {color} ball" for color in COLORS])
    clips, found = [], []
    for start in range(0, len(films.frames), 16):
        cells = backbone.encode_frames(torch.from_numpy(films.frames[start : start + 16]))
        tokens = backbone.mix_frames(windows(cells, backbone.config.num_frames))
        colors = torch.from_numpy(films.colors[start : start + 16]).repeat_interleave(cells.shape[1], 0)
        clips.append(backbone.clip_vector(tokens))
        found.append(backbone.find(tokens, phrases[colors]))
    return torch.cat(clips).clone(), torch.cat(found).clone()


def fit_probe(inputs: Tensor, targets: Tensor, outputs: int, loss: Any, seed: int) -> nn.Module:
    """A two-layer probe (256 wide) on standardised features (N, D)."""
    torch.manual_seed(seed)
    mean, std = inputs.mean(0), inputs.std(0).clamp(min=1e-4)
    probe = nn.Sequential(nn.Linear(inputs.shape[1], 256), nn.GELU(), nn.Linear(256, outputs))
    optimizer = torch.optim.AdamW(probe.parameters(), 1e-3, weight_decay=0.01)
    rng = np.random.default_rng(seed)
    for _ in range(PROBE_EPOCHS):
        for rows in torch.from_numpy(rng.permutation(len(inputs))).split(256):
            value = loss(probe((inputs[rows] - mean) / std), targets[rows])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()

    class Standardised(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return probe((x - mean) / std)

    return Standardised()


def probe_backbone(
    backbone: CompactBackbone, train: Films, test: Films, motion_train: Films, motion_test: Films, seed: int
) -> dict[str, Any]:
    """Position (cm), colours present, direction of motion from a clip and from one frame; chance beside each.

    train, test: films of `ClipConfig()`. motion_train, motion_test: films of `clips.MOTION_PROBE`, of which the clip
    that ends at the last frame is judged.
    """
    train = Films(train.frames[:1500], train.ball_pos_b[:1500], train.colors[:1500])
    clip_train, found_train = encode_films(backbone, train)
    clip_test, found_test = encode_films(backbone, test)
    figures = _probe_position(found_train, train, found_test, test, seed)
    figures |= _probe_colors(clip_train, train, clip_test, test, seed)
    for name, single_frame in (("clip", False), ("frame", True)):
        motion = _probe_motion(backbone, motion_train, motion_test, single_frame, seed)
        figures |= {f"direction_{name}_{key}": value for key, value in motion.items()}
    counts = {"train_films": len(train.frames), "test_films": len(test.frames)}
    counts |= {"motion_train_films": len(motion_train.frames), "motion_test_films": len(motion_test.frames)}
    return {"figures": figures, "seed": seed, **counts}


def _probe_position(found: Tensor, train: Films, found_test: Tensor, test: Films, seed: int) -> dict[str, float]:
    target = torch.from_numpy(train.ball_pos_b).flatten(0, 2) * 10.0  # dm
    probe = fit_probe(found.flatten(0, 1), target, 3, lambda a, b: F.smooth_l1_loss(a, b, beta=0.2), seed)
    truth = torch.from_numpy(test.ball_pos_b).flatten(0, 2) * 10.0
    with torch.no_grad():
        error_cm = (probe(found_test.flatten(0, 1)) - truth).norm(dim=-1) * 10.0
        guess_cm = (target.mean(0) - truth).norm(dim=-1) * 10.0
    return {
        "position_cm_median": float(error_cm.median()),
        "position_cm_mean": float(error_cm.mean()),
        "position_under_3cm": float((error_cm < 3.0).float().mean()),
        "position_cm_median_chance": float(guess_cm.median()),
    }


def _probe_colors(clip: Tensor, train: Films, clip_test: Tensor, test: Films, seed: int) -> dict[str, float]:
    def present(films: Films) -> Tensor:
        there = F.one_hot(torch.from_numpy(films.colors), len(COLORS)).sum(1).float()
        return there.repeat_interleave(films.frames.shape[1], 0)

    probe = fit_probe(clip, present(train), len(COLORS), F.binary_cross_entropy_with_logits, seed)
    truth = present(test)
    with torch.no_grad():
        right = ((probe(clip_test) > 0) == truth.bool()).float()
    return {"color_accuracy": float(right.mean()), "color_chance": float(torch.maximum(truth.mean(), 1 - truth.mean()))}


class MotionProbe(nn.Module):
    """Attention over the frozen token grid, asked with a ball's phrase, then a small MLP over the directions."""

    def __init__(self, dim: int, cells: int) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.places = nn.Parameter(0.02 * torch.randn(cells, dim))
        self.mlp = nn.Sequential(nn.Linear(dim, 256), nn.GELU(), nn.Linear(256, len(MOVING)))

    def forward(self, tokens: Tensor, phrase: Tensor) -> Tensor:
        """tokens (B, N, D), phrase (B, D) -> logits (B, 4)."""
        placed = tokens + self.places
        scores = (self.key(placed) @ self.query(phrase)[:, :, None])[..., 0] / tokens.shape[-1] ** 0.5
        return self.mlp((scores.softmax(-1)[..., None] * self.value(placed)).sum(1))


@torch.inference_mode()
def encode_last_clips(backbone: CompactBackbone, films: Films, single_frame: bool) -> tuple[Tensor, Tensor]:
    """Tokens (N * n, cells, D) of the clip that ends at each film's last frame, and each ball's phrase (N * n, D)."""
    backbone.eval()
    phrases = backbone.text_encoder([f"the {color} ball" for color in COLORS])
    length = backbone.config.num_frames
    parts = []
    for start in range(0, len(films.frames), 32):
        frames = torch.from_numpy(films.frames[start : start + 32, -length:])
        if single_frame:
            frames = frames[:, -1:].expand(-1, length, -1, -1, -1)
        parts.append(backbone.mix_frames(backbone.encode_frames(frames)))
    balls = films.colors.shape[1]
    tokens = torch.cat(parts).repeat_interleave(balls, 0)
    return tokens.clone(), phrases[torch.from_numpy(films.colors).flatten()].clone()


def _probe_motion(
    backbone: CompactBackbone, train: Films, test: Films, single_frame: bool, seed: int
) -> dict[str, float]:
    if train.drift is None or test.drift is None:
        raise ValueError("The direction probe wants films with `drift`: record them anew with clips.MOTION_PROBE.")
    torch.manual_seed(seed)
    tokens, phrases = encode_last_clips(backbone, train, single_frame)
    labels = torch.from_numpy(train.drift).flatten() - 1
    probe = MotionProbe(tokens.shape[-1], tokens.shape[1])
    optimizer = torch.optim.AdamW(probe.parameters(), 1e-3, weight_decay=0.02)
    rng = np.random.default_rng(seed)
    for _ in range(PROBE_EPOCHS):
        for rows in torch.from_numpy(rng.permutation(len(labels))).split(128):
            loss = F.cross_entropy(probe(tokens[rows], phrases[rows]), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    tokens, phrases = encode_last_clips(backbone, test, single_frame)
    truth = torch.from_numpy(test.drift).flatten() - 1
    with torch.no_grad():
        guess = probe(tokens, phrases).argmax(-1)
    largest = torch.bincount(truth).max() / len(truth)
    return {"accuracy": float((guess == truth).float().mean()), "chance": float(largest), "balls": len(truth)}

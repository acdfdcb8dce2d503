"""What a frozen backbone knows: small probes on its features, trained on one set of films and judged on another."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neon_sim.model.compact import CompactBackbone
from neon_sim.training.backbone import COLORS, Films, windows
from neon_sim.training.captions import DIRECTIONS

PROBE_EPOCHS = 12
MOVING = range(1, len(DIRECTIONS))  # "still" is left out of the direction probe


@torch.inference_mode()
def encode_films(backbone: CompactBackbone, films: Films, single_frame: bool) -> tuple[Tensor, Tensor]:
    """Per clip (N * F): pooled clip vectors (., D), and what a phrase for each ball finds (., n, D).

    `single_frame` shows the newest frame only, repeated: what an image encoder would see.
    """
    backbone.eval()
    phrases = backbone.text_encoder([f"the {color} ball" for color in COLORS])
    clips, found = [], []
    for start in range(0, len(films.frames), 16):
        cells = backbone.encode_frames(torch.from_numpy(films.frames[start : start + 16]))
        length = backbone.config.num_frames
        seen = windows(cells, length)
        if single_frame:
            seen = seen[:, -1:].expand(-1, length, -1, -1)
        tokens = backbone.mix_frames(seen)
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


def probe_backbone(backbone: CompactBackbone, train: Films, test: Films, seed: int) -> dict[str, Any]:
    """Position (cm), colours present, direction of motion from a clip and from one frame; chance beside each."""
    train = Films(train.frames[:2000], train.ball_pos_b[:2000], train.colors[:2000])
    clip_train, found_train = encode_films(backbone, train, single_frame=False)
    clip_test, found_test = encode_films(backbone, test, single_frame=False)
    figures = _probe_position(found_train, train, found_test, test, seed)
    figures |= _probe_colors(clip_train, train, clip_test, test, seed)
    figures |= {f"direction_clip_{k}": v for k, v in _probe_motion(found_train, train, found_test, test, seed).items()}
    _, still_train = encode_films(backbone, train, single_frame=True)
    _, still_test = encode_films(backbone, test, single_frame=True)
    figures |= {f"direction_frame_{k}": v for k, v in _probe_motion(still_train, train, still_test, test, seed).items()}
    return {"figures": figures, "train_films": len(train.frames), "test_films": len(test.frames), "seed": seed}


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


def _probe_motion(found: Tensor, train: Films, found_test: Tensor, test: Films, seed: int) -> dict[str, float]:
    def moving(films: Films) -> tuple[Tensor, Tensor]:
        labels = torch.from_numpy(films.motion())
        steady = labels > 0
        steady[:, :3] = False  # the clip has to hold the motion
        return labels.flatten(), steady.flatten()

    labels, rows = moving(train)
    probe = fit_probe(found.flatten(0, 1)[rows], labels[rows] - 1, len(MOVING), F.cross_entropy, seed)
    truth, judged = moving(test)
    with torch.no_grad():
        guess = probe(found_test.flatten(0, 1)[judged]).argmax(-1) + 1
    accuracy = float((guess == truth[judged]).float().mean())
    largest = torch.bincount(truth[judged]).max() / judged.sum()
    return {"accuracy": accuracy, "chance": float(largest), "balls": int(judged.sum())}

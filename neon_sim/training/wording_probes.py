"""How well a text side tells tasks apart in wordings that are held back, and finds what is named."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neon_sim.model.compact import CompactBackbone
from neon_sim.training.backbone import COLORS, Films
from neon_sim.training.wordings import HANDS, Phrase, Said, even_chances, say_all

_RIDGE: Final = 0.1  # of the probe, relative to the mean square of the features


def judge_wordings(
    encode: Callable[[list[str]], Tensor], train: Sequence[Phrase], test: Sequence[Phrase]
) -> dict[str, dict[str, float]]:
    """By task: the share of `test` whose task a linear probe and the nearest class mean tell, both fitted on `train`.

    Every template counts the same, whatever its fields. "mean" is over tasks.
    """
    tasks = sorted({phrase.task for phrase in train})
    known, asked = say_all(train), say_all(test)
    with torch.no_grad():
        x, z = (encode([each.text for each in said]).double() for said in (known, asked))
    truth = torch.tensor([tasks.index(each.phrase.task) for each in known])
    weight = torch.from_numpy(even_chances(known))
    scale = x.std(0) + 1e-6
    x, z = x / scale, z / scale
    answers = {"linear": _linear(x, truth, weight, z, len(tasks)), "nearest_mean": _nearest(x, truth, weight, z)}
    return {name: _shares(found, asked, tasks) for name, found in answers.items()}


def _linear(x: Tensor, truth: Tensor, weight: Tensor, z: Tensor, count: int) -> Tensor:
    """Weighted ridge regression of one-hot tasks, (N, D), (M, D) -> (M,) answers."""
    mean = weight @ x
    x, z, target = x - mean, z - mean, F.one_hot(truth, count).double()
    moment = x.T @ (weight[:, None] * x)
    ridge = _RIDGE * moment.diagonal().mean() * torch.eye(x.shape[1], dtype=torch.float64)
    return (z @ torch.linalg.solve(moment + ridge, x.T @ (weight[:, None] * (target - weight @ target)))).argmax(1)


def _nearest(x: Tensor, truth: Tensor, weight: Tensor, z: Tensor) -> Tensor:
    share = F.one_hot(truth).double() * weight[:, None]
    means = share.T @ x / share.sum(0)[:, None]
    return torch.cdist(z, means).argmin(1)


def _shares(found: Tensor, asked: Sequence[Said], tasks: list[str]) -> dict[str, float]:
    by_template: dict[Phrase, list[bool]] = {}
    for answer, each in zip(found.tolist(), asked, strict=True):
        by_template.setdefault(each.phrase, []).append(tasks[answer] == each.phrase.task)
    shares = {
        task: float(np.mean([np.mean(right) for phrase, right in by_template.items() if phrase.task == task]))
        for task in tasks
        if any(phrase.task == task for phrase in by_template)
    }
    return shares | {"mean": float(np.mean(list(shares.values())))}


@torch.no_grad()
def text_in_pooled(backbone: CompactBackbone, texts: list[str]) -> Tensor:
    """(N, D): the pooled features of a black clip, which carry the words where there is no picture."""
    config = backbone.config
    black = torch.zeros(1, config.num_frames, config.image_size, config.image_size, 3, dtype=torch.uint8)
    tokens = backbone.mix_frames(backbone.encode_frames(black))
    found = backbone.find(tokens.expand(len(texts), -1, -1), backbone.text_encoder(texts))
    return backbone.clip_vector(tokens) + found


@torch.no_grad()
def judge_finding(
    reference: CompactBackbone, backbone: CompactBackbone, films: Films, phrases: Sequence[Phrase], seed: int = 0
) -> float:
    """Share of the balls for which a phrase finds the ball that it names, in the clips that end the films.

    What a phrase finds is compared with what `reference`, a backbone with the same eyes, finds for "the red ball" and
    so on for every ball of the clip: the nearest one counts. Phrases and hands are drawn at random.
    """
    rng = np.random.default_rng(seed)
    length = backbone.config.num_frames
    tokens = backbone.mix_frames(backbone.encode_frames(torch.from_numpy(films.frames[:, -length:])))
    named = reference.text_encoder([f"the {color} ball" for color in COLORS])
    colors = torch.from_numpy(films.colors).long()
    there = reference.find(tokens, named[colors])
    texts = [
        phrases[int(rng.integers(len(phrases)))].template.format(color=COLORS[color], hand=HANDS[rng.integers(2)])
        for color in colors.flatten()
    ]
    found = backbone.find(tokens, backbone.text_encoder(texts).view(*colors.shape, -1))
    return float((torch.cdist(found, there).argmin(-1) == torch.arange(colors.shape[1])).float().mean())

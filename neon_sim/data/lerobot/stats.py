"""Statistics of the features, per episode and of the whole: min, max, mean, std and count, as the format wants them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from neon_sim.data.lerobot.features import VISUAL, Feature

FeatureStats = dict[str, np.ndarray]
Stats = dict[str, FeatureStats]
SAMPLED_PICTURES = 100  # per episode and camera
MOST_NUMBERS = 16_384  # of one step's field, above a second of sound and below a LiDAR's full frame


def episode_stats(columns: Mapping[str, np.ndarray], features: Mapping[str, Feature]) -> Stats:
    """Statistics over one episode's steps.

    Numbers: arrays in the feature's shape. Pictures: (3, 1, 1) per channel over up to 100 frames, colours in [0, 1];
    depth (1, 1, 1) in mm, as it is stored. Strings have none, nor have fields of more than `MOST_NUMBERS`: as text in
    every episode's line they would outweigh the data.
    """
    counted = {name: feature for name, feature in features.items() if _is_counted(feature)}
    return {name: _feature_stats(columns[name], feature) for name, feature in counted.items()}


def _is_counted(feature: Feature) -> bool:
    if feature.dtype in VISUAL:
        return True
    return feature.dtype != "string" and math.prod(feature.shape) <= MOST_NUMBERS


def _feature_stats(values: np.ndarray, feature: Feature) -> FeatureStats:
    if feature.dtype in VISUAL:
        return _picture_stats(values, feature)
    if values.dtype == np.bool_:
        values = values.astype(np.int64)
    values = values.reshape(len(values), *feature.shape)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0, dtype=np.float64),
        "std": values.std(axis=0, dtype=np.float64),
        "count": np.array([len(values)]),
    }


def _picture_stats(values: np.ndarray, feature: Feature) -> FeatureStats:
    """From histograms of the sampled frames: exact, and no float copy of the pictures."""
    chosen = np.linspace(0, len(values) - 1, min(len(values), SAMPLED_PICTURES)).round().astype(int)
    sampled = values[chosen]
    if feature.is_depth:
        sampled = np.clip(np.round(sampled * 1000.0), 0, 65535).astype(np.uint16)[..., None]
    scale = 1.0 if feature.is_depth else 1.0 / 255.0
    channels = [_histogram_stats(np.bincount(sampled[..., i].ravel())) for i in range(sampled.shape[-1])]
    named = zip(("min", "max", "mean", "std"), np.array(channels).T, strict=True)
    stats = {name: (scale * per_channel).reshape(-1, 1, 1) for name, per_channel in named}
    return stats | {"count": np.array([len(chosen)])}


def _histogram_stats(counts: np.ndarray) -> tuple[float, float, float, float]:
    levels = np.flatnonzero(counts)
    weights = counts[levels] / counts.sum()
    mean = float(weights @ levels)
    return float(levels[0]), float(levels[-1]), mean, float(np.sqrt(weights @ (levels - mean) ** 2))


def combine_stats(parts: Iterable[Stats]) -> Stats:
    """Statistics of all episodes together (Chan et al. 1979: means and squares add up, weighted by count)."""
    gathered: dict[str, list[FeatureStats]] = {}
    for part in parts:
        for name, stats in part.items():
            gathered.setdefault(name, []).append(stats)
    return {name: _combine(stats) for name, stats in gathered.items()}


def _combine(parts: list[FeatureStats]) -> FeatureStats:
    means, stds = (np.stack([np.asarray(part[name], np.float64) for part in parts]) for name in ("mean", "std"))
    counts = np.array([int(part["count"][0]) for part in parts])
    weights = (counts / counts.sum()).reshape(-1, *[1] * (means.ndim - 1))
    mean = (weights * means).sum(axis=0)
    variance = (weights * (stds**2 + (means - mean) ** 2)).sum(axis=0)
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([counts.sum()]),
    }


def stats_to_json(stats: Stats) -> dict[str, Any]:
    """Plain lists."""
    return {name: {key: value.tolist() for key, value in parts.items()} for name, parts in stats.items()}


def stats_from_json(given: Mapping[str, Mapping[str, Any]]) -> Stats:
    """Inverse of `stats_to_json`."""
    return {name: {key: np.array(value) for key, value in parts.items()} for name, parts in given.items()}

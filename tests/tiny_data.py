"""A handful of made-up episodes on disk, in which the picture's colour says what to do."""

from pathlib import Path
from typing import Any

import numpy as np

from neon_sim.data.data_soup import DataSoupConfig
from neon_sim.data.source import DataSourceConfig
from neon_sim.episode import NeonEpisode

SIDE = 128


def tiny_episode(seed: int, steps: int = 40, control_mode: str = "arms_only", **observations: Any) -> NeonEpisode:
    """The red channel is the wanted left shoulder pitch, constant over an episode; proprioception is noise."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(-0.8, 0.8)
    camera = np.zeros((steps, SIDE, SIDE, 3), np.uint8)
    camera[..., 0] = round(127.5 * (level + 1.0))
    actions = np.zeros((steps, {"arms_only": 17, "upper_body": 20, "whole_body": 29}[control_mode]), np.float32)
    actions[:, 0] = level
    seen = {
        "camera": camera,
        "proprio": rng.normal(0.0, 0.1, (steps, 125)).astype(np.float32),
        "eef": rng.normal(0.0, 0.1, (steps, 14)).astype(np.float32),
        **observations,
    }
    return NeonEpisode(seen, actions, instruction=f"hold {seed}", control_mode=control_mode)


def write_episodes(folder: Path, count: int, first_seed: int = 0, steps: int = 40, **options: Any) -> Path:
    """`count` episodes as files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first_seed, first_seed + count):
        tiny_episode(seed, steps, **options).save(folder / f"episode_{seed:04d}.npz")
    return folder


def soup_of(*folders: Path, weights: tuple[float, ...] = (), **options: Any) -> DataSoupConfig:
    """A soup with one source a folder, named by it."""
    weights = weights or (1.0,) * len(folders)
    sources = [DataSourceConfig(f.name, "neon_sim", str(f), w) for f, w in zip(folders, weights, strict=True)]
    return DataSoupConfig(sources, **options)

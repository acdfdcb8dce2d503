"""A compact backbone, a NeonVLA and a reach scene that are small enough for tests. All of them real, none trained."""

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.model.compact import CompactBackbone, CompactConfig, save_compact
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig, BackboneFeatures
from neon_sim.sensors.camera import CameraConfig
from neon_sim.training.demos import Demos
from neon_sim.training.learner_config import SelfLearnerConfig
from neon_sim.training.protection import EWCConfig

SIZES: dict[str, Any] = {
    "dim": 40,
    "channels": (8, 8, 16, 16),
    "layers": 1,
    "text_layers": 1,
    "heads": 5,
    "vocabulary": 512,
}
REACH: dict[str, Any] = {
    "task": "reach",
    "physics_dt": 0.005,
    "sensors": ("proprio", "camera"),
    "camera": CameraConfig(rate_hz=12.5),
}


def tiny_learning(batch_size: int) -> SelfLearnerConfig:
    """A learner's settings for `tiny_model`, with EWC; untrained, its palms come to rest nowhere near their goals."""
    return SelfLearnerConfig(
        batch_size=batch_size,
        updates_per_chunk=1,
        practice_noise_m=0.03,
        protection=EWCConfig(30.0),
        fisher_samples=8,
        known_m=math.inf,
        seed=1,
    )


def tiny_backbone(grid: int = 8, seed: int = 0) -> CompactBackbone:
    """A hundred thousand random weights in eval mode, for pictures of 16 * grid pixels; batch norm has seen noise."""
    torch.manual_seed(seed)
    backbone = CompactBackbone(CompactConfig(grid=grid, image_size=16 * grid, **SIZES))
    backbone.encode_frames(torch.randint(0, 256, (2, 4, 16 * grid, 16 * grid, 3), dtype=torch.uint8))
    return backbone.eval()


def tiny_config(folder: Path, **changes: Any) -> NeonConfig:
    """A small NeonConfig whose backbone lies in `folder`; it is written there if it is missing."""
    if not (folder / "config.json").exists():
        save_compact(tiny_backbone(), folder)
    small = {"mlp_hidden": 24, "proprioception_hidden": 32, "goal_width": 16, **changes}
    return NeonConfig(backbone=BackboneConfig(weights=str(folder)), **small)


def tiny_model(folder: Path, seed: int = 1, **changes: Any) -> NeonVLA:
    """A random NeonVLA on the tiny backbone, in eval mode."""
    config = tiny_config(folder, **changes)
    torch.manual_seed(seed)
    return NeonVLA(config).eval()


def tiny_features(batch: int, seed: int = 0) -> BackboneFeatures:
    """Random features in the shape that the tiny backbone gives."""
    generator = torch.Generator().manual_seed(seed)
    tokens, pooled, text = (torch.randn(batch, *shape, generator=generator) for shape in ((64, 40), (40,), (40,)))
    return BackboneFeatures(tokens, pooled, text)


def tiny_senses(batch: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """All four senses, random."""
    generator = torch.Generator().manual_seed(seed)
    widths = {"proprio": 125, "eef": 14, "lidar": 96 * 3, "audio": 5120}
    return {name: 0.3 * torch.randn(batch, width, generator=generator) for name, width in widths.items()}


def tiny_demos(episodes: int = 20, chunks: int = 3, seed: int = 0) -> Demos:
    """Made-up demonstrations that can be learned: the goal is in the pooled vector, the chunk follows from the goal."""
    count = episodes * chunks
    features, senses = tiny_features(count, seed), tiny_senses(count, seed)
    hand = (features.pooled[:, 0] > 0).long()
    target = 0.3 + 0.05 * features.pooled[:, 1:4]
    expert = torch.zeros(count, 16, 17)
    expert[..., :3] = torch.linspace(0, 1, 16)[:, None] * (4.0 * (target - 0.3))[:, None]
    arrays = {"tokens": features.tokens, "pooled": features.pooled, "text": features.text, **senses}
    arrays |= {"hand": hand, "target_pos_b": target, "expert": expert, "executed": expert.clone()}
    return Demos(arrays | {"episode": torch.arange(episodes).repeat_interleave(chunks)})


def open_reach(**changes: Any) -> Any:
    """The reach task with proprioception and camera, unwrapped."""
    return gymnasium.make("NeonG1-v0", disable_env_checker=True, **{**REACH, **changes}).unwrapped


def noise_frames(batch: int, length: int, side: int, seed: int = 0) -> np.ndarray:
    """Pictures (batch, length, side, side, 3) uint8 of noise."""
    return np.random.default_rng(seed).integers(0, 256, (batch, length, side, side, 3), dtype=np.uint8)

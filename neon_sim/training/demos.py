"""Expert episodes as training pairs: what was perceived at each chunk, and what the expert would do from there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.video_backbone import BackboneFeatures

CHUNK = 16


@dataclass(frozen=True)
class DemoConfig:
    """How demonstrations are disturbed, so that the heads also see states that a perfect expert never visits."""

    noisy_share: float = 0.5  # chunks carried out with an offset
    noise_rad: float = 0.12  # std of that offset per arm joint
    max_chunks: int = 7


def record_demo(
    env: gymnasium.Env, policy: NeonPolicy, config: DemoConfig, seed: int
) -> tuple[list[dict[str, np.ndarray]], bool]:
    """One expert episode: a dict of arrays per chunk, and whether the ball was reached.

    `policy` is used for its eyes only. Keys: tokens, pooled, text, the senses that the env has, hand (0 left, 1 right),
    target_pos_b (3,) m, expert (16, A) what the expert would do, executed (16, A) what was done, episode (the seed).
    """
    base: Any = env.unwrapped
    rng = np.random.default_rng(seed)
    policy.reset()
    obs, info = env.reset(seed=seed)
    policy.observe(obs, info["time_s"])
    rows: list[dict[str, np.ndarray]] = []
    for _ in range(config.max_chunks):
        features, senses = policy.perceive()
        truth = base.privileged()
        expert = base.expert_chunk(CHUNK).astype(np.float32)
        executed = _disturbed(expert, base, config, rng)
        row: dict[str, Any] = {
            name: value[0].numpy().astype(np.float16) for name, value in senses.items() if name in ("lidar", "audio")
        }
        row |= {name: value[0].numpy() for name, value in senses.items() if name in ("proprio", "eef")}
        row |= {name: getattr(features, name)[0].numpy().astype(np.float16) for name in ("tokens", "pooled", "text")}
        row |= {"hand": np.int64(truth["hand"]), "target_pos_b": truth["target_pos_b"].astype(np.float32)}
        row |= {"expert": expert, "executed": executed, "episode": np.int64(seed)}
        rows.append(row)
        for action in executed:
            obs, _, terminated, truncated, info = env.step(action)
            policy.observe(obs, info["time_s"])
        if terminated or truncated:
            break
    return rows, bool(info["success"])


def _disturbed(expert: np.ndarray, base: Any, config: DemoConfig, rng: np.random.Generator) -> np.ndarray:
    """The expert's chunk, half of the time with a smooth offset on the arms that grows over the chunk."""
    if rng.random() >= config.noisy_share:
        return expert
    arms = base.action_map.groups["arms"]
    span = (base.action_map.upper - base.action_map.lower)[arms] / 2.0
    offset = rng.normal(0.0, config.noise_rad, len(span)) / span
    noisy = expert.copy()
    noisy[:, arms] += np.linspace(0.2, 1.0, len(expert))[:, None] * offset
    return np.clip(noisy, -1.0, 1.0)


class Demos:
    """All demonstrations in memory as tensors (N, ...), in the order they were recorded."""

    def __init__(self, arrays: dict[str, Tensor]) -> None:
        self.arrays = arrays

    @classmethod
    def load(cls, paths: list[Path]) -> "Demos":
        """Read shards that `save_rows` wrote."""
        parts = [dict(np.load(path)) for path in paths]
        return cls({key: torch.from_numpy(np.concatenate([part[key] for part in parts])) for key in parts[0]})

    def __len__(self) -> int:
        return len(self.arrays["hand"])

    def features(self, rows: Tensor) -> BackboneFeatures:
        """Backbone features of the given rows, float32."""
        return BackboneFeatures(*(self.arrays[name][rows].float() for name in ("tokens", "pooled", "text")))

    def senses(self, rows: Tensor, names: tuple[str, ...] = ("proprio", "eef", "lidar", "audio")) -> dict[str, Tensor]:
        """Senses of the given rows, float32; names that were not recorded are left out."""
        return {name: self.arrays[name][rows].float() for name in names if name in self.arrays}

    def consecutive(self) -> Tensor:
        """Rows (M,) whose next row is the same episode's next chunk."""
        episode = self.arrays["episode"]
        return torch.nonzero(episode[1:] == episode[:-1])[:, 0]

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        """Rows for training and for validation, by episode: the last `share` of the episodes is held back."""
        episodes = self.arrays["episode"].unique(sorted=True)
        border = episodes[int(len(episodes) * (1.0 - share)) - 1]
        last = self.arrays["episode"] > border
        return torch.nonzero(~last)[:, 0], torch.nonzero(last)[:, 0]


def save_rows(rows: list[dict[str, np.ndarray]], path: Path) -> None:
    """Write one shard; it appears under its name only when it is whole."""
    partial = path.with_suffix(".partial.npz")
    arrays: dict[str, Any] = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    np.savez(partial, **arrays)
    partial.replace(path)

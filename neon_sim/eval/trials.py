"""Small trials of action heads on reach: one demonstration set, heads of any kind trained on it, judged in closed loop.

What is on trial is the head. So the eyes and the goal reader are the shipped ones and stay as they are: every head is
trained with the true goal token and judged with the one that the reader sees, and no trial pays for tokens.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.action_heads import masked_mse
from neon_sim.model.goal import make_goal
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.training.demos import DemoConfig, Demos, record_demo, save_rows
from neon_sim.training.heads import BODY_SENSES, set_input_statistics
from neon_sim.training.workers import parallel_map

FIRST_DEMO_SEED = 3_500_000  # the shipped reader was trained on seeds from 3,000,000 on, and judged from 10,000,000 on
SHARD = 20  # episodes in one file
HELD_BACK = 0.1  # share of the episodes that no trial is trained on
_KEPT = ("pooled", *BODY_SENSES, "hand", "target_pos_b", "expert", "executed", "episode")


@dataclass(frozen=True)
class TrialTraining:
    """How long and how a head is trained. Betas, decay and clipping are the paper's (table 3)."""

    updates: int = 700
    batch_size: int = 64
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.85, 0.99)
    weight_decay: float = 0.01
    max_grad_norm: float = 0.3
    warmup: float = 0.1  # share of the updates
    seed: int = 0


@dataclass(frozen=True)
class DemoShard:
    """Consecutive seeds that belong into one file."""

    path: str
    first_seed: int
    count: int
    env: Mapping[str, Any]


def record_shard(shard: DemoShard) -> int:
    """Record what is missing of a shard (all of it, or nothing); returns how many episodes were new."""
    if Path(shard.path).exists():
        return 0
    torch.set_num_threads(1)
    env = gymnasium.make("NeonG1-v0", disable_env_checker=True, **shard.env)
    eyes = NeonPolicy(NeonVLA(NeonConfig(use_lidar=False, use_audio=False)))
    rows: list[dict[str, np.ndarray]] = []
    for seed in range(shard.first_seed, shard.first_seed + shard.count):
        episode, _ = record_demo(env, eyes, DemoConfig(), seed)
        rows += [{name: row[name] for name in _KEPT} for row in episode]
    env.close()
    save_rows(rows, Path(shard.path))
    return shard.count


def record_demos(folder: Path, episodes: int, env: Mapping[str, Any], workers: int) -> list[Path]:
    """Disturbed expert episodes of reach, recorded once into `folder`; files for `Demos.load`, without the tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = [
        DemoShard(str(folder / f"demos_{i:05d}.npz"), FIRST_DEMO_SEED + i, min(SHARD, episodes - i), env)
        for i in range(0, episodes, SHARD)
    ]
    list(parallel_map(record_shard, shards, workers, "recording demonstrations"))
    return [Path(shard.path) for shard in shards]


def trial_model(shipped: NeonVLA, config: NeonConfig, seed: int) -> NeonVLA:
    """A fresh action layer behind the shipped eyes, with the shipped goal reader in it, frozen."""
    torch.manual_seed(seed)
    model = NeonVLA(config, shipped.backbone)
    model.goal_reader.load_state_dict(shipped.goal_reader.state_dict())
    model.goal_reader.requires_grad_(False)
    return model


def train_trial(
    model: NeonVLA, demos: Demos, config: TrialTraining, bar: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Train everything but the goal reader; leaves the model in eval mode.

    bar: keywords of tqdm, such as desc and position, for a bar over the updates; None shows none.

    Returns train_loss (mean of the last tenth of the updates; each kind of head has its own) and held_back_mse of the
    chunk, true goal, on episodes that were not trained on.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    train, held_back = demos.split(HELD_BACK)
    set_input_statistics(model, demos, train)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)
    losses = []
    model.train()
    for update in tqdm(range(config.updates), disable=bar is None, **(bar or {})):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(update / config.updates, config.warmup)
        rows = train[torch.from_numpy(rng.integers(len(train), size=config.batch_size))]
        loss = _loss(model, demos, rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, config.max_grad_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
    last = losses[-max(1, len(losses) // 10) :]
    return {"train_loss": float(np.mean(last)), "held_back_mse": held_back_mse(model, demos, held_back)}


@torch.no_grad()
def held_back_mse(model: NeonVLA, demos: Demos, rows: Tensor, seed: int = 0) -> float:
    """Mean squared error, action units squared, of the chunks for `rows`; heads that sample draw one chunk each."""
    model.eval()
    features, senses, goal, expert = _inputs(demos, rows)
    chunk, _ = model(features, senses, goal, torch.Generator().manual_seed(seed))
    return float(masked_mse(chunk, expert))


def _loss(model: NeonVLA, demos: Demos, rows: Tensor) -> Tensor:
    features, senses, goal, expert = _inputs(demos, rows)
    if model.action_head.samples:
        return model.loss(features, senses, goal, expert)
    return masked_mse(model(features, senses, goal)[0], expert)


def _inputs(demos: Demos, rows: Tensor) -> tuple[BackboneFeatures, dict[str, Tensor], Tensor, Tensor]:
    """Features (their tokens left out), senses, true goal token and expert chunk of the given rows."""
    arrays = demos.arrays
    pooled = arrays["pooled"][rows].float()
    features = BackboneFeatures(pooled[:, None, :0], pooled, pooled[:, :0])
    goal = make_goal(arrays["hand"][rows], arrays["target_pos_b"][rows])
    return features, demos.senses(rows, BODY_SENSES), goal, arrays["expert"][rows]


def _rate(progress: float, warmup: float) -> float:
    """Share of the learning rate: up in a straight line, then down with a cosine."""
    return min(1.0, (progress + 1e-9) / warmup) * 0.5 * (1.0 + math.cos(math.pi * progress))

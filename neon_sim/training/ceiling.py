"""The ceiling: heads trained with labels on the healthy and the faulty robot together. No online arm gets labels."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.action_heads import masked_mse
from neon_sim.model.goal import goal_token
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.training.demos import DemoConfig, record_demo
from neon_sim.training.head_decoder import HeadDecoder

SEED = 6_000_000


def record_both(env: Any, model: NeonVLA, fault: Any, episodes: int, seed: int) -> dict[str, Tensor]:
    """Expert episodes on both robots, in turn; on the faulty one the expert knows the fault and makes up for it.

    Returns fused (N, D), goal (N, 5) and expert (N, 16, A). The env is healthy again afterwards.
    """
    policy = NeonPolicy(model)
    columns: dict[str, list[Tensor]] = {"fused": [], "goal": [], "expert": []}
    for episode in range(episodes):
        active = fault if episode % 2 else None
        env.world.apply_fault(active)
        env.task.known_fault = active
        rows, _ = record_demo(env, policy, DemoConfig(), SEED + 10_000 * seed + episode)
        for row in rows:
            senses = {name: torch.from_numpy(row[name])[None] for name in ("proprio", "eef")}
            pooled, text = (torch.from_numpy(row[name])[None].float() for name in ("pooled", "text"))
            with torch.no_grad():
                columns["fused"].append(model.fuse(pooled, senses, text))
                columns["goal"].append(_read_goal(model, row))
            columns["expert"].append(torch.from_numpy(row["expert"])[None])
    env.world.apply_fault(None)
    env.task.known_fault = None
    return {name: torch.cat(parts) for name, parts in columns.items()}


def _read_goal(model: NeonVLA, row: dict[str, np.ndarray]) -> Tensor:
    features = BackboneFeatures(*(torch.from_numpy(row[name])[None].float() for name in ("tokens", "pooled", "text")))
    return goal_token(model.goal_reader(features))


def train_jointly(model: NeonVLA, data: dict[str, Tensor], seed: int, epochs: int = 40) -> float:
    """Train goal embedding and heads (what the online arms train) on both robots' labels; returns the last loss."""
    torch.manual_seed(seed)
    decoder = HeadDecoder(model)
    optimizer = torch.optim.AdamW(decoder.parameters(), 3e-4, betas=(0.85, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    rng = np.random.default_rng(seed)
    loss = torch.zeros(())
    decoder.eval()  # no dropout: few samples, and the online arms have none
    for _ in range(epochs):
        for rows in torch.from_numpy(rng.permutation(len(data["goal"]))).split(64):
            loss = masked_mse(decoder(data["fused"][rows], data["goal"][rows]), data["expert"][rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), 0.3)
            optimizer.step()
        schedule.step()
    return float(loss.detach())

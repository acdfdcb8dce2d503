"""Supervised pretraining of the action layer on demonstrations: the frozen backbone's features are read from disk."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.model.action_heads import masked_mse
from neon_sim.model.goal import goal_loss, goal_position, goal_token, make_goal
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.demos import Demos
from neon_sim.training.precision import mixed_precision

BODY_SENSES = ("proprio", "eef")
ALL_SENSES = (*BODY_SENSES, "lidar", "audio")


@dataclass(frozen=True)
class HeadTraining:
    """Optimiser settings. Betas, decay and clipping are the paper's (table 3); the rate is for batches of 256."""

    epochs: int = 16
    batch_size: int = 256
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.85, 0.99)
    weight_decay: float = 0.01
    max_grad_norm: float = 0.3
    warmup: float = 0.1  # share of the steps
    ambient_share: float = 0.15  # batches that carry LiDAR and audio too; in the others they are missing
    action_weight: float = 20.0  # the chunk's MSE is about a thousandth of the goal's loss
    seed: int = 0


def set_input_statistics(model: NeonVLA, demos: Demos, rows: Tensor) -> None:
    """Standardise proprioception and end effectors by the demonstrations' mean and spread.

    A spread counts as at least 0.03 in its channel's own unit (rad, rad/s, N m, m), so that a channel that hardly moved
    in the demonstrations (a small tracking error) does not blow up when something breaks.
    """
    for name, encoder in (("proprio", model.proprio_encoder), ("eef", getattr(model, "eef_encoder", None))):
        if encoder is not None:
            values = demos.arrays[name][rows].float()
            encoder.set_statistics(values.mean(0), values.std(0).clamp(min=0.03))


class HeadTrainer:
    """Trains fusion, encoders, goal reader and heads of one NeonVLA."""

    def __init__(self, model: NeonVLA, demos: Demos, config: HeadTraining) -> None:
        torch.manual_seed(config.seed)
        self.model, self.demos, self.config = model, demos, config
        self.rng = np.random.default_rng(config.seed)
        self.train_rows, self.test_rows = demos.split(0.05)
        set_input_statistics(model, demos, self.train_rows)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
        )
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass over the training rows."""
        return max(1, len(self.train_rows) // self.config.batch_size)

    def run(self, on_epoch: Callable[[dict[str, float]], None] | None = None) -> list[dict[str, float]]:
        """Train the remaining epochs; `on_epoch` gets each epoch's figures."""
        total = self.config.epochs * self.steps_per_epoch
        while self.epoch < self.config.epochs:
            begun = time.perf_counter()
            self.model.train()
            order = torch.from_numpy(self.rng.permutation(len(self.train_rows)))
            losses = []
            for i in range(self.steps_per_epoch):
                self._set_rate((self.epoch * self.steps_per_epoch + i) / total)
                rows = self.train_rows[order[i * self.config.batch_size : (i + 1) * self.config.batch_size]]
                losses.append(self._update(rows))
            self.epoch += 1
            figures = {"epoch": self.epoch, "train_loss": float(np.mean(losses)), **self.evaluate()}
            figures["seconds"] = time.perf_counter() - begun
            self.history.append(figures)
            if on_epoch is not None:
                on_epoch(figures)
        self.model.eval()
        return self.history

    def _set_rate(self, progress: float) -> None:
        warm = min(1.0, (progress + 1e-9) / self.config.warmup)
        rate = self.config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _update(self, rows: Tensor) -> float:
        with mixed_precision(torch.device("cpu")):
            action_loss, reading_loss = self._losses(rows)
        loss = self.config.action_weight * action_loss + reading_loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        return float(loss.detach())

    def _losses(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The heads learn from the true goal token; the reader learns the goal by itself."""
        arrays = self.demos.arrays
        ambient = self.rng.random() < self.config.ambient_share
        senses = self.demos.senses(rows, ALL_SENSES if ambient else BODY_SENSES)
        features = self.demos.features(rows)
        hand, target = arrays["hand"][rows], arrays["target_pos_b"][rows]
        goal, expert = make_goal(hand, target), arrays["expert"][rows]
        if self.model.action_head.samples:
            action_loss = self.model.loss(features, senses, goal, expert)
        else:
            action_loss = masked_mse(self.model(features, senses, goal)[0], expert)
        return action_loss, goal_loss(self.model.goal_reader(features), hand, target)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """On held-back episodes: chunk MSE with the true and with the read goal, goal error (cm), hand accuracy."""
        self.model.eval()
        rows, arrays = self.test_rows, self.demos.arrays
        features, senses = self.demos.features(rows), self.demos.senses(rows, BODY_SENSES)
        hand, target, expert = (arrays[name][rows] for name in ("hand", "target_pos_b", "expert"))
        raw = self.model.goal_reader(features)
        told, _ = self.model(features, senses, make_goal(hand, target))
        read, _ = self.model(features, senses, goal_token(raw))
        error = (goal_position(raw) - target).norm(dim=-1) * 100.0
        return {
            "mse_true_goal": float(masked_mse(told, expert)),
            "mse_read_goal": float(masked_mse(read, expert)),
            "goal_cm_median": float(error.median()),
            "goal_under_3cm": float((error < 3.0).float().mean()),
            "hand_accuracy": float((raw[:, :2].argmax(-1) == hand).float().mean()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to be the same run."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "history": self.history,
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.history = int(state["epoch"]), list(state["history"])
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])

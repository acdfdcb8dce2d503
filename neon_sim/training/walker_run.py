"""Training the walker by PPO: collect with last iteration's policy while this iteration's learns, save, resume."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from neon_sim.locomotion.network import WalkerWeights
from neon_sim.training.ppo import PPO, ActorCritic, Batch, PPOConfig


class World(Protocol):
    """What PPO needs of the batched world: `neon_sim.walking.world.WalkWorld` is one."""

    def observe(self) -> tuple[np.ndarray, np.ndarray]:
        """Policy's and critic's observation, (B, O) and (B, C)."""

    def step(self, action: np.ndarray) -> Any:
        """Act (B, A); the outcome has reward, fell and timed_out, (B,) each."""

    def get_state(self) -> dict[str, Any]:
        """Everything that the future depends on."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back."""


class WalkerRun:
    """A training: networks, learner, world, the batch that waits to be learned from.

    Collecting and learning overlap: while iteration k learns from its batch, the batch of k + 1 is collected with the
    policy that k began with. That is one update old, which the ratio in PPO's loss accounts for, and it is
    deterministic: threads share nothing but what is finished.

    Args:
        world: the robots.
        sizes: of observation, critic's observation and action.
        config: PPO's.
        horizon: T, steps of each robot in a batch.
        seed: of weights, exploration and minibatches.
    """

    def __init__(self, world: World, sizes: tuple[int, int, int], config: PPOConfig, horizon: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.world, self.horizon = world, horizon
        self.model = ActorCritic(*sizes, config)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(_KEPT), use_buffers=True)
        self.learner = PPO(self.model, config, seed + 1)
        self.generator = torch.Generator().manual_seed(seed + 2)
        self.steps = 0  # control steps of all robots that were learned from
        self._behaviour = ActorCritic(*sizes, config)
        self._behaviour.load_state_dict(self.model.state_dict())
        self._waiting: Batch | None = None
        self._before: dict[str, Any] | None = None  # what `_waiting` follows from

    def iterate(self) -> dict[str, float]:
        """One iteration: learn from the waiting batch while the next is collected."""
        waiting = self._begin() if self._waiting is None else self._waiting
        self._behaviour.load_state_dict(self.model.state_dict())
        self._before = {"world": self.world.get_state(), "generator": self.generator.get_state()}
        with ThreadPoolExecutor(max_workers=1) as pool:
            collecting = pool.submit(self._collect)
            logged = self.learner.update(waiting)
            self._waiting = collecting.result()
        self.average.update_parameters(self.model)
        logged["reward"] = waiting.reward.mean().item()
        self.steps += waiting.reward.numel()
        return logged

    def configure(self, config: PPOConfig) -> None:
        """Learn with other settings from now on; sizes of networks stay what they are."""
        self.learner.config = self.model.config = config

    def _begin(self) -> Batch:
        """Learn what observations look like before anything else, then collect the first batch."""
        for _ in range(_WARM_UP):
            batch = self._collect()
            self.model.see.update(batch.observation.flatten(0, 1))
            self.model.know.update(batch.critic.flatten(0, 1))
            self._behaviour.load_state_dict(self.model.state_dict())
        return self._collect()

    @torch.no_grad()
    def _collect(self) -> Batch:
        model, gamma = self._behaviour, self.model.config.gamma
        columns: dict[str, list[torch.Tensor]] = {name: [] for name in Batch._fields if name not in _ONCE}
        for _ in range(self.horizon):
            observation, critic = (torch.from_numpy(part.astype(np.float32)) for part in self.world.observe())
            mean, action, log_prob = model.act(observation, self.generator)
            value = model.value(critic)
            outcome = self.world.step(action.numpy().astype(np.float64))
            timed_out = torch.from_numpy(outcome.timed_out)
            reward = torch.from_numpy(outcome.reward.astype(np.float32)) + gamma * value * timed_out
            done = timed_out | torch.from_numpy(outcome.fell)
            row = (observation, critic, action, mean, log_prob, reward, done.float(), value)
            for name, part in zip(columns, row, strict=True):
                columns[name].append(part)
        last = model.value(torch.from_numpy(self.world.observe()[1].astype(np.float32)))
        stacked = {name: torch.stack(parts) for name, parts in columns.items()}
        return Batch(**stacked, log_std=model.log_std.detach().clone(), last_value=last)

    def save(self, path: Path) -> None:
        """Write everything that `load` needs, atomically. The waiting batch is not in it: it is collected again."""
        partial = path.with_name(path.name + ".partial")
        state = {
            "learner": self.learner.get_state(),
            "average": self.average.state_dict(),
            "behaviour": self._behaviour.state_dict(),
            "before": self._before,
            "steps": self.steps,
            "config": asdict(self.model.config),
        }
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Go on exactly where `save` was called."""
        state = torch.load(path, weights_only=False)
        self.learner.set_state(state["learner"])
        self.average.load_state_dict(state["average"])
        self._behaviour.load_state_dict(state["behaviour"])
        self.steps, self._before = state["steps"], state["before"]
        if self._before is not None:
            self.world.set_state(self._before["world"])
            self.generator.set_state(self._before["generator"])
            self._waiting = self._collect()

    def export(self, gains: np.ndarray, note: str) -> WalkerWeights:
        """The average of the last hundred or so actors for numpy: it is steadier than any of them."""
        return walker_weights(cast(ActorCritic, self.average.module), gains, note)


_WARM_UP = 4  # batches
_KEPT = 0.99  # of the average in each iteration
_ONCE = ("log_std", "last_value")


def walker_weights(model: ActorCritic, gains: np.ndarray, note: str) -> WalkerWeights:
    """The actor as the robot runs it: float32 layers and its frozen input scaling."""
    layers = tuple(
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in model.actor
        if isinstance(layer, torch.nn.Linear)
    )
    scale = torch.rsqrt(model.see.var + 1e-4)
    unknown = np.tile([-1.0, 1.0], (3, 1))  # nobody has measured what it reaches
    return WalkerWeights(gains, model.see.mean.numpy().copy(), scale.numpy().copy(), layers, note, unknown, unknown)

"""A residual on the walker that learns online, without labels, to make up for what is wrong with the legs.

Every chunk the policy adds a residual to the walker's targets; every episode becomes experience: what was known, what
was added, what was sensed in the second after. The forward model learns to foresee the last from the first two, and the
policy learns, through it, to bring about what the healthy robot would do. Of the losses of `NeonSelfLearner` two have a
counterpart here: the outcome foreseen (its wanted change is measured, not read from words), and consistency. There is
no hindsight: a residual has no goal that it could have achieved instead.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neon_sim.locomotion.residual import Window
from neon_sim.training.ewc import EWC
from neon_sim.training.fisher import Batch, Fisher, fisher_diagonal, gaussian_nll, sampled_target
from neon_sim.training.protection import NoneConfig, ProtectionConfig, finite_rows, make_protection
from neon_sim.training.residual_model import MEMORY, Healthy, ResidualForward, ResidualNet, features_of
from neon_sim.training.residual_policy import ResidualPolicy

SETTLED: Final = 3  # chunks at an episode's beginning that nothing is learned from: it has yet to set off
RESIDUAL_STD: Final = 0.01  # rad, of the Gaussian that a residual is the mean of, for the Fisher
Item = dict[str, Tensor]  # features (24,), executed (15,) rad, outcome (6,), weight ()


@dataclass(frozen=True)
class ResidualLearnerConfig:
    """Weights of the losses, and of what is tried; the constants are ours."""

    learning_rate: float = 1e-3
    updates_per_chunk: int = 4
    batch_size: int = 32
    buffer_size: int = 4000  # chunks
    asked_weight: float = 1.0
    consistency_weight: float = 0.1
    size_weight: float = 0.5  # a residual must be worth its size, in mean squares of the limit
    rehearsal_weight: float = 10.0
    hold: float = 3.0  # rows of experience that the healthy body counts as, in the forward model
    hold_residual: float = 10.0  # of what a residual does: little enough is tried in a life
    protection: ProtectionConfig = NoneConfig()
    fisher_samples: int = 512
    practice_rad: float = 0.03  # std of what is tried beside the policy's residual, for each joint, `TRIED` chunks long
    max_grad_norm: float = 1.0
    seed: int = 0


def moments_of(windows: Sequence[Window]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What an episode can teach: features (24,) at each chunk after the first ones, and the means of the `MEMORY`
    windows that followed it: residual (15,) rad and outcome (6,).
    """
    found = []
    for i in range(SETTLED, len(windows) - MEMORY):
        after = windows[i + 1 : i + 1 + MEMORY]
        executed, outcome = (
            np.mean(part, axis=0) for part in zip(*((w.residual, w.outcome) for w in after), strict=True)
        )
        found.append((features_of(windows[: i + 1]), executed, outcome))
    return found


def healthy_of(episodes: Iterable[Sequence[Window]]) -> Healthy:
    """What the healthy robot does, from its episodes without a residual.

    Raises:
        ValueError: they are all too short to say.
    """
    moments = [moment for windows in episodes for moment in moments_of(windows)]
    if not moments:
        raise ValueError(f"A healthy episode must last more than {SETTLED + MEMORY} chunks. Let it walk for longer.")
    features, _, outcomes = (np.array(part) for part in zip(*moments, strict=True))
    return Healthy.measured(features, outcomes)


def experience_of(windows: Sequence[Window], healthy: Healthy, weight: float = 0.0) -> list[Item]:
    """An episode as items, in the healthy robot's standard deviations."""
    return [
        {
            "features": healthy.normalised(features),
            "executed": torch.from_numpy(executed).float(),
            "outcome": healthy.missed(features[:3], outcome),
            "weight": torch.tensor(weight),
        }
        for features, executed, outcome in moments_of(windows)
    ]


def stack_items(items: Sequence[Item]) -> dict[str, Tensor]:
    """Field by field, (N, ...); at least one."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


class ResidualLearner:
    """Learns while it walks; to the forgetting benchmark it is what a `NeonSelfLearner` is.

    Args:
        net: the policy's network, the only thing that is protected.
        forward_model: fitted to the healthy robot; it is fitted anew to each regime.
        healthy: what the healthy robot does.
        config: see `ResidualLearnerConfig`.

    Attributes:
        reward: of the episode that is about to end, kept as its items' weight; nothing here learns from it.
    """

    def __init__(
        self, net: ResidualNet, forward_model: ResidualForward, healthy: Healthy, config: ResidualLearnerConfig
    ) -> None:
        self.model, self.forward_model, self.healthy, self.config = net, forward_model, healthy, config
        self.policy = ResidualPolicy(net, healthy, config.practice_rad)
        self.rng = np.random.default_rng(config.seed)
        self.params = dict(net.named_parameters())
        rate = config.learning_rate
        self.optimizer = torch.optim.Adam(self.params.values(), lr=rate, betas=(0.85, 0.99), fused=True)
        self.strategy = make_protection(config.protection, self.params, np.random.default_rng([config.seed, 1]))
        self.buffer: deque[Item] = deque(maxlen=config.buffer_size)
        self.last_losses: dict[str, float] = {}
        self.reward = 0.0

    @property
    def protection(self) -> EWC | None:
        """The springs in force; None while there are none."""
        return self.strategy.springs

    def protect(self, features: Tensor) -> None:
        """End a regime: protect what the present weights answer to features (N, 24)."""
        self.strategy.end_regime(lambda: self._fisher(features))

    def known(self) -> tuple[Tensor]:
        """Features (N, 24) of all experience so far, to be protected.

        Raises:
            ValueError: there is no experience yet.
        """
        if not self.buffer:
            raise ValueError("There is no experience to protect yet: let it walk an episode first.")
        return (stack_items(list(self.buffer))["features"],)

    def end_regime(self) -> None:
        """Protect what is known, and begin a new buffer: rehearsing what was before would be a protection, too."""
        self.protect(*self.known())
        self.buffer.clear()

    def before_chunk(self) -> None:
        """Call when a chunk is about to be asked for."""
        if self.policy.windows:
            self.learn()

    def learn(self) -> None:
        """Take a chunk's learning steps."""
        for _ in range(self.config.updates_per_chunk):
            self.last_losses = self.update() or self.last_losses

    def end_episode(self) -> None:
        """Turn the episode into experience and fit the forward model to all of it; what is not finite goes nowhere."""
        self.policy.end()
        items = experience_of(self.policy.windows, self.healthy, self.reward)
        self.policy.windows = []
        if items:
            good = finite_rows(stack_items(items)).tolist()
            items = [item for item, usable in zip(items, good, strict=True) if usable]
        self.buffer.extend(items)
        if not items:
            return
        self.strategy.remember(stack_items(items))
        if self.config.learning_rate > 0.0 and self.config.updates_per_chunk > 0:
            self.forward_model.fit(stack_items(list(self.buffer)), self.config.hold, self.config.hold_residual)

    def update(self) -> dict[str, float]:
        """One step on a batch of experience; returns the losses (empty while there is none).

        A batch whose gradient is not finite is passed over.
        """
        most = self.config.batch_size
        if len(self.buffer) < most:
            return {}
        size = self.strategy.new_rows(most)
        batch = stack_items([self.buffer[int(i)] for i in self.rng.integers(len(self.buffer), size=size)])
        losses = self.losses(batch)
        rehearsed = self.strategy.sample(size, most - size)
        if rehearsed is not None:
            losses["rehearsal"] = self.config.rehearsal_weight * self._off(rehearsed)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward(inputs=list(self.params.values()))
        norm = nn.utils.clip_grad_norm_(self.params.values(), self.config.max_grad_norm)
        if not torch.isfinite(norm):
            return {}
        self.optimizer.step()
        self.strategy.pull_(self.config.learning_rate)
        return {name: float(value.detach()) for name, value in losses.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted losses of a batch, each with a path to the policy.

        asked: mean square of what the forward model says will be missed, in healthy standard deviations. consistency:
        smooth L1 to the residual that was carried out. size: mean square of the residual. The last two in limits. What
        is rehearsed from another body says nothing of this one: the policy is only to answer as it did then.
        """
        config, limit = self.config, self.model.limit
        residual = self.model(batch["features"])
        missed = self.forward_model(batch["features"], residual)
        return {
            "asked": config.asked_weight * missed.square().mean(),
            "consistency": config.consistency_weight
            * F.smooth_l1_loss(residual / limit, batch["executed"] / limit, beta=0.1),
            "size": config.size_weight * (residual / limit).square().mean(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimisers, protection, buffer, rng: a resumed learner goes on to the bit."""
        return {
            "net": self.model.state_dict(),
            "forward_model": self.forward_model.weights,
            "optimizer": self.optimizer.state_dict(),
            "protection": self.strategy.get_state(),
            "buffer": stack_items(list(self.buffer)) if self.buffer else None,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.model.load_state_dict(state["net"])
        self.forward_model.weights = state["forward_model"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.strategy.set_state(state["protection"])
        self.buffer.clear()
        saved = state["buffer"]
        count = 0 if saved is None else len(saved["weight"])
        self.buffer.extend({name: value[i] for name, value in saved.items()} for i in range(count))
        self.rng.bit_generator.state = state["rng"]

    def _off(self, batch: Batch) -> Tensor:
        """Mean square, in limits, of how far the policy is from what was carried out, for what was known then."""
        return ((self.model(batch["features"]) - batch["executed"]) / self.model.limit).square().mean()

    def _fisher(self, features: Tensor) -> Fisher:
        """Exact diagonal Fisher of the policy as a Gaussian, on at most `fisher_samples` rows; no label is needed."""
        generator = torch.Generator().manual_seed(self.config.seed)
        rows = torch.randperm(len(features), generator=generator)[: self.config.fisher_samples]
        batch = {"features": features[rows]}
        with torch.no_grad():
            batch["target"] = sampled_target(self.model(batch["features"]), RESIDUAL_STD, generator)

        def sample_loss(module: nn.Module, part: Batch) -> Tensor:
            return gaussian_nll(module(part["features"]), part["target"], RESIDUAL_STD)

        return fisher_diagonal(self.model, sample_loss, batch)

"""PPO (Schulman et al. 2017) for many robots on a CPU: an actor, a critic that knows more, and one update.

What differs from the textbook: the step size follows the KL divergence (as in rsl_rl), the critic reads the truth
(asymmetric actor-critic, Pinto et al. 2018), inputs are normalised by running statistics that are frozen into the actor
when it is shipped.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PPOConfig:
    """Hyper-parameters."""

    hidden: tuple[int, ...] = (256, 128)
    critic_hidden: tuple[int, ...] = (256, 128)
    gamma: float = 0.99
    lam: float = 0.95
    clip: float = 0.2
    epochs: int = 4
    minibatches: int = 4
    learning_rate: float = 3e-4
    learning_rate_range: tuple[float, float] = (2e-5, 1e-3)
    target_kl: float = 0.03  # from the policy that collected, which is one update old
    entropy: float = 0.001
    initial_std: float = 0.28
    std_range: tuple[float, float] = (0.12, 0.5)
    max_grad_norm: float = 1.0
    value_scale: float = 10.0  # the critic's output is in units of this


def mlp(sizes: tuple[int, ...], last_gain: float) -> nn.Sequential:
    """Linear layers with ELU between, orthogonal weights."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        last = index == len(sizes) - 2
        linear = nn.Linear(fan_in, fan_out)
        nn.init.orthogonal_(linear.weight, last_gain if last else 2**0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.ELU()]
    return nn.Sequential(*layers)


class Normalizer(nn.Module):
    """Running mean and standard deviation of each column, and inputs in units of them, at most 8."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))
        self.mean: Tensor
        self.var: Tensor
        self.count: Tensor

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take rows (N, size) into account; the past fades once it is long."""
        rows = rows.double()
        count, mean, var = len(rows), rows.mean(dim=0), rows.var(dim=0, correction=0)
        total = self.count + count
        delta = mean - self.mean
        self.var = (self.var * self.count + var * count + delta**2 * self.count * count / total) / total
        self.mean = self.mean + delta * count / total
        self.count = total.clamp(max=5e6)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, size) -> (N, size)."""
        scale = torch.rsqrt(self.var + 1e-4)
        return ((rows - self.mean.float()) * scale.float()).clamp(-8.0, 8.0)


class ActorCritic(nn.Module):
    """Mean action from what is sensed, value from that and the truth; one standard deviation per action entry."""

    def __init__(self, observation_size: int, critic_size: int, action_size: int, config: PPOConfig) -> None:
        super().__init__()
        self.config = config
        self.see, self.know = Normalizer(observation_size), Normalizer(critic_size)
        self.actor = mlp((observation_size, *config.hidden, action_size), 0.01)
        self.critic = mlp((critic_size, *config.critic_hidden, 1), 1.0)
        self.log_std = nn.Parameter(torch.full((action_size,), float(np.log(config.initial_std))))

    def act(self, observation: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, action and its log-probability; the mean itself without a generator."""
        mean = self.actor(self.see(observation))
        if generator is None:
            return mean, mean, torch.zeros(len(mean))
        noise = torch.randn(mean.shape, generator=generator)
        return mean, mean + self.log_std.exp() * noise, -(0.5 * noise**2 + self.log_std).sum(dim=1)

    def value(self, critic_observation: Tensor) -> Tensor:
        """(N,) discounted reward to come."""
        return self.critic(self.know(critic_observation)).squeeze(1) * self.config.value_scale

    def limit_std(self) -> None:
        """Keep exploration within its range."""
        low, high = self.config.std_range
        with torch.no_grad():
            self.log_std.clamp_(float(np.log(low)), float(np.log(high)))


class Batch(NamedTuple):
    """T steps of B robots."""

    observation: Tensor  # (T, B, O)
    critic: Tensor  # (T, B, C)
    action: Tensor  # (T, B, A)
    mean: Tensor  # (T, B, A)
    log_std: Tensor  # (A,)
    log_prob: Tensor  # (T, B)
    reward: Tensor  # (T, B), the value to come added where time ran out
    done: Tensor  # (T, B) 1 where an episode ended
    value: Tensor  # (T, B)
    last_value: Tensor  # (B,) of what follows the last step


def advantages(batch: Batch, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantages (T, B) and returns (T, B) (Schulman et al. 2016, eq. 16)."""
    advantage, running = torch.zeros_like(batch.reward), torch.zeros_like(batch.last_value)
    next_value = batch.last_value
    for t in reversed(range(len(batch.reward))):
        goes_on = 1.0 - batch.done[t]
        delta = batch.reward[t] + gamma * next_value * goes_on - batch.value[t]
        running = delta + gamma * lam * goes_on * running
        advantage[t], next_value = running, batch.value[t]
    return advantage, advantage + batch.value


class PPO:
    """The learner: networks, optimiser, step size.

    Args:
        model: to be trained in place.
        config: hyper-parameters.
        seed: of the minibatches' order.
    """

    def __init__(self, model: ActorCritic, config: PPOConfig, seed: int) -> None:
        self.model, self.config = model, config
        self.learning_rate = config.learning_rate
        self.optimizer = torch.optim.Adam(model.parameters(), lr=self.learning_rate, eps=1e-5, foreach=True)
        self.generator = torch.Generator().manual_seed(seed)

    def update(self, batch: Batch) -> dict[str, float]:
        """Learn from one batch; returns what happened in the last epoch."""
        config, model = self.config, self.model
        advantage, returns = advantages(batch, config.gamma, config.lam)
        rows = [part.flatten(0, 1) for part in (batch.observation, batch.critic, batch.action, batch.mean)]
        seen = [model.see(rows[0]), model.know(rows[1]), *rows[2:]]  # the scaling stays as it is during an update
        flat = [part.flatten() for part in (batch.log_prob, advantage, returns, batch.value)]
        flat[1] = (flat[1] - flat[1].mean()) / (flat[1].std() + 1e-8)
        count = len(flat[0])
        logged: dict[str, float] = {}
        for _ in range(config.epochs):
            order = torch.randperm(count, generator=self.generator)
            found = [
                self._minibatch([part[chosen] for part in (*seen, *flat)], batch.log_std)
                for chosen in order.chunk(config.minibatches)
            ]
            logged = {name: sum(figures[name] for figures in found) / len(found) for name in found[0]}
        self._follow_kl(logged["kl"])
        model.see.update(rows[0])
        model.know.update(rows[1])
        spread = 1.0 - ((flat[2] - flat[3]).var() / (flat[2].var() + 1e-8)).item()
        return logged | {
            "learning_rate": self.learning_rate,
            "explained": spread,
            "std": model.log_std.exp().mean().item(),
        }

    def _minibatch(self, parts: list[Tensor], old_log_std: Tensor) -> dict[str, float]:
        observation, critic, action, old_mean, old_log_prob, advantage, returns, _ = parts
        config, model = self.config, self.model
        mean = model.actor(observation)
        std = model.log_std.exp()
        log_prob = -(0.5 * ((action - mean) / std) ** 2 + model.log_std).sum(dim=1)
        ratio = (log_prob - old_log_prob).exp()
        limited = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        policy_loss = -torch.min(ratio * advantage, limited * advantage).mean()
        value = model.critic(critic).squeeze(1) * config.value_scale
        value_loss = nn.functional.huber_loss(value, returns, delta=config.value_scale) / config.value_scale**2
        loss = policy_loss + value_loss - config.entropy * model.log_std.sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for part in (model.actor, model.critic):
            nn.utils.clip_grad_norm_(part.parameters(), config.max_grad_norm, foreach=True)
        with torch.no_grad():
            old_var, shift = (2.0 * old_log_std).exp(), mean - old_mean
            kl = (model.log_std - old_log_std + (old_var + shift**2) / (2.0 * std**2) - 0.5).sum(dim=1).mean().item()
        self.optimizer.step()
        model.limit_std()
        clipped = (ratio - limited).abs().gt(0).float().mean().item()
        return {"kl": kl, "value_loss": value_loss.item(), "clipped": clipped}

    def _follow_kl(self, kl: float) -> None:
        low, high = self.config.learning_rate_range
        if kl > 1.5 * self.config.target_kl:
            self.learning_rate = max(low, self.learning_rate / 1.2)
        elif kl < self.config.target_kl / 1.5:
            self.learning_rate = min(high, self.learning_rate * 1.2)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate

    def get_state(self) -> dict[str, Any]:
        """Everything that the next update depends on, in copies, fit for `torch.save`."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "learning_rate": self.learning_rate,
            "generator": self.generator.get_state(),
        }
        return copy.deepcopy(state)  # torch's own dicts are views of what goes on learning

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `get_state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.learning_rate = state["learning_rate"]
        self.generator.set_state(state["generator"])

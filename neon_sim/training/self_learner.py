"""NeonSelfLearner: the heads learn online from what the robot does, without labels, and keep what they know.

Every chunk: features before, a forward model's guess of the features after, 16 steps, features after, losses, an
update of the heads only. Hindsight (D18): the chunk that was carried out is the right answer for the goal token that
it achieved, so that token is put in place of the one that was asked for, and nothing is rendered again.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.inference.neon_policy import Decision, NeonPolicy
from neon_sim.model.goal import HANDS, make_goal
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.ewc import EWC, fisher_diagonal, gaussian_nll, sampled_target
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.losses import coherence_loss, consistency_loss, hindsight_loss, outcome_loss

ASKED_SHARE = 4  # coherence and consistency look at a quarter of a batch: they only hold the heads in place
PALM_SLICES = (slice(0, 3), slice(7, 10))  # left and right palm position in the eef observation


@dataclass(frozen=True)
class SelfLearnerConfig:
    """Weights of the losses and of the protection; the documents give the cycle, the constants are ours."""

    learning_rate: float = 3e-4
    updates_per_chunk: int = 2
    batch_size: int = 64
    buffer_size: int = 4000  # chunks
    hindsight_weight: float = 20.0  # as in pretraining: a chunk's MSE is small
    outcome_weight: float = 0.002
    coherence_weight: float = 0.0001
    consistency_weight: float = 0.02
    ewc_strength: float = 0.0  # 0 = no protection
    fisher_samples: int = 512
    practice_noise_m: float = 0.0  # spread of the goals practised around the one that was read
    settled_m: float = 0.02  # a palm that moves less than this over a chunk has arrived
    max_grad_norm: float = 0.3
    seed: int = 0


@dataclass
class Experience:
    """One chunk that was carried out. Tensors without a batch axis."""

    fused: Tensor  # (D,) before
    fused_after: Tensor  # (D,)
    text: Tensor  # (D,)
    goal: Tensor  # (5,) asked for
    executed: Tensor  # (T, A)
    achieved: Tensor  # (5,) goal token that the episode ended at
    weight: float  # 0 where the episode ended nowhere


class HeadDecoder(nn.Module):
    """The part that learns online: goal embedding and action heads, on frozen fused features."""

    def __init__(self, model: NeonVLA) -> None:
        super().__init__()
        self.goal_embed, self.action_head = model.goal_embed, model.action_head

    def forward(self, fused: Tensor, goal: Tensor) -> Tensor:
        """What `NeonVLA.decode` does, on a module of its own: (B, D), (B, 5) -> chunk (B, T, A)."""
        return self.action_head(torch.cat([fused, self.goal_embed(goal)], dim=-1))


class PractisingPolicy(NeonPolicy):
    """A NeonPolicy that, while it learns, moves each episode's goals by one random offset (goal babbling)."""

    def __init__(self, model: NeonVLA, noise_m: float, rng: np.random.Generator) -> None:
        super().__init__(model)
        self.noise_m, self.rng = noise_m, rng
        self.offset = torch.zeros(1, 5)

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the clip and draw a new offset."""
        super().reset(env_ids)
        offset = self.rng.normal(0.0, self.noise_m, 3) if self.noise_m > 0 else np.zeros(3)
        self.offset = make_goal(torch.zeros(1, dtype=torch.int64), torch.from_numpy(offset)[None].float())
        self.offset[:, :HANDS] = 0.0

    def choose_goal(self, goal: Tensor) -> Tensor:
        """The read goal plus this episode's offset."""
        return goal + self.offset


class NeonSelfLearner:
    """Learns while it acts.

    Args:
        model: the policy's network; only `goal_embed` and `action_head` are changed.
        forward_model: f_pred and P, trained on what happened before.
        config: see `SelfLearnerConfig`.
    """

    def __init__(self, model: NeonVLA, forward_model: ForwardModel, config: SelfLearnerConfig | None = None) -> None:
        self.config = config = config or SelfLearnerConfig()
        self.model, self.forward_model = model.eval(), forward_model
        self.decoder = HeadDecoder(model).eval()
        self.rng = np.random.default_rng(config.seed)
        self.policy = PractisingPolicy(model, config.practice_noise_m, self.rng)
        self.params = dict(self.decoder.named_parameters())
        self.optimizer = torch.optim.Adam(self.params.values(), lr=config.learning_rate, betas=(0.85, 0.99))
        self.forward_optimizer = torch.optim.Adam(
            forward_model.net.parameters(), lr=min(1e-3, 3 * config.learning_rate)
        )
        self.protection: EWC | None = None
        self.buffer: deque[Experience] = deque(maxlen=config.buffer_size)
        self.last_losses: dict[str, float] = {}
        self._episode: list[tuple[Decision, Tensor, Tensor]] = []  # decision, fused before, palms before

    def protect(self, fused: Tensor, goals: Tensor) -> None:
        """Anchor the present weights with the exact Fisher of the heads on known data: fused (N, D), goals (N, 5).

        Targets are drawn from the policy's own Gaussian, so the Fisher is the true one and no label is needed.
        """
        if self.config.ewc_strength == 0.0:
            return
        generator = torch.Generator().manual_seed(self.config.seed)
        rows = torch.randperm(len(fused), generator=generator)[: self.config.fisher_samples]
        batch = {"fused": fused[rows], "goal": goals[rows]}
        with torch.no_grad():
            batch["target"] = sampled_target(self.decoder(batch["fused"], batch["goal"]), 0.01, generator)

        def sample_loss(module: nn.Module, part: Any) -> Tensor:
            return gaussian_nll(module(part["fused"], part["goal"]), part["target"], 0.01)

        fisher = fisher_diagonal(self.decoder, sample_loss, batch)
        anchor = {name: value.detach().clone() for name, value in self.params.items()}
        self.protection = EWC(self.params, anchor, fisher, self.config.ewc_strength)

    def known(self) -> tuple[Tensor, Tensor]:
        """Fused features (N, D) and goals (N, 5) of all experience so far, to be protected.

        Raises:
            ValueError: there is no experience yet.
        """
        if not self.buffer:
            raise ValueError("There is no experience to protect yet: EWC wants at least one healthy episode first.")
        batch = _stack(list(self.buffer))
        return batch["fused"], batch["goal"]

    def before_chunk(self) -> None:
        """Call when a chunk is about to be asked for: closes the chunk before it and takes learning steps."""
        if self.policy.decision is not None:
            self._close_chunk(self.policy.decision)
            for _ in range(self.config.updates_per_chunk):
                self.last_losses = self.update() or self.last_losses

    def end_episode(self) -> None:
        """Close the last chunk, look back at what the episode achieved, and keep it as experience."""
        if self.policy.decision is not None:
            self._close_chunk(self.policy.decision)
        if not self._episode:
            return
        fused, palms = self._perceive()
        self._remember(fused, palms)
        self._episode = []
        self.policy.decision = None

    def update(self) -> dict[str, float]:
        """One step on a batch of experience; returns the losses (empty while there is none).

        A batch whose gradient is not finite is passed over: one NaN in the weights would be the end of the policy.
        """
        if len(self.buffer) < self.config.batch_size:
            return {}
        picks = self.rng.integers(len(self.buffer), size=self.config.batch_size)
        batch = _stack([self.buffer[int(i)] for i in picks])
        with torch.autocast("cpu", torch.bfloat16):
            losses = self.losses(batch)
        weights = self.config
        total = (
            weights.hindsight_weight * losses["hindsight"]
            + weights.outcome_weight * losses["outcome"]
            + weights.coherence_weight * losses["coherence"]
            + weights.consistency_weight * losses["consistency"]
        )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        size = nn.utils.clip_grad_norm_(self.params.values(), weights.max_grad_norm)
        if not torch.isfinite(size):
            return {}
        self.optimizer.step()
        if self.protection is not None:
            # The springs act after the optimiser: an implicit step is stable at any strength, and Adam does not
            # rescale it away.
            self.protection.pull_(weights.learning_rate)
        self._update_forward_model(batch)
        return {name: float(value.detach()) for name, value in losses.items()}

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The four losses of a batch, each with a path to the heads (see `neon_sim.training.losses`)."""
        size = len(batch["fused"])
        share = max(1, size // ASKED_SHARE)
        both = self.decoder(
            torch.cat([batch["fused"], batch["fused"][:share]]), torch.cat([batch["achieved"], batch["goal"][:share]])
        )
        told, asked, before = both[:size], both[size:], batch["fused"][:share]
        wanted = self.forward_model.wanted_change(batch["text"][:share]).detach()
        return {
            "hindsight": hindsight_loss(told, batch["executed"], batch["weight"]),
            "outcome": outcome_loss(self.forward_model(batch["fused"], told), batch["fused_after"]),
            "coherence": coherence_loss(self.forward_model(before, asked), before, wanted),
            "consistency": consistency_loss(asked, batch["executed"][:share]),
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimisers, springs, buffer, rng: a resumed learner goes on to the bit."""
        return {
            "decoder": self.decoder.state_dict(),
            "forward_model": self.forward_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "forward_optimizer": self.forward_optimizer.state_dict(),
            "protection": None if self.protection is None else self.protection.state_dict(),
            "buffer": _stack(list(self.buffer)) if self.buffer else None,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.decoder.load_state_dict(state["decoder"])
        self.forward_model.load_state_dict(state["forward_model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.forward_optimizer.load_state_dict(state["forward_optimizer"])
        if state["protection"] is not None:
            self.protection = EWC(self.params, strength=self.config.ewc_strength)
            self.protection.load_state_dict(state["protection"])
        self.buffer.clear()
        if state["buffer"] is not None:
            self.buffer.extend(_unstack(state["buffer"]))
        self.rng.bit_generator.state = state["rng"]

    def _perceive(self) -> tuple[Tensor, Tensor]:
        features, senses = self.policy.perceive()
        with torch.no_grad():
            return self.model.fuse(features.pooled, senses)[0], senses["eef"][0]

    def _close_chunk(self, decision: Decision) -> None:
        if self._episode and self._episode[-1][0] is decision:
            return
        with torch.no_grad():
            fused = self.model.fuse(decision.features.pooled, decision.senses)[0]
        self._episode.append((decision, fused, decision.senses["eef"][0]))

    def _remember(self, last_fused: Tensor, last_palms: Tensor) -> None:
        """Turn the episode's chunks into experience; the goal achieved is where the moving hand came to rest."""
        hand = int(self._episode[-1][0].goal[0, :HANDS].argmax())
        where = PALM_SLICES[hand]
        rest, before = last_palms[where], self._episode[-1][2][where]
        arrived = float((rest - before).norm()) < self.config.settled_m
        achieved = make_goal(torch.tensor([hand]), rest[None])[0]
        afters = [fused for _, fused, _ in self._episode[1:]] + [last_fused]
        for (decision, fused, _), after in zip(self._episode, afters, strict=True):
            self.buffer.append(
                Experience(
                    fused=fused,
                    fused_after=after,
                    text=decision.features.text[0],
                    goal=decision.goal[0],
                    executed=decision.chunk[0],
                    achieved=achieved,
                    weight=float(arrived),
                )
            )

    def _update_forward_model(self, batch: dict[str, Tensor]) -> None:
        if self.config.learning_rate == 0.0:
            return
        loss = outcome_loss(self.forward_model(batch["fused"], batch["executed"]), batch["fused_after"])
        self.forward_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.forward_optimizer.step()


_TENSORS = ("fused", "fused_after", "text", "goal", "executed", "achieved")


def _stack(items: list[Experience]) -> dict[str, Tensor]:
    batch = {name: torch.stack([getattr(item, name) for item in items]) for name in _TENSORS}
    return batch | {"weight": torch.tensor([item.weight for item in items])}


def _unstack(batch: dict[str, Tensor]) -> list[Experience]:
    return [
        Experience(**{name: batch[name][i] for name in _TENSORS}, weight=float(batch["weight"][i]))
        for i in range(len(batch["weight"]))
    ]

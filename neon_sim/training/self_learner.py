"""NeonSelfLearner: the heads learn online from what the robot does, without labels, and keep what they know.

Every chunk: features before, a forward model's guess of the features after, 16 steps, features after, losses, an
update of the heads only. Hindsight (D18): the chunk that was carried out is the right answer for the goal token that
it achieved, so that token is put in place of the one that was asked for, and nothing is rendered again.
"""

import warnings
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.inference.neon_policy import Decision
from neon_sim.model.goal import HANDS, make_goal
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.adoption import AdoptionGate, Verdict, same_noise
from neon_sim.training.drift import DriftDetector, residual
from neon_sim.training.ewc import EWC
from neon_sim.training.experience import CONTEXT, Experience, context_of, known_of, stack, unstack
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.head_decoder import HeadDecoder, head_context, head_fisher
from neon_sim.training.learner_config import SelfLearnerConfig
from neon_sim.training.losses import outcome_loss
from neon_sim.training.objective import losses_with_weight, weighed
from neon_sim.training.practice import PractisingPolicy
from neon_sim.training.protection import finite_rows, make_protection
from neon_sim.training.weights_digest import digest_of_frozen

PALM_SLICES = (slice(0, 3), slice(7, 10))  # left and right palm position in the eef observation


class NeonSelfLearner:
    """Learns while it acts.

    Args:
        model: the policy's network; only `goal_embed` and `action_head` are changed, and of them only what requires a
            gradient: freeze the heads of groups that have nothing to learn.
        forward_model: f_pred and P, trained on what happened before.
        config: see `SelfLearnerConfig`.
    """

    def __init__(self, model: NeonVLA, forward_model: ForwardModel, config: SelfLearnerConfig | None = None) -> None:
        self.config = config = config or SelfLearnerConfig()
        self.model, self.forward_model = model.eval(), forward_model
        self.decoder = HeadDecoder(model).eval()
        self.rng = np.random.default_rng(config.seed)
        practice = np.random.default_rng([config.seed, 2])  # its own: updates may be made in another process
        self.policy = PractisingPolicy(model, config.practice_noise_m, practice)
        self.params = {name: param for name, param in self.decoder.named_parameters() if param.requires_grad}
        rate, forward_rate = config.learning_rate, min(1e-3, 3 * config.learning_rate)
        self.optimizer = torch.optim.Adam(
            self.params.values(), lr=rate, betas=(0.85, 0.99), eps=config.adam_eps, fused=True
        )
        self.forward_optimizer = torch.optim.Adam(forward_model.net.parameters(), lr=forward_rate, fused=True)
        self.strategy = make_protection(config.protection, self.params, np.random.default_rng([config.seed, 1]))
        self.drift = None if config.drift is None else DriftDetector(config.drift)
        checks = config.adoption
        self.gate = None if checks is None else AdoptionGate(self.params, self.optimizer, checks)
        self.held_back: deque[Experience] = deque(maxlen=0 if checks is None else checks.held_back_chunks)
        self.buffer: deque[Experience] = deque(maxlen=config.buffer_size)
        self.last_losses: dict[str, float] = {}
        self.last_verdict: Verdict | None = None
        self.episodes = 0  # that became experience
        self.last_end: tuple[int, int] | None = None  # when the newest change that it noticed began, chunks protected
        self.unusable = 0  # chunks that did not, for a number in them that is not finite
        self._episode: list[tuple[Decision, Tensor, Tensor]] = []  # decision, fused before, palms before
        self.frozen = digest_of_frozen(model, self.params)  # what a saved state must go with

    def protect(self, fused: Tensor, goals: Tensor, context: Mapping[str, Tensor] | None = None) -> None:
        """Protect what the present weights know of fused (N, D), goals (N, 5), and what else their heads look at.

        Strategies with a Fisher take the heads' own, see `head_fisher`: no label is needed.
        """
        samples, seed = self.config.fisher_samples, self.config.seed
        self.strategy.end_regime(lambda: head_fisher(self.decoder, fused, goals, samples, seed, context))

    def end_regime(self, newest: int = 0, since: int | None = None) -> int:
        """Protect what is known but for the `newest` chunks, and begin a new buffer with those.

        A new one, as rehearsing what was before would be a protection, too. Likewise what was held back goes, but for
        chunks that the drift detector saw after its `since`-th. Returns of how many chunks the protection is; of none
        where nothing is known yet.
        """
        items = list(self.buffer)
        border = max(0, len(items) - newest)
        younger = [] if since is None else [item for item in self.held_back if item.seen > since]
        known = known_of(items[:border], self.config.known_m)
        if known is not None:
            self.protect(*known)
        elif border and self.strategy.anchors:
            near = f"{self.config.known_m:g} m of its goal"
            warnings.warn(f"Nothing is protected: in {border} chunks no palm came to rest within {near}.", stacklevel=2)
        self.buffer.clear()
        self.buffer.extend(items[border:])
        self.held_back.clear()
        self.held_back.extend(younger)
        if self.gate is not None:
            self.gate.forget_best()  # losses on what was held back before are of another regime
        return 0 if known is None else len(known[0])

    @property
    def ends_regimes(self) -> bool:
        """Whether it notices by itself that the world has changed; otherwise a script calls `end_regime`."""
        return self.drift is not None and self.config.drift_ends_regimes

    @property
    def protection(self) -> EWC | None:
        """The springs in force; None while there are none."""
        return self.strategy.springs

    def known(self) -> tuple[Any, ...]:
        """What `protect` takes, of the experience that went well (`SelfLearnerConfig.known_m`).

        Fused (N, D), goals (N, 5), and what else the heads look at.

        Raises:
            ValueError: there is no such experience yet.
        """
        known = known_of(list(self.buffer), self.config.known_m)
        if known is None:
            raise ValueError("There is no experience to protect yet: EWC wants at least one healthy episode first.")
        return known

    def before_chunk(self) -> None:
        """Call when a chunk is about to be asked for: closes the chunk before it and takes learning steps.

        Raises:
            ValueError: fewer steps of the chunk before were carried out than it has: it is no example of anything.
        """
        if self.policy.decision is None:
            self._episode.clear()  # of an episode that somebody ended half-way
            return
        refuse_parts(self.policy.steps_taken, self.policy.decision)
        self._close_chunk(self.policy.decision)
        self.learn()

    def learn(self) -> None:
        """Take a chunk's learning steps, as many as the drift asks for, and have them checked.

        First of all a change that the drift detector has noticed ends the regime before it.
        """
        if self.drift is not None and self.ends_regimes and self.drift.change is not None:
            self._take_up(self.drift, self.drift.change)
        steps = self.config.updates_per_chunk * (1 if self.drift is None else self.drift.speed)
        losses = [found for found in (self.update() for _ in range(steps)) if found]
        if losses:
            self.last_losses = losses[-1]
            if self.gate is not None:
                self.last_verdict = self._propose(self.gate)

    def end_episode(self) -> None:
        """Close the last chunk, look back at what the episode achieved, and keep it as experience."""
        if self.policy.decision is None:
            return
        self._close_chunk(self.policy.decision)
        fused, palms = self._perceive()
        self._look_back(self.policy, fused, palms)

    def abandon_episode(self) -> None:
        """Forget the running episode: what was cut short from outside is no example of anything."""
        self._episode.clear()
        self.policy.decision = None

    def update(self) -> dict[str, float]:
        """One step on a batch of experience; returns the losses (empty while there is none).

        A batch whose gradient is not finite is passed over: one NaN in the weights would be the end of the policy.
        """
        most = self.config.batch_size
        if not self.buffer or len(self.buffer) < (self.config.least_chunks or most):
            return {}
        rows = min(most, len(self.buffer))
        picks = self.rng.integers(len(self.buffer), size=rows)
        batch = stack([self.buffer[int(i)] for i in picks])
        rehearsed = self.strategy.sample(rows)
        if rehearsed is not None:
            batch = {name: torch.cat([value, rehearsed[name]]) for name, value in batch.items()}
        losses = self.losses(batch)  # in float32: where a CPU has no bfloat16, autocast costs ten times as much
        total = weighed(losses, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward(inputs=list(self.params.values()))  # the forward model has a step of its own
        size = nn.utils.clip_grad_norm_(self.params.values(), self.config.max_grad_norm)
        if not torch.isfinite(size):
            return {}
        self.optimizer.step()
        # Springs act after the optimiser: an implicit step is stable at any strength, and Adam does not undo its scale.
        self.strategy.pull_(self.config.learning_rate)
        self._update_forward_model(batch)
        return {name: float(value.detach()) for name, value in losses.items()}

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of a batch that have a weight, by name, each with a path to the heads."""
        return losses_with_weight(batch, self.decoder, self.forward_model, self.config)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimisers, springs, buffer, rng: a resumed learner goes on to the bit."""
        return {
            "decoder": self.decoder.state_dict(),
            "forward_model": self.forward_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "forward_optimizer": self.forward_optimizer.state_dict(),
            "protection": self.strategy.get_state(),
            "buffer": stack(list(self.buffer)) if self.buffer else None,
            "seen": [item.seen for item in self.buffer],
            "held_back": stack(list(self.held_back)) if self.held_back else None,
            "held_back_seen": [item.seen for item in self.held_back],
            "drift": None if self.drift is None else self.drift.get_state(),
            "gate": None if self.gate is None else self.gate.get_state(),
            "counts": [self.episodes, self.unusable],
            "rng": self.rng.bit_generator.state,
            "practice_rng": self.policy.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`, also one from before there were strategies, drift and adoption."""
        self.decoder.load_state_dict(state["decoder"])
        self.forward_model.load_state_dict(state["forward_model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:  # a state of before settings were compared may be of others
            group.update(lr=self.config.learning_rate, eps=self.config.adam_eps)
        self.forward_optimizer.load_state_dict(state["forward_optimizer"])
        if state["protection"] is not None:
            self.strategy.set_state(state["protection"])
        for buffer, saved in ((self.buffer, state["buffer"]), (self.held_back, state.get("held_back"))):
            buffer.clear()
            buffer.extend([] if saved is None else unstack(saved))
        for buffer, dates in ((self.buffer, "seen"), (self.held_back, "held_back_seen")):
            for item, seen in zip(buffer, state.get(dates, ()), strict=False):  # () before changes were dated
                item.seen = seen
        if self.drift is not None and state.get("drift") is not None:
            self.drift.set_state(state["drift"])
        if self.gate is not None:
            self.gate.restart() if state.get("gate") is None else self.gate.set_state(state["gate"])
        self.episodes, self.unusable = state.get("counts", (0, 0))
        self.rng.bit_generator.state = state["rng"]
        self.policy.rng.bit_generator.state = state.get("practice_rng", state["rng"])

    def _take_up(self, drift: DriftDetector, change: int) -> None:
        """End the regime before a change; change: chunks that the drift detector had seen when it began."""
        protected = self.end_regime(sum(item.seen > change for item in self.buffer), change)
        self.last_end = (change, protected)
        kind = self.strategy.kind
        known = f"{kind} keeps what {protected} chunks had shown" if protected else "nothing was known yet"
        known = known if self.strategy.anchors else f"no weights are anchored ({kind})"
        drift.take_up(f"the change began after chunk {change}: {known}, {len(self.buffer)} begin the new buffer")

    def _perceive(self) -> tuple[Tensor, Tensor]:
        features, senses = self.policy.perceive()
        with torch.no_grad():
            return self.model.fuse(features.pooled, senses, features.text)[0], senses["eef"][0]

    def _close_chunk(self, decision: Decision) -> None:
        if self._episode and self._episode[-1][0] is decision:
            return
        with torch.no_grad():
            seen = decision.features
            fused = self.model.fuse(seen.pooled, decision.senses, seen.text)[0]
        self._watch(fused)
        self._episode.append((decision, fused, decision.senses["eef"][0]))

    def _look_back(self, policy: PractisingPolicy, fused: Tensor, palms: Tensor) -> None:
        """End the episode of the one that acts: keep its chunks, but for a last one that was cut short."""
        decision = policy.decision
        assert decision is not None  # who ends an episode has acted in it
        whole = len(self._episode) - (policy.steps_taken < decision.chunk.shape[1])
        if whole == len(self._episode):
            self._watch(fused)
        if whole:
            self._remember(fused, palms, whole)
        self._episode.clear()
        policy.decision = None

    def _remember(self, last_fused: Tensor, last_palms: Tensor, whole: int) -> None:
        """Turn the first `whole` chunks into experience; the goal achieved is where the moving hand came to rest."""
        decision, _, palms_before = self._episode[whole - 1]
        hand = int(decision.goal[0, :HANDS].argmax())
        where = PALM_SLICES[hand]
        rest, before = last_palms[where], palms_before[where]
        arrived = float((rest - before).norm()) < self.config.settled_m
        achieved = make_goal(torch.tensor([hand], device=rest.device), rest[None])[0]
        self._keep(self._chunks(last_fused, lambda _: achieved, float(arrived))[:whole])

    def _chunks(self, last_fused: Tensor, achieved: Callable[[Decision], Tensor], weight: float) -> list[Experience]:
        """The episode as experience; `achieved` gives the goal token (5,) that a decision is the right one for."""
        afters = [fused for _, fused, _ in self._episode[1:]] + [last_fused]
        items = []
        for (decision, fused, _), after in zip(self._episode, afters, strict=True):
            asked, did, text = decision.goal[0], decision.chunk[0], decision.features.text[0]
            context = head_context(self.model, decision.features, decision.senses)
            state, tokens = (context[name][0] if name in context else None for name in CONTEXT)
            items.append(Experience(fused, after, text, asked, did, achieved(decision), weight, state, tokens))
        return items

    def _keep(self, items: list[Experience]) -> None:
        """Into the buffer and the strategy's memory, or held back; what is not finite goes nowhere."""
        if self.drift is not None:
            for ago, item in enumerate(reversed(items)):
                item.seen = self.drift.chunk - ago
        usable = finite_rows(stack(items)).tolist()
        self.unusable += usable.count(False)
        items = [item for item, good in zip(items, usable, strict=True) if good]
        checks = self.config.adoption
        held = checks is not None and (not self.held_back or self.episodes % checks.hold_back_every == 0)
        self.episodes += 1
        (self.held_back if held else self.buffer).extend(items)
        if items and not held:
            self.strategy.remember(stack(items))

    def _watch(self, after: Tensor) -> None:
        """Show the drift detector how well the features (D,) after the newest closed chunk had been foreseen."""
        if self.drift is not None and self._episode:
            decision, before, _ = self._episode[-1]
            with torch.no_grad():
                foreseen = self.forward_model(before[None], decision.chunk)[0]
            self.drift.observe(residual(foreseen, after))

    def _propose(self, gate: AdoptionGate) -> Verdict:
        if not self.held_back:
            return gate.propose(lambda: 0.0, lambda: torch.zeros(1), "nothing has been held back yet")
        held = stack(list(self.held_back))
        return gate.propose(
            same_noise(lambda: float(weighed(self.losses(held), self.config))),
            same_noise(lambda: self.decoder(held["fused"], held["goal"], **context_of(held))),
        )

    def _update_forward_model(self, batch: dict[str, Tensor]) -> None:
        if self.config.learning_rate == 0.0:
            return
        loss = outcome_loss(self.forward_model(batch["fused"], batch["executed"]), batch["fused_after"])
        self.forward_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.forward_optimizer.step()


def refuse_parts(carried_out: int, decision: Decision) -> None:
    """Raise ValueError where another chunk is about to be asked for before this one's steps were all carried out."""
    length = decision.chunk.shape[1]
    if carried_out < length:
        raise ValueError(
            f"A self-learner learns from whole chunks, {carried_out} of {length} steps were carried out. Let rollout"
            " execute all of them."
        )

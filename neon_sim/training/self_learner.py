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
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.adoption import AdoptionGate, Verdict, same_noise
from neon_sim.training.drift import DriftDetector, residual
from neon_sim.training.ewc import EWC
from neon_sim.training.experience import Experience, context_of, known_of, stack
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.head_decoder import HeadDecoder, head_fisher
from neon_sim.training.judging import is_held_back, why_wait
from neon_sim.training.learner_config import SelfLearnerConfig
from neon_sim.training.learner_state import learner_state, restore_learner
from neon_sim.training.lived_chunk import LivedChunk, examples_of, refuse_parts, where_it_ended
from neon_sim.training.losses import outcome_loss
from neon_sim.training.objective import losses_with_weight, weighed
from neon_sim.training.practice import PractisingPolicy
from neon_sim.training.protection import finite_rows, make_protection
from neon_sim.training.weights_digest import digest_of_frozen


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
        self._episode: list[LivedChunk] = []
        self.frozen = digest_of_frozen(model, self.params)  # what a saved state must go with

    def protect(self, fused: Tensor, goals: Tensor, context: Mapping[str, Tensor] | None = None) -> None:
        """Protect what the present weights know of fused (N, D), goals (N, 5), and what else their heads look at.

        Strategies with a Fisher take the heads' own, see `head_fisher`: no label is needed.
        """
        samples, seed = self.config.fisher_samples, self.config.seed
        self.strategy.end_regime(lambda: head_fisher(self.decoder, fused, goals, samples, seed, context))

    def end_regime(self, since: int | None = None) -> int:
        """Protect what is known, and begin new buffers: of what is learned from, and of what is held back to judge.

        New ones: to rehearse what was before would be a protection, too, and to be judged by it would refuse what is
        right now.
        since: a date. Chunks that the drift detector has seen after its `since`-th are of the new regime: they are not
        protected, and begin the buffers; None: there are none yet. Returns of how many chunks the protection is; of
        none where nothing is known yet.
        """
        older = [item for item in self.buffer if since is None or item.seen <= since]
        known = known_of(older, self.config.known_m)
        if known is not None:
            self.protect(*known)
        elif older and self.strategy.anchors:
            near = f"{self.config.known_m:g} m of its goal"
            what = f"in {len(older)} chunks no palm came to rest within {near}"
            warnings.warn(f"Nothing is protected: {what}.", stacklevel=2)
        for kept in (self.buffer, self.held_back):
            younger = [item for item in kept if since is not None and item.seen > since]
            kept.clear()
            kept.extend(younger)
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
            self.abandon_episode()  # one that somebody ended half-way
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
        self._watch_last(self.policy, fused)
        self._look_back(self.policy, fused, palms)
        self.abandon_episode()  # nothing twice

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
        rows = min(self.strategy.new_rows(most), len(self.buffer))
        picks = self.rng.integers(len(self.buffer), size=rows)
        batch = stack([self.buffer[int(i)] for i in picks])
        rehearsed = self.strategy.sample(rows, most - rows)
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
        """Weights, optimisers, springs, buffers, rng: a resumed learner goes on to the bit."""
        return learner_state(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`, also one from before there were strategies, drift and adoption."""
        restore_learner(self, state)

    def _take_up(self, drift: DriftDetector, change: int) -> None:
        """End the regime before a change; change: chunks that the drift detector had seen when it began."""
        protected = self.end_regime(change)
        self.last_end = (change, protected)
        kind = self.strategy.kind
        known = f"{kind} keeps what {protected} chunks had shown" if protected else "nothing was known yet"
        known = known if self.strategy.anchors else f"no weights are anchored ({kind})"
        begun = f"{len(self.buffer)} begin the new buffer"
        if self.gate is not None:
            begun += f", {len(self.held_back)} held back go on judging"
        drift.take_up(f"the change began after chunk {change}: {known}, {begun}")

    def _perceive(self) -> tuple[Tensor, Tensor]:
        features, senses = self.policy.perceive()
        with torch.no_grad():
            return self.model.fuse(features.pooled, senses, features.text)[0], senses["eef"][0]

    def _close_chunk(self, decision: Decision) -> bool:
        """Close what was decided last; whether it was still open."""
        if self._episode and self._episode[-1].decision is decision:
            return False
        with torch.no_grad():
            seen = decision.features
            fused = self.model.fuse(seen.pooled, decision.senses, seen.text)[0]
        self._watch(fused)
        self._episode.append(LivedChunk(decision, fused, decision.senses["eef"][0]))
        return True

    def _whole(self, policy: PractisingPolicy) -> int:
        """How many of the episode's chunks were carried out to the end: all, or all but the last."""
        decision = policy.decision
        assert decision is not None  # who ends an episode has acted in it
        return len(self._episode) - (policy.steps_taken < decision.chunk.shape[1])

    def _look_back(self, policy: PractisingPolicy, fused: Tensor, palms: Tensor) -> None:
        """Keep the chunks of the one that acts, but for a last one that was cut short; fused, palms: as they are."""
        whole = self._whole(policy)
        if whole:
            self._remember(fused, palms, whole)

    def _remember(self, last_fused: Tensor, last_palms: Tensor, whole: int) -> None:
        """Turn the first `whole` chunks into experience; the goal achieved is where the moving hand came to rest."""
        achieved, arrived = where_it_ended(self._episode[whole - 1], last_palms, self.config.settled_m)
        self._keep(self._chunks(last_fused, lambda _: achieved, arrived)[:whole])

    def _chunks(self, last_fused: Tensor, achieved: Callable[[Decision], Tensor], weight: float) -> list[Experience]:
        """The episode as experience, see `examples_of`."""
        return examples_of(self.model, self._episode, last_fused, achieved, weight)

    def _keep(self, items: list[Experience]) -> None:
        """Into the buffer and the strategy's memory, or held back; what is not finite goes nowhere."""
        usable = finite_rows(stack(items)).tolist()
        self.unusable += usable.count(False)
        items = [item for item, good in zip(items, usable, strict=True) if good]
        held = is_held_back(items, self.episodes, self.held_back, self.config)
        self.episodes += 1
        (self.held_back if held else self.buffer).extend(items)
        if items and not held:
            self.strategy.remember(stack(items))

    def _watch(self, after: Tensor) -> None:
        """Show the drift detector how well the features (D,) after the newest closed chunk had been foreseen."""
        if self.drift is not None and self._episode:
            self.drift.observe(self._surprise(after))
            self._episode[-1].seen = self.drift.chunk

    def _watch_last(self, policy: PractisingPolicy, after: Tensor) -> None:
        """Likewise of an episode that is over, unless its last chunk was cut short."""
        if self._whole(policy) == len(self._episode):
            self._watch(after)

    @torch.no_grad()
    def _surprise(self, after: Tensor) -> float:
        newest = self._episode[-1]
        return residual(self.forward_model(newest.fused[None], newest.decision.chunk)[0], after)

    def _propose(self, gate: AdoptionGate) -> Verdict:
        waits = why_wait(self.held_back, self.config)
        if waits:
            return gate.wait(waits)
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

"""VectorLearner: many robots of a NeonG1VectorEnv teach one network.

    envs = NeonG1VectorEnv(16, task="reach", sensors=("proprio", "camera"), physics_dt=0.005)
    learner = VectorLearner(model, forward_model, SelfLearnerConfig(), robots=16)
    rollout(envs, learner.policy, 96, seed, on_chunk=lambda _: learner.before_chunk())
    learner.end_episode()

The calls are those of `NeonSelfLearner` with one robot. Experience of all goes into one buffer, and `updates_per_chunk`
updates are made for each chunk that they carry out together. To the drift detector such a chunk is one, and all robots'
chunks of it have one date: a change that it notices is one of the world that they share.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.lived_chunk import LivedChunk, refuse_parts
from neon_sim.training.practice import PractisingPolicies, PractisingPolicy
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig


class VectorLearner(NeonSelfLearner):
    """Learns while `robots` robots act.

    Args:
        model, forward_model, config: as of `NeonSelfLearner`.
        robots: N, as many as the vector env has.

    Raises:
        ValueError: no robot at all.
    """

    policy: Any  # PractisingPolicies

    def __init__(
        self, model: NeonVLA, forward_model: ForwardModel, config: SelfLearnerConfig | None = None, robots: int = 1
    ) -> None:
        super().__init__(model, forward_model, config)
        self.policy = PractisingPolicies(model, self.config.practice_noise_m, self.policy.rng, robots)
        self._episodes: list[list[LivedChunk]] = [[] for _ in range(robots)]
        self._seen: list[LivedChunk] = []  # one of each robot, carried out together
        self._surprises: list[float] = []  # of theirs

    def before_chunk(self) -> None:
        """Call when chunks are about to be asked for: closes the robots' chunks before them, takes learning steps.

        Raises:
            ValueError: not even one of the robots has carried out all steps of its chunk.
        """
        busy = [robot for robot in self.policy.policies if robot.decision is not None]
        if not busy:
            self.abandon_episode()  # one that somebody ended half-way
            return
        longest = max(busy, key=lambda robot: robot.steps_taken)  # the others' episodes may be over
        refuse_parts(longest.steps_taken, longest.decision)
        self._close_chunks()
        self.learn()

    def end_episode(self) -> None:
        """Close the last chunks, look back at what each robot's episode achieved, and keep them as experience."""
        if all(robot.decision is None for robot in self.policy.policies):
            return
        self._close_chunks()
        features, senses = self.policy.perceive(range(len(self._episodes)))
        with torch.no_grad():
            fused = self.model.fuse(features.pooled, senses, features.text)
        for row, robot in enumerate(self._each()):
            self._watch_last(robot, fused[row])
        self._see_together()
        for row, robot in enumerate(self._each()):
            self._look_back(robot, fused[row], senses["eef"][row])
        self.abandon_episode()  # nothing twice

    def abandon_episode(self) -> None:
        """Forget the robots' running episodes."""
        for robot in self._each():
            self._episode.clear()
            robot.decision = None
        self._seen.clear()
        self._surprises.clear()

    def _close_chunks(self) -> None:
        """Close what each robot has just carried out."""
        for robot in self._each():
            if robot.decision is None:
                self._episode.clear()  # of an episode that somebody ended half-way
            elif not self._close_chunk(robot.decision) and not self._episode[-1].seen:
                self._seen.append(self._episode[-1])  # its episode is over, and what came of it is looked at in the end
        self._see_together()

    def _watch(self, after: Tensor) -> None:
        """Note how well the features (D,) after a robot's newest chunk had been foreseen, if that is not dated yet."""
        if self.drift is not None and self._episode and not self._episode[-1].seen:
            self._seen.append(self._episode[-1])
            self._surprises.append(self._surprise(after))

    def _see_together(self) -> None:
        """Show the drift detector what was noted, as one chunk, and date all that were part of it."""
        if self.drift is not None and self._surprises:
            self.drift.observe(*self._surprises)
            for chunk in self._seen:
                chunk.seen = self.drift.chunk
        self._seen.clear()
        self._surprises.clear()

    def _each(self) -> Iterator[PractisingPolicy]:
        """One robot after the other, as if it were the only one: `_episode` is its own meanwhile."""
        for episode, robot in zip(self._episodes, self.policy.policies, strict=True):
            self._episode = episode
            yield robot

"""VectorLearner: many robots of a NeonG1VectorEnv teach one network.

    envs = NeonG1VectorEnv(16, task="reach", sensors=("proprio", "camera"), physics_dt=0.005)
    learner = VectorLearner(model, forward_model, SelfLearnerConfig(), robots=16)
    rollout(envs, learner.policy, 96, seed, on_chunk=lambda _: learner.before_chunk())
    learner.end_episode()

The calls are those of `NeonSelfLearner` with one robot. Experience of all goes into one buffer, and `updates_per_chunk`
updates are made for each chunk that they carry out together.
"""

from collections.abc import Iterator
from typing import Any

import torch

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.practice import PractisingPolicies, PractisingPolicy
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig, refuse_parts


class VectorLearner(NeonSelfLearner):
    """Learns while `robots` robots act.

    Args:
        model, forward_model, config: as of `NeonSelfLearner`.
        robots: N, as many as the vector env has.

    Raises:
        ValueError: no robot at all, or drift that is to end regimes by itself.
    """

    policy: Any  # PractisingPolicies

    def __init__(
        self, model: NeonVLA, forward_model: ForwardModel, config: SelfLearnerConfig | None = None, robots: int = 1
    ) -> None:
        super().__init__(model, forward_model, config)
        if self.ends_regimes:
            raise ValueError(
                "Chunks of robots side by side cannot be dated: set drift_ends_regimes=False and call end_regime()."
            )
        self.policy = PractisingPolicies(model, self.config.practice_noise_m, self.policy.rng, robots)
        self._episodes: list[list[Any]] = [[] for _ in range(robots)]

    def before_chunk(self) -> None:
        """Call when chunks are about to be asked for: closes the robots' chunks before them, takes learning steps.

        Raises:
            ValueError: not even one of the robots has carried out all steps of its chunk.
        """
        busy = [robot for robot in self.policy.policies if robot.decision is not None]
        if busy:
            longest = max(busy, key=lambda robot: robot.steps_taken)  # the others' episodes may be over
            refuse_parts(longest.steps_taken, longest.decision)
        if self._close_chunks():
            self.learn()

    def end_episode(self) -> None:
        """Close the last chunks, look back at what each robot's episode achieved, and keep them as experience."""
        if not self._close_chunks():
            return
        features, senses = self.policy.perceive(range(len(self._episodes)))
        with torch.no_grad():
            fused = self.model.fuse(features.pooled, senses, features.text)
        for row, robot in enumerate(self._each()):
            self._look_back(robot, fused[row], senses["eef"][row])

    def abandon_episode(self) -> None:
        """Forget the robots' running episodes."""
        for robot in self._each():
            self._episode.clear()
            robot.decision = None

    def _close_chunks(self) -> bool:
        """Close what each robot has carried out; whether there was anything."""
        closed = False
        for robot in self._each():
            if robot.decision is None:
                self._episode.clear()  # of an episode that somebody ended half-way
            else:
                self._close_chunk(robot.decision)
                closed = True
        return closed

    def _each(self) -> Iterator[PractisingPolicy]:
        """One robot after the other, as if it were the only one: `_episode` is its own meanwhile."""
        for episode, robot in zip(self._episodes, self.policy.policies, strict=True):
            self._episode = episode
            yield robot

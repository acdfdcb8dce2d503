"""Self-learning on a robot: it acts, stands still, learns, and takes over what it learned only if a person agrees.

The same learner and the same `rollout` call as in simulation. What differs: nothing is learned while the robot moves,
because a learning step takes longer than a control step; every update stands behind the adoption gate; and a person is
asked. With `LearnConfig.by_itself` it learns only after it has noticed a change. What was lived through is rehearsed by
the default either way; springs (EWC) protect what was known only once a change was noticed.
Only the policy's heads learn. The walker is the control process's own, reads its own file and is never touched.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from neon_sim.episode import NeonEpisode
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.real.env import NeonG1RealEnv
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.policies import check_fit
from neon_sim.real.safety_stop import STOPPED, Phase
from neon_sim.rollout import rollout
from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.drift import DriftConfig
from neon_sim.training.learning_state import load_learning_state, save_learning_state
from neon_sim.training.online import load_forward_model, save_forward_model
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig

STILL: Final = 0.5  # rad/s; a balancing robot's ankles are never quite at rest
STILL_STEPS: Final = 25  # control steps, 0.5 s
_TRIES: Final = 20
Consent = Callable[[str], bool]  # asked with what was learned, in words


@dataclass(frozen=True)
class LearnConfig:
    """How long, and how it learns. `learner.updates_per_chunk` is how many updates follow each episode here."""

    episodes: int = 10
    steps: int = 96  # control steps an episode: six chunks
    learner: SelfLearnerConfig = field(
        default_factory=lambda: SelfLearnerConfig(
            batch_size=16, updates_per_chunk=12, adoption=AdoptionConfig(hold_back_every=4)
        )
    )

    def by_itself(self) -> "LearnConfig":
        """The same, learning only after a change that it notices, which ends a regime."""
        return replace(self, learner=replace(self.learner, drift=DriftConfig()))

    def __post_init__(self) -> None:
        if self.learner.adoption is None:
            raise ValueError("On a robot every update must stand up to a check: set SelfLearnerConfig.adoption.")


@dataclass(frozen=True)
class LearnedEpisode:
    """One line of the record."""

    episode: int
    steps: int
    adopted: bool
    why: str  # in words: what was adopted, or why nothing was


class StandingLearner(NeonSelfLearner):
    """A self-learner that keeps its hands still while it acts: chunks are closed, learning steps wait.

    Attributes:
        acts: True during an episode.
    """

    acts = False

    def learn(self) -> None:
        """Take the learning steps, unless the robot moves."""
        if not self.acts:
            super().learn()


class RobotLearning:
    """Episodes on one robot, with everything that was learned in `folder`: state.pt and policy/.

    Args:
        policy: folder of the checkpoint to begin with, with `forward_model.pt` beside its weights.
        folder: where the state is kept; an earlier run's is gone on with.
        config: see `LearnConfig`.
        consent: asked before what was learned is acted upon.

    Raises:
        ValueError: no checkpoint that can learn, or a state that belongs to another one.
    """

    def __init__(self, policy: Path, folder: Path, config: LearnConfig, consent: Consent) -> None:
        self.config, self._folder, self._consent = config, folder, consent
        self._model = NeonVLA.from_pretrained(policy)
        self.learner = StandingLearner(self._model, load_forward_model(self._model, policy), config.learner)
        self.record: list[LearnedEpisode] = []
        self._state = folder / "state.pt"
        if self._state.exists():
            saved = load_learning_state(self._state, self.learner)
            self.record = [LearnedEpisode(**line) for line in saved["record"]]

    def run(self, env: NeonG1RealEnv, on_episode: Callable[[NeonEpisode], None]) -> bool:
        """Play and learn on an armed robot until all episodes are over, it stops by itself, or somebody presses Ctrl-C.

        Args:
            env: its robot has been armed by a person.
            on_episode: given each episode while the robot stands.

        Returns:
            False if the robot stopped by itself.

        Raises:
            ValueError: the checkpoint does not fit the env; nothing has moved then.
        """
        check_fit(self._model, env.action_map, env.config.sensors)
        try:
            for _ in range(self.config.episodes):
                if not self._episode(env, on_episode):
                    return False
        except KeyboardInterrupt:
            self.learner.abandon_episode()
            print("Stopped by you.")
        return env.robot.phase not in STOPPED

    def _episode(self, env: NeonG1RealEnv, on_episode: Callable[[NeonEpisode], None]) -> bool:
        learner, keys = self.learner, tuple(env.observation_space.spaces)
        learner.acts = True
        try:
            played = rollout(
                env,
                learner.policy,
                self.config.steps,
                keep=keys,
                on_chunk=lambda _: learner.before_chunk(),
                stop_on_success=False,
            )
        finally:
            learner.acts = False
        stopped = env.robot.phase in STOPPED
        if not stopped:
            env.robot.pause()
        on_episode(played)
        if stopped:
            learner.abandon_episode()
            print(f"The robot is {env.robot.phase.name.lower()}: {'; '.join(env.robot.reasons)}")
            return False
        learner.end_episode()
        adopted, why = self._learn(env.robot)
        self.record.append(LearnedEpisode(len(self.record), len(played), adopted, why))
        print(f"Episode {len(self.record)}: {why}", flush=True)
        self._save()
        return env.robot.phase not in STOPPED

    def _learn(self, robot: UnitreeRobot) -> tuple[bool, str]:
        """Learn from what was lived through so far; whether it was adopted, and why."""
        if not holds_still(robot):
            return False, "nothing was learned: the robot does not hold still"
        learner, gate = self.learner, self.learner.gate
        assert gate is not None
        learner.last_verdict, learner.last_end = None, None
        learner.learn()
        if learner.drift is not None and learner.last_end is not None:
            print(f"A change: {learner.drift.log[-1].why}.", flush=True)
        verdict = learner.last_verdict
        if verdict is None and learner.drift is not None and learner.drift.speed == 0:
            return False, "nothing was learned: the drift detector sees no change"
        if verdict is None:
            return False, "not enough experience to learn from yet"
        if not verdict.adopted:
            return False, f"not adopted: {verdict.why}"
        if not self._consent(verdict.why):
            return False, gate.rollback("nobody has confirmed it")
        if not holds_still(robot):
            return False, gate.rollback("the robot does not hold still any more")
        return True, f"adopted: {verdict.why}"

    def _save(self) -> None:
        """Keep everything; where that fails the robot goes on, and the next episode's end tries again."""
        try:
            self._write()
        except OSError as error:
            warnings.warn(f"What was learned could not be saved ({error}). Make room in {self._folder}.", stacklevel=2)

    def _write(self) -> None:
        save_learning_state(self._state, self.learner, {"record": [asdict(line) for line in self.record]})
        self._model.save_pretrained(self._folder / "policy")
        save_forward_model(self.learner.forward_model, self._folder / "policy")


def holds_still(robot: UnitreeRobot) -> bool:
    """True once it has stood for half a second, no joint faster than `STILL`; False if it has not after ten seconds."""
    still = 0
    for _ in range(_TRIES * STILL_STEPS):
        robot.advance()
        if robot.phase is not Phase.STANDING:
            return False
        still = still + 1 if np.abs(robot.read().joint_vel).max() <= STILL else 0
        if still == STILL_STEPS:
            return True
    return False


def ask(words: str) -> bool:
    """Ask the person at the keyboard."""
    print(f"Learned, and checked on experience that was held back: {words}.")
    return input("Look at the robot. Type ADOPT to take it over, anything else to drop it: ").strip() == "ADOPT"

"""Learning in a process of its own: the one that acts never waits for it.

    with BackgroundLearner("assets/g1/demo_heads", SelfLearnerConfig(), BackgroundConfig()) as learner:
        rollout(env, learner.policy, 96, on_chunk=lambda _: learner.before_chunk())
        learner.end_episode()

The acting process perceives, acts and records. A finished episode goes into a bounded queue: if the learner falls
behind, episodes are dropped and counted, and the robot goes on. Weights come back through shared memory, and are put
in place between two chunks only. Whatever happens to the learner's process, half-written weights are never taken: they
carry a checksum. As it uses the spawn method, the script that starts it needs `if __name__ == "__main__":`.
"""

import multiprocessing
import os
import queue
import signal
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.drift import residual
from neon_sim.training.experience import Experience, stack, unstack
from neon_sim.training.learning_state import load_learning_state, save_learning_state
from neon_sim.training.online import load_forward_model
from neon_sim.training.protection import NoneConfig
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig
from neon_sim.training.weight_box import WeightBox

POLL_S: Final = 0.0005
PARENT_CHECK_S: Final = 1.0


@dataclass(frozen=True)
class BackgroundConfig:
    """How the two processes stand to each other."""

    waiting_episodes: int = 8  # that may wait for the learner
    lock_step: bool = False  # True: wait at each chunk, for results that are equal to in-line learning to the bit
    niceness: int = 5  # of the learner's process: inference goes first
    state_path: Path | None = None  # where the learner saves itself, and goes on from
    save_every: int = 10  # episodes
    patience_s: float = 300.0  # to start, and for an answer in lock-step

    def __post_init__(self) -> None:
        if min(self.waiting_episodes, self.save_every) < 1 or self.patience_s <= 0.0:
            raise ValueError(f"Background learning wants waiting_episodes, save_every >= 1 and patience, got {self}.")


class BackgroundLearner(NeonSelfLearner):
    """The calls of a `NeonSelfLearner`; what it learns is learned in another process.

    Args:
        policy_folder: a checkpoint with its `forward_model.pt`; the other process reads it, too.
        config: of the learner. Its drift detector looks at an episode when it is over.
        background: see `BackgroundConfig`.

    Raises:
        ValueError: not such a folder.
        RuntimeError: the process does not come up, or in lock-step does not answer.
    """

    def __init__(
        self, policy_folder: str | Path, config: SelfLearnerConfig, background: BackgroundConfig | None = None
    ) -> None:
        model = NeonVLA.from_pretrained(policy_folder)
        acting = replace(config, protection=NoneConfig(), drift=None, adoption=None, buffer_size=1)
        super().__init__(model, load_forward_model(model, Path(policy_folder)), acting)
        self.background = background or BackgroundConfig()
        self.dropped = 0  # episodes that the learner had no room for, or that it was not there to take
        self._job = (str(policy_folder), config, self.background)
        self._handed = self._taken = 0
        self._mourned = False
        self.start()

    @property
    def ends_regimes(self) -> bool:
        """Whether the learning process notices by itself that the world has changed."""
        config = self._job[1]
        return config.drift is not None and config.drift_ends_regimes

    def start(self) -> None:
        """Start the learner's process, after the end of an earlier one too: from its saved state, if there is one."""
        context = multiprocessing.get_context("spawn")
        self._box = WeightBox(sum(param.numel() for param in self.params.values()), context)
        self._done = context.RawArray("q", 1)  # episodes that it has learned from
        self._inbox = context.Queue(self.background.waiting_episodes)
        self._inbox.cancel_join_thread()  # what nobody took must not keep this process from ending
        arguments = (*self._job, self._inbox, self._box, self._done)
        self.process = context.Process(target=_serve, args=arguments, daemon=True, name="learner")
        self.process.start()
        self._handed, self._taken, self._mourned = 0, 0, False
        self._wait(lambda: self._box.version > 0, "start")
        self.take_newest()

    @property
    def alive(self) -> bool:
        """Whether the learner's process runs."""
        return self.process.is_alive()

    @property
    def learned_episodes(self) -> int:
        """Episodes that the present process has learned from."""
        return int(self._done[0])

    @property
    def waiting(self) -> int:
        """Episodes that were handed to the present process and that it has not learned from yet."""
        return self._handed - self.learned_episodes

    def learn(self) -> None:
        """At a chunk's border: put the newest weights in place; in lock-step, have them made first."""
        if self.background.lock_step:
            version = self._box.version
            self._inbox.put(("learn", None))
            self._wait(lambda: self._box.version > version, "learn")
        self.take_newest()

    def take_newest(self) -> bool:
        """Put the newest weights that the learner has published in place; whether there were new ones."""
        self._mourn()
        if self._box.version == self._taken:
            return False
        found = self._box.newest()
        if found is None:
            return False
        self._taken = found[0]
        _fill(self, found[1])
        return True

    def hand_over(self, items: list[Experience]) -> None:
        """Give the learner an episode, without waiting; if there is no room it is dropped."""
        self.episodes += 1
        batch = {name: value.numpy() for name, value in stack(items).items()}
        try:
            if self.alive:
                self._inbox.put_nowait(("episode", batch))
                self._handed += 1
                return
        except queue.Full:
            pass  # the learner is behind: the newest episode is the one that is lost
        self.dropped += 1

    def end_regime(self, since: int | None = None) -> int:
        """Tell the learner that the world is about to change: it protects what it knows, and begins a new buffer.

        A learner whose config has a drift detector notices by itself. Returns 0: it is done in the other process.

        Raises:
            RuntimeError: it does not take the message; nothing is protected.
        """
        try:
            self._inbox.put(("end_regime", since), timeout=self.background.patience_s)
        except queue.Full:
            raise RuntimeError("The learner's queue stays full: it cannot be told that a regime ends.") from None
        self._handed += 1
        return 0

    def catch_up(self) -> None:
        """Wait until everything that was handed over has been learned from, and take the weights.

        Raises:
            RuntimeError: the process ends, or `patience_s` passes.
        """
        self._wait(lambda: self.learned_episodes >= self._handed, "catch up")
        self.take_newest()

    def close(self) -> None:
        """Let the learner save its state and end; one that does not is ended."""
        if self.alive:
            try:
                self._inbox.put(("stop", None), timeout=1.0)
            except queue.Full:
                self.process.terminate()
        self.process.join(self.background.patience_s)
        if self.alive:
            self.process.kill()
        self._inbox.close()

    def _keep(self, items: list[Experience]) -> None:
        self.hand_over(items)

    def __enter__(self) -> "BackgroundLearner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, happened: Any, what: str) -> None:
        deadline = time.monotonic() + self.background.patience_s
        while not happened():
            if not self.alive or time.monotonic() > deadline:
                ended = f"has ended (exit code {self.process.exitcode})" if not self.alive else "does not answer"
                raise RuntimeError(f"The learner's process was to {what} and {ended}. start() begins another one.")
            time.sleep(POLL_S)

    def _mourn(self) -> None:
        """Say once that the learner is gone."""
        if not self._mourned and not self.alive:
            self._mourned = True
            what = f"The learner's process has ended (exit code {self.process.exitcode})"
            warnings.warn(f"{what}; the policy goes on as it is. start() begins another one.", stacklevel=3)


def _serve(
    policy_folder: str, config: SelfLearnerConfig, background: BackgroundConfig, inbox: Any, box: WeightBox, done: Any
) -> None:
    """The learner's process, until it is told to stop or is alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that acts
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(background.niceness)
    model = NeonVLA.from_pretrained(policy_folder)
    learner = NeonSelfLearner(model, load_forward_model(model, Path(policy_folder)), config)
    path = background.state_path
    if path is not None and path.exists():
        load_learning_state(path, learner)
    box.publish(_flat(learner))
    while (message := _next(inbox)) is not None:
        what, batch = message
        if what == "stop":
            break
        _act_on(learner, what, batch, background.lock_step)
        if what == ("learn" if background.lock_step else "episode"):
            box.publish(_flat(learner))
        if what == "episode" and learner.episodes % background.save_every == 0:
            _save(path, learner)
        done[0] += what != "learn"  # last: what is counted is saved, too
    _save(path, learner)


def _act_on(learner: NeonSelfLearner, what: str, batch: Any, lock_step: bool) -> None:
    if what == "learn":
        learner.learn()
    elif what == "end_regime":
        learner.end_regime(batch)
    else:
        items = unstack({name: torch.from_numpy(value) for name, value in batch.items()})
        _watch(learner, items)
        learner._keep(items)
        for _ in range(0 if lock_step else len(items)):  # as many as while the episode was played
            learner.learn()


@torch.no_grad()
def _watch(learner: NeonSelfLearner, items: list[Experience]) -> None:
    drift = learner.drift
    if drift is None:
        return
    for item in items:
        foreseen = learner.forward_model(item.fused[None], item.executed[None])[0]
        drift.observe(residual(foreseen, item.fused_after))
        item.seen = drift.chunk


def _next(inbox: Any) -> tuple[str, Any] | None:
    """The next message; None once the process that acts is gone."""
    parent = multiprocessing.parent_process()
    while True:
        try:
            message: tuple[str, Any] = inbox.get(timeout=PARENT_CHECK_S)
            return message
        except queue.Empty:
            if parent is not None and not parent.is_alive():
                return None


def _save(path: Path | None, learner: NeonSelfLearner) -> None:
    if path is None:
        return
    try:
        save_learning_state(path, learner)
    except OSError as error:
        warnings.warn(f"{error}; learning goes on and saves again later.", stacklevel=2)


def _flat(learner: NeonSelfLearner) -> np.ndarray:
    """All weights that learn, (size,) float32."""
    return torch.cat([param.detach().reshape(-1) for param in learner.params.values()]).numpy()


@torch.no_grad()
def _fill(learner: NeonSelfLearner, weights: np.ndarray) -> None:
    parts = torch.from_numpy(weights).split([param.numel() for param in learner.params.values()])
    for param, part in zip(learner.params.values(), parts, strict=True):
        param.copy_(part.view_as(param))

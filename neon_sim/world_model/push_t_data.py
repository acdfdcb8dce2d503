"""What a world model of Push-T learns from and is judged on: a noisy script and a wanderer, both near the block.

A model step is 5 control steps (0.5 s), as published: one picture, and one command of the 5 actions that follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.training.workers import parallel_map
from neon_sim.world_model.push_t import REACH, TABLE, PushT, distance_to_block, draw_state, picture, solved
from neon_sim.world_model.push_t_pusher import push_action
from neon_sim.world_model.rollouts import JUDGED_FROM, RolloutShard, missing, save_shard

BLOCK: Final = 5  # control steps of a model step
COMMAND: Final = 2 * BLOCK  # numbers of a command
GOAL_STEPS: Final = 25  # control steps from start to goal, published
_GOAL_LASTS: Final = (15, 60)  # control steps that the script has one goal: from, below
_WANDER_LASTS: Final = (2, 8)  # that the wanderer keeps a direction
_LEAD_IN: Final = (5, 60)  # control steps before a problem's start: from, below
_MOVED_PX, _TURNED_RAD = 70.0, 0.8  # spread of the script's goals around the block: px, rad
_NEAR_BLOCK: Final = 100.0  # px: the wanderer's targets


@dataclass(frozen=True)
class PushTData:
    """What is recorded. Published: 18,685 episodes of an expert, 196 control steps long."""

    episodes: int = 2000
    steps: int = 24  # model steps
    image_size: int = 64  # px
    wander_share: float = 0.3  # of the episodes; the others are the script's
    noise: float = 0.15  # of the script: standard deviation of an action, which is in [-1, 1]
    shard_episodes: int = 50
    first_seed: int = 0

    def __post_init__(self) -> None:
        if min(self.episodes, self.steps, self.image_size, self.shard_episodes) < 1:
            raise ValueError(f"Recording wants counts of one or more, got {self}.")
        if not 0.0 <= self.wander_share <= 1.0 or self.noise < 0.0:
            raise ValueError(f"Recording wants wander_share in [0, 1] and noise of 0 or more, got {self}.")
        if not 0 <= self.first_seed <= JUDGED_FROM - self.episodes:
            raise ValueError(f"Recordings have seeds from 0 to 2**31 - 1, judging has those above, got {self}.")


class Behaviour:
    """One episode's way of acting, from its own generator: the noisy script with goals that change, or a wanderer."""

    def __init__(self, config: PushTData, rng: np.random.Generator) -> None:
        self.kind = "wander" if rng.random() < config.wander_share else "script"
        self._noise, self._rng, self._left = config.noise, rng, 0
        self._goal, self._target = np.zeros(7), np.zeros(2)

    def action(self, state: np.ndarray) -> np.ndarray:
        """The next action (2,) in [-1, 1]."""
        if self._left == 0:
            self._left = int(self._rng.integers(*(_WANDER_LASTS if self.kind == "wander" else _GOAL_LASTS)))
            self._goal = draw_goal(state, self._rng)
            self._target = state[2:4] + self._rng.uniform(-_NEAR_BLOCK, _NEAR_BLOCK, 2)
        self._left -= 1
        if self.kind == "wander":
            return np.clip((self._target - state[:2]) / REACH, -1.0, 1.0)
        return np.clip(push_action(state, self._goal) + self._rng.normal(0.0, self._noise, 2), -1.0, 1.0)


def draw_goal(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A state (7,) not far from this one, on the table, the disc clear of the block."""
    goal = state.copy()
    goal[2:4] = np.clip(state[2:4] + rng.normal(0.0, _MOVED_PX, 2), 100.0, TABLE - 100.0)
    goal[4] += rng.normal(0.0, _TURNED_RAD)
    goal[5:] = 0.0
    while True:
        goal[:2] = rng.uniform(30.0, TABLE - 30.0, 2)
        if distance_to_block(goal[:2], goal) > 25.0:
            return goal


def play_episode(config: PushTData, seed: int, steps: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Play `steps` control steps: states (steps + 1, 7), actions (steps, 2), and who acted."""
    rng = np.random.default_rng([seed, 41])
    behaviour, world = Behaviour(config, rng), PushT(draw_state(rng))
    states, actions = [world.state], []
    for _ in range(steps):
        actions.append(behaviour.action(states[-1]))
        states.append(world.step(actions[-1]))
    return np.array(states), np.array(actions).reshape(-1, 2), behaviour.kind


def record_episode(config: PushTData, seed: int) -> dict[str, Any]:
    """T = steps + 1 moments. Keys: frames (T, S, S, 3) uint8, commands (T - 1, 10), proprio (T, 4) the disc's place and
    velocity in px and px/s (LeWM as published does not look at it), states (T, 7), all float32; length, behaviour and
    seed.
    """
    states, actions, kind = play_episode(config, seed, BLOCK * config.steps)
    states = states[::BLOCK]
    return {
        "frames": np.stack([picture(state, config.image_size) for state in states]),
        "commands": actions.reshape(-1, COMMAND).astype(np.float32),
        "proprio": states[:, [0, 1, 5, 6]].astype(np.float32),
        "states": states.astype(np.float32),
        "length": len(states),
        "behaviour": kind,
        "seed": seed,
    }


def record(config: PushTData, folder: Path, workers: int) -> int:
    """Record what is missing in `folder`, for `Rollouts` to read; returns how many moments that was."""
    size = config.shard_episodes
    starts = range(0, config.episodes, size)
    shards = [
        RolloutShard(str(folder), i, config.first_seed + start, min(size, config.episodes - start))
        for i, start in enumerate(starts)
    ]
    work = missing(shards)
    return sum(parallel_map(partial(_record_shard, config), work, min(workers, len(work)), "recording"))


def _record_shard(config: PushTData, shard: RolloutShard) -> int:
    episodes = [record_episode(config, shard.first_seed + i) for i in range(shard.count)]
    save_shard(shard, episodes)
    return sum(episode["length"] for episode in episodes)


@dataclass(frozen=True)
class PushTProblem:
    """A start and a goal that recorded behaviour got to from there, as published; no start solves its goal."""

    seed: int
    start: np.ndarray  # (7,)
    goal: np.ndarray  # (7,)
    actions: np.ndarray  # (25, 2) that led there

    @property
    def pushes(self) -> bool:
        """Whether the block has to move: at the start it alone is out of tolerance."""
        return not solved(np.concatenate([self.goal[:2], self.start[2:]]), self.goal)


def find_problem(config: PushTData, seed: int) -> PushTProblem:
    """The same seed gives the same problem, from episodes that no recording has."""
    for attempt in range(1000):
        rng = np.random.default_rng([seed, 43, attempt])
        begin = int(rng.integers(*_LEAD_IN))
        other = int(rng.integers(JUDGED_FROM, 2 * JUDGED_FROM))
        states, actions, _ = play_episode(config, other, begin + GOAL_STEPS)
        on_table = bool(((states[-1, :4] > 0.0) & (states[-1, :4] < TABLE)).all())
        if on_table and not solved(states[begin], states[-1]):
            return PushTProblem(seed, states[begin], states[-1], actions[begin:])
    raise ValueError(f"No start of seed {seed} leaves anything to do. Record behaviour that moves more: {config}.")


def find_problems(config: PushTData, seeds: Sequence[int]) -> list[PushTProblem]:
    """One for each seed."""
    return [find_problem(config, seed) for seed in seeds]

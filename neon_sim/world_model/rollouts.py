"""What a world model learns from: the expert, the expert disturbed, and chance, in command space, at 10 Hz.

A shard is two files of a few episodes each. `frames_N.npy` can be read in parts without loading the rest, and
`rest_N.npz`, written last, says that the shard is whole. An episode depends on its seed alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.world_model.command_space import CommandSpace, command_space, expert_command, palm_command
from neon_sim.world_model.worlds import Moment, moment, open_world, step_world

BEHAVIOURS: Final = ("expert", "noisy", "random")
JUDGED_FROM: Final = 2**31  # seeds of the env: recordings, and so training, have those below, judging the others
_HELD_STEPS: Final = (3, 16)  # model steps that a random command lasts: from, below
_REACH_STEPS: Final = (8, 25)  # that the expert of reach stays with one ball


@dataclass(frozen=True)
class RolloutConfig:
    """What is recorded."""

    task: str = "reach"
    episodes: int = 1200
    steps: int = 60  # of 0.1 s
    image_size: int = 64  # px
    expert_share: float = 0.3
    noisy_share: float = 0.4  # what is left is random
    noise: float = 0.4  # of the noisy expert: standard deviation, of half the box
    shard_episodes: int = 20
    first_seed: int = 6_000_000

    def __post_init__(self) -> None:
        command_space(self.task)
        if not 0 <= self.first_seed <= JUDGED_FROM - self.episodes:
            raise ValueError(f"Recordings have seeds from 0 to 2**31 - 1, judging has those above, got {self}.")
        if min(self.episodes, self.steps, self.shard_episodes) < 1:
            raise ValueError(f"Recording wants an episode, a step and a shard of one or more, got {self}.")
        if min(self.expert_share, self.noisy_share) < 0.0 or self.expert_share + self.noisy_share > 1.0:
            raise ValueError(f"Shares are in [0, 1] together, got {self.expert_share} and {self.noisy_share}.")


class Behaviour:
    """One episode's way of choosing commands; draws from its own generator, whatever the env draws."""

    def __init__(self, config: RolloutConfig, rng: np.random.Generator, kind: str | None = None) -> None:
        """kind: one of BEHAVIOURS, or None to draw it by the config's shares."""
        shares = (config.expert_share, config.noisy_share, max(0.0, 1.0 - config.expert_share - config.noisy_share))
        self.kind = kind or str(rng.choice(BEHAVIOURS, p=np.array(shares) / sum(shares)))
        self._config, self._rng, self._space = config, rng, command_space(config.task)
        self._left = self._ball_left = 0
        self._wanders, self._offset, self._ball = False, np.zeros(self._space.dim), (0, "")

    def command(self, env: Any) -> np.ndarray:
        """The next command (A,) in [-1, 1]."""
        if self._left == 0:
            self._left = int(self._rng.integers(*_HELD_STEPS))
            self._wanders = self.kind == "random" or (self.kind == "noisy" and self._rng.random() < 0.4)
            spread = self._config.noise * (self.kind == "noisy")
            self._offset = self._rng.uniform(-1.0, 1.0, self._space.dim)
            if not self._wanders:
                self._offset = self._rng.normal(0.0, 1.0, self._space.dim) * spread
        self._left -= 1
        wish = np.zeros(self._space.dim) if self._wanders else self._expert(env)
        return np.clip(wish + self._offset, -1.0, 1.0)

    def _expert(self, env: Any) -> np.ndarray:
        """The task's expert; that of reach goes on to another ball or hand after a while."""
        if self._space.task != "reach":
            return expert_command(self._space, env)
        balls = env.privileged()["ball_pos_b"]
        if self._ball_left == 0:
            self._ball_left = int(self._rng.integers(*_REACH_STEPS))
            self._ball = int(self._rng.integers(2)), str(self._rng.choice(sorted(balls)))
        self._ball_left -= 1
        hand, color = self._ball
        return palm_command(self._space, hand, balls[color])


def record_episode(env: Any, config: RolloutConfig, seed: int) -> dict[str, Any]:
    """Play one episode: T = steps + 1 moments and the commands between them.

    Keys: frames (T, S, S, 3) uint8, proprio (T, 125), commands (T - 1, A), base (T, 3), palms (T, 6), thing (T, 3),
    target (T, 3), all float32 (see `Moment`), length (moments before a fall; zeros follow), instruction, behaviour,
    seed.
    """
    space = command_space(config.task)
    behaviour = Behaviour(config, np.random.default_rng([seed, 23]))
    obs, info = env.reset(seed=seed)
    seen, ended = [moment(env, obs)], False
    commands: list[np.ndarray] = []
    while len(commands) < config.steps and not ended:
        command = behaviour.command(env)
        obs, ended = step_world(env, space, command, obs)
        if not ended:
            commands.append(command)
            seen.append(moment(env, obs))
    return _packed(seen, commands, config.steps, space) | {
        "length": len(seen),
        "instruction": info["instruction"],
        "behaviour": behaviour.kind,
        "seed": seed,
    }


def _packed(seen: list[Moment], commands: list[np.ndarray], steps: int, space: CommandSpace) -> dict[str, np.ndarray]:
    arrays = {"frames": np.stack([m.frame for m in seen])}
    for name in ("proprio", "base", "palms", "thing", "target"):
        arrays[name] = np.stack([getattr(m, name) for m in seen]).astype(np.float32)
    arrays["commands"] = np.array(commands, np.float32).reshape(-1, space.dim)
    missing = steps + 1 - len(seen)
    return {name: np.pad(value, [(0, missing), *[(0, 0)] * (value.ndim - 1)]) for name, value in arrays.items()}


@dataclass(frozen=True)
class RolloutShard:
    """One piece of the work."""

    folder: str
    number: int
    first_seed: int
    count: int

    @property
    def frames_path(self) -> Path:
        """Pictures, (N, T, S, S, 3) uint8."""
        return Path(self.folder) / f"frames_{self.number:05d}.npy"

    @property
    def rest_path(self) -> Path:
        """Everything else; it is there once the shard is whole."""
        return Path(self.folder) / f"rest_{self.number:05d}.npz"


def shards_of(config: RolloutConfig, folder: Path) -> list[RolloutShard]:
    """The work, the same for any number of workers."""
    starts, size = range(0, config.episodes, config.shard_episodes), config.shard_episodes
    return [
        RolloutShard(str(folder), i, config.first_seed + start, min(size, config.episodes - start))
        for i, start in enumerate(starts)
    ]


def missing(shards: list[RolloutShard]) -> list[RolloutShard]:
    """Those that are still to be recorded."""
    return [shard for shard in shards if not shard.rest_path.exists()]


_WORKER: dict[str, Any] = {}


def open_worker(config: RolloutConfig) -> None:
    """Prepare this process."""
    _WORKER["config"], _WORKER["env"] = config, open_world(config.task, config.image_size)


def record_shard(shard: RolloutShard) -> int:
    """Record one shard in a worker that `open_worker` prepared; returns its number of moments."""
    config, env = _WORKER["config"], _WORKER["env"]
    episodes = [record_episode(env, config, shard.first_seed + i) for i in range(shard.count)]
    save_shard(shard, episodes)
    return sum(episode["length"] for episode in episodes)


def save_shard(shard: RolloutShard, episodes: Sequence[Mapping[str, Any]]) -> None:
    """Write both files; each appears under its name only when it is whole."""
    Path(shard.folder).mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: np.stack([e[name] for e in episodes]) for name in episodes[0]}
    partial = shard.frames_path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.save(file, arrays.pop("frames"))
    partial.replace(shard.frames_path)
    partial = shard.rest_path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.savez(file, **arrays)
    partial.replace(shard.rest_path)

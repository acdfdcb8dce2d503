"""What a world model learns from: the expert, the expert disturbed, and chance, in command space, at 10 Hz.

Where a task wants another mix, `mixed_for` knows it: success asks for standing, so the robot stops and stands in
between, and a box that nobody touches teaches nothing of pushing.

A shard is two files of a few episodes each. `frames_N.npy` can be read in parts without loading the rest, and
`rest_N.npz`, written last, says that the shard is whole. An episode depends on its seed alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.world_model.command_space import CommandSpace, command_space, expert_command, palm_command
from neon_sim.world_model.worlds import Moment, moment, object_places, open_world, step_world

BEHAVIOURS: Final = ("expert", "noisy", "random")
JUDGED_FROM: Final = 2**31  # seeds of the env: recordings, and so training, have those below, judging the others
_HELD_STEPS: Final = (3, 16)  # model steps that a random command lasts: from, below
_STAND_STEPS: Final = (5, 13)  # that it stands: half a second and more, as the walker needs some of it to stop
_WALK_UP_STEPS: Final = 40  # at most, until the box has moved
_TOUCHED_M: Final = 0.01  # that a box moves when it is touched
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
    stop_share: float = 0.0  # chance that the robot is told to stand for a while, before each command that is held
    contact_share: float = 0.0  # episodes of push_box that begin when the expert has come to the box and moved it
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
        walks, pushes = self.task != "reach", self.task == "push_box"
        if not 0.0 <= self.stop_share <= 1.0 * walks or not 0.0 <= self.contact_share <= 1.0 * pushes:
            raise ValueError(
                f"stop_share is in [0, 1], and 0 for reach; contact_share likewise, and 0 but for push_box; got {self}."
            )


MIXES: Final[Mapping[str, Mapping[str, Any]]] = {
    # The box moves in 81 % of the expert's steps, 35 % of the noisy expert's and 24 % of those by chance.
    "push_box": {"expert_share": 0.4, "noisy_share": 0.5, "stop_share": 0.12, "contact_share": 0.25},
    "navigate": {"stop_share": 0.12},
}


def mixed_for(task: str, config: RolloutConfig) -> RolloutConfig:
    """The same for a task, with that task's mix."""
    return replace(config, task=task, **MIXES.get(task, {}))


class Behaviour:
    """One episode's way of choosing commands; draws from its own generator, whatever the env draws."""

    def __init__(self, config: RolloutConfig, rng: np.random.Generator, kind: str | None = None) -> None:
        """kind: one of BEHAVIOURS, or None to draw it by the config's shares."""
        shares = (config.expert_share, config.noisy_share, max(0.0, 1.0 - config.expert_share - config.noisy_share))
        self.kind = kind or str(rng.choice(BEHAVIOURS, p=np.array(shares) / sum(shares)))
        self._config, self._rng, self._space = config, rng, command_space(config.task)
        self._left = self._ball_left = 0
        self._wanders, self._offset, self._ball = False, np.zeros(self._space.dim), (0, "")
        self._stands = False

    def command(self, env: Any) -> np.ndarray:
        """The next command (A,) in [-1, 1]."""
        if self._left == 0:
            stop = self._config.stop_share  # not asked of the generator where it is 0: those episodes stay as they are
            self._stands = stop > 0.0 and not self._stands and self._rng.random() < stop
            self._left = int(self._rng.integers(*_STAND_STEPS)) if self._stands else 0
        if self._left == 0:
            self._left = int(self._rng.integers(*_HELD_STEPS))
            self._wanders = self.kind == "random" or (self.kind == "noisy" and self._rng.random() < 0.4)
            spread = self._config.noise * (self.kind == "noisy")
            self._offset = self._rng.uniform(-1.0, 1.0, self._space.dim)
            if not self._wanders:
                self._offset = self._rng.normal(0.0, 1.0, self._space.dim) * spread
        self._left -= 1
        if self._stands:
            return self._space.from_units(np.zeros(self._space.dim))
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
    target (T, 3), objects (T, K, 3) (`object_places`), all float32 (see `Moment`), length (moments before a fall; zeros
    follow), instruction, behaviour, seed, and whether the first moment is that of a `reset`, and not of a touched box.
    """
    space, rng = command_space(config.task), np.random.default_rng([seed, 23])
    behaviour = Behaviour(config, rng)
    obs, info = env.reset(seed=seed)
    fresh = not (config.contact_share > 0.0 and rng.random() < config.contact_share)
    if not fresh:
        touched = walk_up(env, space, obs)
        fresh = touched is None
        obs, info = env.reset(seed=seed) if touched is None else (touched, info)
    seen, objects, ended = [moment(env, obs)], [object_places(env, config.task)], False
    commands: list[np.ndarray] = []
    while len(commands) < config.steps and not ended:
        command = behaviour.command(env)
        obs, ended = step_world(env, space, command, obs)
        if not ended:
            commands.append(command)
            seen.append(moment(env, obs))
            objects.append(object_places(env, config.task))
    return _packed(seen, objects, commands, config.steps, space) | {
        "length": len(seen),
        "instruction": info["instruction"],
        "behaviour": behaviour.kind,
        "seed": seed,
        "reset": fresh,
    }


def walk_up(env: Any, space: CommandSpace, obs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Let the expert of push_box go on until the box has moved; what is observed then, or None after a fall."""
    at = np.array(env.privileged()["box_pos_w"])
    for _ in range(_WALK_UP_STEPS):
        obs, ended = step_world(env, space, expert_command(space, env), obs)
        if ended:
            return None
        if np.linalg.norm(env.privileged()["box_pos_w"] - at) > _TOUCHED_M:
            break
    return dict(obs)


def _packed(
    seen: list[Moment], objects: list[np.ndarray], commands: list[np.ndarray], steps: int, space: CommandSpace
) -> dict[str, np.ndarray]:
    arrays = {"frames": np.stack([m.frame for m in seen])}
    for name in ("proprio", "base", "palms", "thing", "target"):
        arrays[name] = np.stack([getattr(m, name) for m in seen]).astype(np.float32)
    arrays["objects"] = np.stack(objects)
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

"""The one interaction loop: for collecting, evaluating and self-learning alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, overload

import numpy as np
from gymnasium.vector import AutoresetMode

from neon_sim.env import NeonG1Env
from neon_sim.episode import NeonEpisode
from neon_sim.names import nearest
from neon_sim.vector_env import NeonG1VectorEnv


class ActsInChunks(Protocol):
    """The part of `neon_sim.inference.policy.Policy` that the loop needs."""

    def reset(self, env_ids: list[int] | None = None) -> None: ...

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None: ...

    def act(self) -> np.ndarray: ...


class ActsInRows(Protocol):
    """What acts for the N robots of a vector env: of each call it is said which of them still play."""

    def reset(self, env_ids: list[int] | None = None) -> None: ...

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float, rows: Sequence[int]) -> None: ...

    def act(self, rows: Sequence[int]) -> np.ndarray: ...


class FrameLog:
    """Frames of one shape, one after the other, that end as one array (T, ...) and are never held twice.

    A list that is stacked in the end is: ten seconds of stereo pictures are 0.9 GB. This is one piece of memory that
    the system makes longer in place.

    Args:
        dtype: of the frames.
    """

    def __init__(self, dtype: Any) -> None:
        self._frames = np.empty(0, dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, frame: np.ndarray) -> None:
        """Copy a frame in. Raises ValueError for another shape than the first one's."""
        if self._count and frame.shape != self._frames.shape[1:]:
            raise ValueError(f"Frames of one log have one shape, {self._frames.shape[1:]}, got {frame.shape}.")
        if self._count == len(self._frames):
            self._frames.resize((self._count + max(16, self._count // 8), *frame.shape), refcheck=False)
        self._frames[self._count] = frame
        self._count += 1

    def array(self, steps: int | None = None) -> np.ndarray:
        """The first `steps` frames, all of them by default, as (T, ...). The log is empty afterwards."""
        frames, count = self._frames, self._count if steps is None else min(steps, self._count)
        self._frames, self._count = np.empty(0, frames.dtype), 0
        frames.resize((count, *frames.shape[1:]), refcheck=False)
        return frames


@overload
def rollout(
    env: NeonG1Env,
    policy: ActsInChunks,
    steps: int | None = None,
    seed: int | None = None,
    execute: int = 16,
    keep: tuple[str, ...] = ("proprio",),
    stop_on_success: bool = False,
    on_chunk: Callable[[NeonG1Env], None] | None = None,
    options: dict[str, Any] | None = None,
) -> NeonEpisode: ...


@overload
def rollout(
    env: NeonG1VectorEnv,
    policy: ActsInRows,
    steps: int | None = None,
    seed: int | None = None,
    execute: int = 16,
    keep: tuple[str, ...] = ("proprio",),
    stop_on_success: bool = False,
    on_chunk: Callable[[NeonG1VectorEnv], None] | None = None,
    options: dict[str, Any] | None = None,
) -> list[NeonEpisode]: ...


def rollout(
    env: Any,
    policy: Any,
    steps: int | None = None,
    seed: int | None = None,
    execute: int = 16,
    keep: tuple[str, ...] = ("proprio",),
    stop_on_success: bool = False,
    on_chunk: Callable[[Any], None] | None = None,
    options: dict[str, Any] | None = None,
) -> NeonEpisode | list[NeonEpisode]:
    """Run one episode and return it; of a vector env one episode of each robot, in the order of the rows.

    Args:
        env: the environment, unwrapped, or a NeonG1VectorEnv that resets itself. A robot of the latter whose episode is
            over is neither shown nor asked any more, until all are.
        policy: what acts; it is reset first.
        steps: control steps at most; None = until the episode ends.
        seed: of `env.reset`.
        execute: how many steps of each chunk are carried out before the policy is asked again.
        keep: observation keys that are recorded, () for none.
        stop_on_success: end at the first success.
        on_chunk: called before every `policy.act()`.
        options: of `env.reset`.

    Raises:
        ValueError: `steps` or `execute` below 1, a key to keep that the env does not observe, or a vector env that
            shows the next episode in the step that ends one.
    """
    _check(env, steps, execute, keep)
    if isinstance(env, NeonG1VectorEnv):
        if env.autoreset_mode is not AutoresetMode.NEXT_STEP:
            raise ValueError(f"rollout wants a vector env of autoreset_mode NextStep, got {env.autoreset_mode.value}.")
        return _rollout_rows(env, policy, steps, seed, execute, keep, stop_on_success, on_chunk, options)
    policy.reset()
    obs, info = env.reset(seed=seed, options=options)
    policy.observe(obs, info["time_s"])
    kept = {key: FrameLog(env.observation_space[key].dtype) for key in keep}
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    ends: list[tuple[bool, bool]] = []
    terminated = truncated = False
    chunk, used = np.empty((0, env.action_map.dim)), 0
    while not (terminated or truncated) and (steps is None or len(actions) < steps):
        if used == len(chunk):
            if on_chunk is not None:
                on_chunk(env)
            chunk, used = policy.act()[0][:execute], 0
        for key, frames in kept.items():
            frames.append(obs[key])
        obs, reward, terminated, truncated, info = env.step(chunk[used])
        actions.append(chunk[used])
        rewards.append(reward)
        ends.append((terminated, truncated))
        used += 1
        policy.observe(obs, info["time_s"])
        if stop_on_success and info["success"]:
            break
    return NeonEpisode(
        observations={key: frames.array() for key, frames in kept.items()},
        actions=np.array(actions, dtype=np.float32),
        rewards=np.array(rewards, dtype=np.float32),
        terminated=np.array(ends, dtype=bool).reshape(-1, 2)[:, 0],
        truncated=np.array(ends, dtype=bool).reshape(-1, 2)[:, 1],
        instruction=info["instruction"],
        success=bool(info["success"]),
        control_mode=str(env.config.control_mode),
    )


def _rollout_rows(
    envs: NeonG1VectorEnv,
    policy: ActsInRows,
    steps: int | None,
    seed: int | None,
    execute: int,
    keep: tuple[str, ...],
    stop_on_success: bool,
    on_chunk: Callable[[NeonG1VectorEnv], None] | None,
    options: dict[str, Any] | None,
) -> list[NeonEpisode]:
    policy.reset()
    obs, infos = envs.reset(seed=seed, options=options)
    rows, words = list(range(envs.num_envs)), list(infos["instruction"])
    policy.observe(obs, float(infos["time_s"][0]), rows)
    chunks, used = np.empty((len(rows), 0, 0)), 0
    taken: list[dict[str, np.ndarray]] = []
    lengths, won = np.zeros(len(rows), dtype=np.intp), np.zeros(len(rows), dtype=bool)
    while rows and (steps is None or len(taken) < steps):
        if used == chunks.shape[1]:
            if on_chunk is not None:
                on_chunk(envs)
            chunks, used = policy.act(rows)[:, :execute], 0
        before = {key: obs[key] for key in keep}
        obs, reward, terminated, truncated, infos = envs.step(chunks[:, used])
        ends = {"terminated": terminated, "truncated": truncated}
        taken.append({"actions": chunks[:, used], "rewards": reward, **ends, **before})
        used += 1
        lengths[rows], won[rows] = len(taken), infos["success"][rows]
        policy.observe(obs, float(infos["time_s"][rows[0]]), rows)
        over = terminated | truncated | (won & stop_on_success)
        rows = [row for row in rows if not over[row]]
    return [
        _episode_of(envs, row, taken[: lengths[row]], keep, words[row], bool(won[row])) for row in range(envs.num_envs)
    ]


def _episode_of(
    envs: NeonG1VectorEnv, row: int, taken: list[dict[str, np.ndarray]], keep: tuple[str, ...], words: str, won: bool
) -> NeonEpisode:
    """One robot's part of what all have done."""

    def own(name: str) -> np.ndarray:
        return np.array([step[name][row] for step in taken])

    return NeonEpisode(
        observations={key: own(key) for key in keep},
        actions=own("actions").astype(np.float32),
        rewards=own("rewards").astype(np.float32),
        terminated=own("terminated"),
        truncated=own("truncated"),
        instruction=words,
        success=won,
        control_mode=str(envs.config.control_mode),
    )


def _check(env: Any, steps: int | None, execute: int, keep: tuple[str, ...]) -> None:
    for name, value in (("steps", steps), ("execute", execute)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    known = getattr(env, "single_observation_space", env.observation_space).spaces
    for key in keep:
        if key not in known:
            raise nearest("observation to keep", key, known)

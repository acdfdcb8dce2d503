"""Our worlds as Stable-Baselines3 wants them: a VecEnv on NeonG1-v0's own vector env, or goals for hindsight."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

from neon_sim.inference.sb3_policy import CLIP
from neon_sim.wrappers.goal import ReachGoal

ENV_ID = "NeonG1-v0"


class FlatVecEnv(VecEnv):
    """NeonG1-v0's vector env with some keys of its observation as one float32 vector (N, sum of lengths).

    Physics runs on the vector env's threads, in one process. The keys are joined once for all envs in each step.

    Args:
        num_envs: N.
        keys: float vectors of the observation, joined in this order.
        options: of NeonG1-v0, and `threads`.
    """

    def __init__(self, num_envs: int, keys: Sequence[str], options: dict[str, Any]) -> None:
        self.envs: Any = gymnasium.make_vec(ENV_ID, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **options)
        self._keys = tuple(keys)
        observed: Any = self.envs.single_observation_space
        boxes = [observed[key] for key in self._keys]
        low, high = (np.concatenate([getattr(box, end) for box in boxes]) for end in ("low", "high"))
        flat = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self._actions: np.ndarray | None = None
        super().__init__(num_envs, flat, self.envs.single_action_space)

    def reset(self) -> np.ndarray:
        """Begin all episodes; seeds given by `seed` count once."""
        obs, _ = self.envs.reset(seed=None if self._seeds[0] is None else self._seeds)
        self._reset_seeds()
        self._reset_options()
        return self._flat(obs)

    def step_async(self, actions: np.ndarray) -> None:
        """Take (N, A) actions."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One control step of all; an episode that is over has begun anew, and its last observation is in its info."""
        obs, reward, terminated, truncated, infos = self.envs.step(self._actions)
        over = terminated | truncated
        said: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(over).tolist():
            said[row] = {
                "terminal_observation": self._flat(infos["final_obs"][row]),
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
                "is_success": bool(infos["final_info"]["success"][row]),
            }
        return self._flat(obs), reward.astype(np.float32), over, said

    def close(self) -> None:
        """Close every env."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of some envs."""
        return [getattr(env, attr_name) for env in self._some(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of some envs."""
        for env in self._some(indices):
            setattr(env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of some envs."""
        return [getattr(env, method_name)(*args, **kwargs) for env in self._some(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No env is."""
        return [False for _ in self._some(indices)]

    def _flat(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([obs[key] for key in self._keys], axis=-1)

    def _some(self, indices: Any) -> list[Any]:
        return [self.envs.unwrapped.envs[row] for row in self._get_indices(indices)]


class _Succeeds(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Says `is_success`, the word that Stable-Baselines3 counts, and leaves out what it has no use for."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, {"is_success": bool(info["success"])}


def flat_envs(num_envs: int, keys: Sequence[str], options: dict[str, Any]) -> VecNormalize:
    """`FlatVecEnv` with episodes counted and observations brought to mean 0 and variance 1."""
    return VecNormalize(VecMonitor(FlatVecEnv(num_envs, keys, options)), norm_reward=False, clip_obs=CLIP)


def goal_envs(num_envs: int, options: dict[str, Any]) -> VecNormalize:
    """Reach with goals, one env after the other: hindsight asks each one for its reward. Otherwise as `flat_envs`."""

    def make() -> gymnasium.Env[Any, Any]:
        return _Succeeds(ReachGoal(gymnasium.make(ENV_ID, disable_env_checker=True, **options)))

    return VecNormalize(VecMonitor(DummyVecEnv([make] * num_envs)), norm_reward=False, clip_obs=CLIP)

"""DmEnv: the env as dm_control users know it, with timesteps, specs and discounts."""

from typing import Any

import gymnasium
import numpy as np


class DmEnv:
    """A `dm_env.Environment` by its methods; dm_env itself is needed only here (`pip install dm_env`).

    The discount is 0 where an episode terminated and 1 where time ran out. A step after the last one resets, as dm_env
    has it, and takes no action.

    Args:
        env: with Box or Dict-of-Box observations and a Box action space.
        seed: of the first reset.

    Raises:
        ModuleNotFoundError: dm_env is not installed.
    """

    def __init__(self, env: gymnasium.Env[Any, np.ndarray], seed: int | None = None) -> None:
        try:
            import dm_env
            from dm_env import specs
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("DmEnv needs dm_env: pip install dm_env (or neon-sim[dev]).") from error
        self._dm, self._specs = dm_env, specs
        self.env, self._seed, self._over = env, seed, True

    def reset(self) -> Any:
        """Begin an episode: its first timestep."""
        obs, _ = self.env.reset(seed=self._seed)
        self._seed, self._over = None, False
        return self._dm.restart(obs)

    def step(self, action: np.ndarray) -> Any:
        """One control step: a timestep."""
        if self._over:
            return self.reset()
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self._over = terminated or truncated
        if terminated:
            return self._dm.termination(reward=float(reward), observation=obs)
        if truncated:
            return self._dm.truncation(reward=float(reward), observation=obs)
        return self._dm.transition(reward=float(reward), observation=obs)

    def observation_spec(self) -> Any:
        """A `BoundedArray`, or a dict of them."""
        space = self.env.observation_space
        if isinstance(space, gymnasium.spaces.Dict):
            return {name: self._spec(part, name) for name, part in space.items()}
        return self._spec(space, "observation")

    def action_spec(self) -> Any:
        """The `BoundedArray` of one action."""
        return self._spec(self.env.action_space, "action")

    def reward_spec(self) -> Any:
        """A float."""
        return self._specs.Array((), float, "reward")

    def discount_spec(self) -> Any:
        """A float from 0 to 1."""
        return self._specs.BoundedArray((), float, 0.0, 1.0, "discount")

    def close(self) -> None:
        """Close the env."""
        self.env.close()

    def __enter__(self) -> "DmEnv":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _spec(self, space: Any, name: str) -> Any:
        return self._specs.BoundedArray(space.shape, space.dtype, space.low, space.high, name)

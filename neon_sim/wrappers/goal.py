"""ReachGoal: reach as a goal-conditioned env, so that hindsight experience replay works on it."""

from collections.abc import Mapping
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces

_PALMS: Final = (slice(0, 3), slice(7, 10))  # of the "eef" key: left and right palm
_FARTHEST: Final = 2.0  # m, any goal in the pelvis frame


def goal_view(obs: Mapping[str, np.ndarray], truth: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Reach as HER libraries see it: observation (141,), achieved_goal (3,) m and desired_goal (3,) m.

    truth: the task's `privileged`.
    """
    hand, target = truth["hand"], truth["target_pos_b"]
    which = np.eye(2, dtype=np.float32)[hand]
    return {
        "observation": np.concatenate([obs["proprio"], obs["eef"], which]),
        "achieved_goal": obs["eef"][_PALMS[hand]].copy(),
        "desired_goal": np.clip(target, -_FARTHEST, _FARTHEST).astype(np.float32),
    }


class ReachGoal(gymnasium.Wrapper[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray], np.ndarray]):
    """Observations are a Dict of observation, achieved_goal and desired_goal, as HER libraries want them.

    The goal is the place (3,) m of the named hand's palm in the pelvis frame; where the ball is comes from the truth in
    `info["privileged"]`, so this is for plain RL in simulation. `observation` is proprio, eef and which hand (one-hot).

    Args:
        env: NeonG1-v0 with task "reach" and the sensor "proprio".
        distance: m within which the goal is reached; the task's own by default.

    Raises:
        ValueError: another task, or no proprioception.
    """

    def __init__(self, env: gymnasium.Env[dict[str, np.ndarray], np.ndarray], distance: float | None = None) -> None:
        super().__init__(env)
        observed = getattr(env.observation_space, "spaces", {})
        task: Any = getattr(self.unwrapped, "task", None)
        if getattr(task, "name", None) != "reach" or "eef" not in observed:
            raise ValueError('ReachGoal wraps gymnasium.make("NeonG1-v0", task="reach", sensors=("proprio",)).')
        self.distance = task.config.success_distance if distance is None else distance
        goal = spaces.Box(-_FARTHEST, _FARTHEST, (3,), np.float32)
        low, high = (
            np.concatenate([getattr(observed["proprio"], end), getattr(observed["eef"], end), hand])
            for end, hand in (("low", np.zeros(2)), ("high", np.ones(2)))
        )
        parts = {"observation": spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)}
        self.observation_space = spaces.Dict({**parts, "achieved_goal": goal, "desired_goal": goal})  # type: ignore[assignment]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        return goal_view(obs, info["privileged"]), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step; the reward is that of `compute_reward`."""
        obs, _, terminated, truncated, info = self.env.step(action)
        seen = goal_view(obs, info["privileged"])
        reward = float(self.compute_reward(seen["achieved_goal"], seen["desired_goal"], info))
        return seen, reward, terminated, truncated, info

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
        """0 at the goal and -1 elsewhere, for goals (..., 3) m; info is not read."""
        far = np.linalg.norm(np.asarray(achieved_goal) - np.asarray(desired_goal), axis=-1) > self.distance
        return -far.astype(np.float32)

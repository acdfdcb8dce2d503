"""A planner in a world model as a policy of the live env: it goes for the task's own goal.

What it does can be recorded (agents/collect.py --policy cem) and learned from by any head: a plan costs 50 ms and more,
a head one pass. It is told where the goal is, and the robot, as a scripted expert is; that its commands lead there it
has to imagine from picture and proprioception.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.world_model.bundle import Bundle, load_bundle
from neon_sim.world_model.command_space import COMMAND_SPACES, carry_out
from neon_sim.world_model.controllers import PlanningConfig
from neon_sim.world_model.encoder import shrink_frames
from neon_sim.world_model.judging import model_folder
from neon_sim.world_model.problems import TRUE_POSE, Problem, worded
from neon_sim.world_model.references import make_controller
from neon_sim.world_model.worlds import Moment, moment

SENSES: Final = ("proprio", "camera")  # what a world model is shown


class PlannerPolicy:
    """Acts in chunks of one model step, 5 control ticks.

    Args:
        env: the unwrapped NeonG1-v0 of the world model's task, in arms_only, with the senses `SENSES`.
        bundle: the world model.
        planner: one of `neon_sim.world_model.controllers.PLANNERS`.
        config: its budget; the goal is a state, the robot's pose told.

    Raises:
        ValueError: a world model of another task, a sense that the env lacks, another action space, or no such planner.
    """

    def __init__(
        self, env: Any, bundle: Bundle, planner: str = "cem", config: PlanningConfig | None = None, seed: int = 0
    ) -> None:
        task = env.config.task
        if task != bundle.task:
            raise ValueError(f"This world model is of {bundle.task}, and the task is {task}. Give one of {task}.")
        if missing := [name for name in SENSES if name not in env.observation_space.spaces]:
            raise ValueError(f"A world model is shown {', '.join(SENSES)}: add {', '.join(missing)} to the sensors.")
        G1ActionSpace("arms_only").require_equal(env.action_map, "env")
        self.env, self.bundle = env, bundle
        planning = replace(config or PlanningConfig(), goal=TRUE_POSE)
        self._controller = make_controller(planner, env, bundle, planning, seed)
        self.reset()

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the episode before."""
        self._obs: Mapping[str, np.ndarray] = {}
        self._told: np.ndarray | None = None  # the last command
        self._queue: deque[np.ndarray] = deque()

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """The newest observation is what is planned from."""
        self._obs = obs

    def act(self) -> np.ndarray:
        """(1, 5, 17): the next command of the plan; a new plan where that one ends."""
        seen = self._moment()
        if self._told is None:
            self._controller.begin(self._problem(seen))
        self._controller.see(seen, self._told)
        if not self._queue:
            self._queue.extend(self._controller.decide())
        self._told = self._queue.popleft()
        return carry_out(self.bundle.space, self._told, seen.proprio)[None]

    def _problem(self, seen: Moment) -> Problem:
        """What the instruction names, from here."""
        seed = int(self.env.np_random_seed) % 2**31
        problem = Problem(seed, self.env.get_state(), self._obs, seen, seen, np.zeros((1, 2)), "")
        return worded(self.env, self.bundle.space, problem)

    def _moment(self) -> Moment:
        picture = torch.from_numpy(np.ascontiguousarray(self._obs["camera"]))
        frame = shrink_frames(picture, self.bundle.model.config.image_size).numpy()
        return replace(moment(self.env, self._obs), frame=frame)


def open_planner(name: str, env: Any) -> PlannerPolicy:
    """The planner of that name in the world model of the env's task: one trained here (runs/world_model_TASK), or else
    the shipped one.

    Raises ValueError where nobody plans the task, or as `PlannerPolicy` does.
    """
    return PlannerPolicy(env, load_bundle(world_model_of(env.config.task)), name)


def world_model_of(task: str) -> Path:
    """The folder of the world model that plans a task. Raises ValueError where nobody plans it, naming who does."""
    if task not in COMMAND_SPACES:
        raise ValueError(f"No world model plans {task}. Planners act in {', '.join(COMMAND_SPACES)}.")
    return model_folder(task)

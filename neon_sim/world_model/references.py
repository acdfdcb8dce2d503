"""Whom a latent planner is measured against: physics as the model, a script that knows the truth, chance.

And everyone by name, `make_controller`.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.names import nearest
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.command_space import CommandSpace, carry_out_rows
from neon_sim.world_model.controllers import (
    PLANNERS,
    Controller,
    HeadController,
    LatentController,
    PlanningConfig,
    Search,
    make_planners,
)
from neon_sim.world_model.plan import Cost
from neon_sim.world_model.problems import Problem, scripted_command
from neon_sim.world_model.worlds import Moment, moment, outcome, outcomes, step_world, without_pictures

CONTROLLERS: Final = (*PLANNERS, "amortised", "cloned", "oracle", "expert", "random")
_FALL: Final = 100.0  # m^2


class OracleController:
    """Plans with MuJoCo itself as the model: the true outcome of every candidate. With a budget that is the latent
    planner's (samples, iterations, horizon, hold) it shows what is lost by imagining.

    Candidates are tried side by side (`NeonG1Env.forks`), which parts from the live env by rounding; where a robot has
    no forks (latency, noise), one after the other in the env itself.
    """

    def __init__(
        self, env: Any, space: CommandSpace, config: PlanningConfig, planner: str = "cem", seed: int = 0
    ) -> None:
        self.env, self.space, self.config, self._seed = env, space, config, seed
        self._planners = make_planners(planner, config)

    def begin(self, problem: Problem) -> None:
        """See `Controller`."""
        self._problem = problem
        self._search = Search(self._planners, self.space.dim, self.config, self._seed + problem.seed)
        self._obs: dict[str, np.ndarray] = dict(problem.obs)

    def see(self, seen: Moment, command: np.ndarray | None) -> None:
        """See `Controller`."""
        self._obs = self._obs | {"proprio": seen.proprio}

    def decide(self) -> np.ndarray:
        """See `Controller`. The env is where it was when this returns."""
        state = self.env.get_state()
        found = self._search.find(self.cost())
        self.env.set_state(state)
        return found.repeat_interleave(self.config.hold, dim=1)[0, : self.config.execute].numpy().astype(np.float64)

    def cost(self) -> Cost:
        """What plans cost from where the env is now; asking may move the env, and no picture is taken on the way."""
        state = without_pictures(self.env.get_state())

        def cost(candidates: Tensor) -> Tensor:
            plans = candidates[0].numpy().astype(np.float64)
            forks = self.env.forks(len(plans))
            costs = [self.tried(plan, state) for plan in plans] if forks is None else self._tried_at_once(plans, forks)
            return torch.as_tensor(np.array(costs), dtype=torch.float32)[None]

        return cost

    def tried(self, plan: np.ndarray, state: Any) -> float:
        """What one plan (H, A) costs in the env, as `latent_cost` counts it; a fall costs as much as 10 m."""
        self.env.set_state(state)
        obs, costs = self._obs, []
        for command in plan:
            obs, ended = step_world(self.env, self.space, command, obs)
            if ended:
                return _FALL
            reached = outcome(self.space, moment(self.env, obs))
            costs.append(float(np.square(reached - self._problem.wanted).sum()))
        return costs[-1] + self.config.running * float(np.mean(costs))

    def _tried_at_once(self, plans: np.ndarray, forks: Any) -> np.ndarray:
        """The same (N,) of all plans (N, H, A), in forks of the env."""
        costs, ended = np.empty((plans.shape[1], len(plans))), np.zeros(len(plans), dtype=bool)
        for step in range(plans.shape[1]):
            for actions in carry_out_rows(self.space, plans[:, step], forks.proprio()):
                forks.step(actions)
            reached, toppled = outcomes(self.space, self.env, forks)
            ended |= forks.fallen | toppled
            costs[step] = np.square(reached - self._problem.wanted).sum((-1, -2))
        return np.where(ended, _FALL, costs[-1] + self.config.running * costs.mean(0))


class ScriptController:
    """The task's scripted expert, its target put at the goal: the truth and no search."""

    def __init__(self, env: Any, space: CommandSpace) -> None:
        self.env, self.space = env, space

    def begin(self, problem: Problem) -> None:
        """See `Controller`."""
        self._wanted = problem.wanted

    def see(self, seen: Moment, command: np.ndarray | None) -> None:
        """It looks at the truth instead."""

    def decide(self) -> np.ndarray:
        """See `Controller`."""
        return scripted_command(self.space, self.env, self._wanted)[None]


class RandomController:
    """Commands by chance, held for a second each."""

    def __init__(self, dim: int, seed: int = 0) -> None:
        self._dim, self._seed = dim, seed

    def begin(self, problem: Problem) -> None:
        """See `Controller`."""
        self._rng = np.random.default_rng([self._seed, problem.seed, 37])

    def see(self, seen: Moment, command: np.ndarray | None) -> None:
        """It is blind."""

    def decide(self) -> np.ndarray:
        """See `Controller`."""
        return np.tile(self._rng.uniform(-1.0, 1.0, self._dim), (10, 1))


def make_controller(name: str, env: Any, bundle: Bundle, config: PlanningConfig, seed: int = 0) -> Controller:
    """A controller by name; see CONTROLLERS. Raises ValueError for an unknown one or a part that the bundle lacks."""
    again = f"Train it again: python agents/train_world_model.py --task {bundle.task}"
    if name in PLANNERS:
        if config.goal == "instruction" and bundle.reader is None:
            raise ValueError(f"This world model reads no words. {again}")
        return LatentController(bundle, config, name, seed)
    if name in ("amortised", "cloned"):
        head = getattr(bundle, name)
        if head is None:
            raise ValueError(f"This world model has no {name} head. {again}")
        return HeadController(bundle, head, config)
    simple: dict[str, Callable[[], Controller]] = {
        "oracle": lambda: OracleController(env, bundle.space, config, seed=seed),
        "expert": lambda: ScriptController(env, bundle.space),
        "random": lambda: RandomController(bundle.space.dim, seed),
    }
    if name not in simple:
        raise nearest("controller", name, CONTROLLERS)
    return simple[name]()

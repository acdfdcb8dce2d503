"""Who decides the next commands: a planner in the latent world, a planner in the real one, a head, a script, chance."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor

from neon_sim.names import nearest
from neon_sim.world_model.amortised import AmortisedHead
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.command_space import CommandSpace
from neon_sim.world_model.lewm import Distance, distance_to, latent_cost
from neon_sim.world_model.plan import Box, Cost, Plan, held, shifted
from neon_sim.world_model.planner import CEM, MPPI, GradientPlanner, Planner, icem
from neon_sim.world_model.problems import GOALS, Problem, scripted_command, seen_from_base
from neon_sim.world_model.readout import embed_words, state_distance
from neon_sim.world_model.worlds import Moment, moment, outcome, step_world

PLANNERS: Final = ("cem", "icem", "mppi", "gradient")
CONTROLLERS: Final = (*PLANNERS, "amortised", "cloned", "oracle", "expert", "random")


@dataclass(frozen=True)
class PlanningConfig:
    """How it is planned. A plan has `horizon` commands, each held for `hold` model steps of 0.1 s."""

    goal: str = "state"
    samples: int = 64
    iterations: int = 5
    horizon: int = 5
    hold: int = 2
    execute: int = 1  # model steps between two plans
    running: float = 0.2  # weight of the mean distance on the way: what is nearer sooner is better
    goal_steps: int = 25  # to the goal when it was recorded
    budget_steps: int = 50  # in which it has to be reached

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise nearest("kind of goal", self.goal, GOALS)
        counts = (self.samples, self.iterations, self.horizon, self.hold, self.execute, self.goal_steps)
        if min(*counts, self.budget_steps) < 1 or self.execute > self.horizon * self.hold:
            raise ValueError(f"Planning wants counts of one or more and execute within the plan, got {self}.")


class Controller(Protocol):
    """One episode after the other."""

    def begin(self, problem: Problem) -> None:
        """Take a new problem."""
        ...

    def see(self, seen: Moment, command: np.ndarray | None) -> None:
        """Take what is seen now, and the command (A,) that led here; None at the start."""
        ...

    def decide(self) -> np.ndarray:
        """The next commands (n, A) in [-1, 1]; they are carried out before it is asked again."""
        ...


def make_planner(name: str, samples: int, iterations: int) -> Planner:
    """A planner by name with a budget. Raises ValueError for a name that does not exist."""
    elites = max(2, samples // 8)
    made: dict[str, Callable[[], Planner]] = {
        "cem": lambda: CEM(samples, iterations, elites, sigma=0.7, sigma_floor=0.05),
        "icem": lambda: icem(samples, iterations, elites, sigma=0.7),
        "mppi": lambda: MPPI(samples, iterations, sigma=0.7),
        "gradient": lambda: GradientPlanner(max(1, samples // 8), iterations),
    }
    if name not in made:
        raise nearest("planner", name, made)
    return made[name]()


class Search:
    """A planner with what lasts from one replan to the next: the last plan, and the random generator."""

    def __init__(self, planner: Planner, actions: int, config: PlanningConfig, seed: int) -> None:
        self.planner, self.config, self.box = planner, config, Box.unit(actions)
        self._generator = torch.Generator().manual_seed(seed)
        self._last: Plan | None = None
        self._behind = 0  # model steps that the last plan began too early: less than one command

    def find(self, cost: Cost) -> Tensor:
        """The best plan, (1, horizon, A); the search begins at the last one."""
        config, last = self.config, self._last
        start, seeds = self.box.center(1, config.horizon), None
        if last is not None:
            gone, self._behind = divmod(self._behind + config.execute, config.hold)
            start, seeds = shifted(last.actions, gone), shifted(last.elites[:, :4], gone)
        plan = self.planner.plan(held(cost, config.hold), self.box, start, self._generator, seeds)
        self._last = plan
        return plan.actions


class LatentController:
    """Plans in the imagination of a world model."""

    def __init__(self, bundle: Bundle, config: PlanningConfig, planner: str = "cem", seed: int = 0) -> None:
        self.bundle, self.config, self._seed = bundle, config, seed
        self._planner = make_planner(planner, config.samples, config.iterations)
        self.imagined: Tensor | None = None  # (H, D) latents that the last plan leads to, for pictures of it

    def begin(self, problem: Problem) -> None:
        """See `Controller`."""
        model = self.bundle.model
        self._problem = problem
        self._search = Search(self._planner, self.bundle.space.dim, self.config, self._seed + problem.seed)
        self._latents: deque[Tensor] = deque(maxlen=model.config.history)
        self._past: deque[Tensor] = deque(maxlen=model.config.history - 1)
        self._goal = goal_latent(self.bundle, problem, self.config.goal)
        self._words = embed_words([problem.instruction]) if self.config.goal == "instruction" else None

    @torch.no_grad()
    def see(self, seen: Moment, command: np.ndarray | None) -> None:
        """See `Controller`."""
        self._seen = seen
        if command is not None:
            self._past.append(torch.as_tensor(command, dtype=torch.float32))
        self._latents.append(encode_moment(self.bundle, seen))

    def cost(self) -> Cost:
        """What plans cost from here, as the world model imagines them: the cost that is searched in."""
        latents, past = self._context()
        return latent_cost(self.bundle.model, latents, past, self._distance(latents[:, -1]), self.config.running)

    def decide(self) -> np.ndarray:
        """See `Controller`."""
        found = self._search.find(self.cost()).repeat_interleave(self.config.hold, dim=1)
        with torch.no_grad():
            self.imagined = self.bundle.model.predictor.rollout(*self._context(), found[:, None])[0, 0]
        return found[0, : self.config.execute].numpy().astype(np.float64)

    def _context(self) -> tuple[Tensor, Tensor]:
        past = torch.stack(list(self._past)) if self._past else torch.zeros(0, self.bundle.space.dim)
        return torch.stack(list(self._latents), dim=1), past[None, : len(self._latents) - 1]

    def _distance(self, now: Tensor) -> Distance:
        bundle, problem = self.bundle, self._problem
        if self._goal is not None:
            return distance_to(self._goal)
        if self._words is not None and bundle.reader is not None:
            with torch.no_grad():
                return state_distance(
                    bundle.readout, bundle.task, now, bundle.reader.goal(bundle.task, now, self._words)
                )
        wanted = seen_from_base(bundle.space, self._seen.base, problem.wanted)
        return state_distance(bundle.readout, bundle.task, now, torch.as_tensor(wanted, dtype=torch.float32)[None])


class HeadController:
    """Answers at once: a head from (z, z_goal, steps to go) to commands. Wants a goal that is a picture."""

    def __init__(self, bundle: Bundle, head: AmortisedHead, config: PlanningConfig) -> None:
        self.bundle, self.head = bundle, head
        self.config = config if config.goal in ("image", "observation") else replace(config, goal="observation")

    def begin(self, problem: Problem) -> None:
        """See `Controller`."""
        self._goal, self._to_go = goal_latent(self.bundle, problem, self.config.goal), self.config.goal_steps

    @torch.no_grad()
    def see(self, seen: Moment, command: np.ndarray | None) -> None:
        """See `Controller`."""
        self._latent = encode_moment(self.bundle, seen)
        self._to_go -= command is not None

    @torch.no_grad()
    def decide(self) -> np.ndarray:
        """See `Controller`."""
        assert self._goal is not None  # the config's goal is a picture
        found = self.head(self._latent, self._goal, torch.tensor([max(3, self._to_go)]))
        return found[0, : self.config.execute].numpy().astype(np.float64)


class OracleController:
    """Plans with MuJoCo itself as the model: the same budget, the true outcome. What no world model can beat."""

    def __init__(
        self, env: Any, space: CommandSpace, config: PlanningConfig, planner: str = "cem", seed: int = 0
    ) -> None:
        self.env, self.space, self.config, self._seed = env, space, config, seed
        self._planner = make_planner(planner, config.samples, config.iterations)

    def begin(self, problem: Problem) -> None:
        """See `Controller`."""
        self._problem = problem
        self._search = Search(self._planner, self.space.dim, self.config, self._seed + problem.seed)
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
        """What plans cost from where the env is now; asking moves the env."""
        state = self.env.get_state()

        def cost(candidates: Tensor) -> Tensor:
            costs = [self._tried(plan, state) for plan in candidates[0].numpy().astype(np.float64)]
            return torch.tensor([costs], dtype=torch.float32)

        return cost

    def _tried(self, plan: np.ndarray, state: Any) -> float:
        """What one plan (H, A) costs, as `latent_cost` counts it; a fall costs as much as 10 m."""
        self.env.set_state(state)
        obs, costs = self._obs, []
        for command in plan:
            obs, ended = step_world(self.env, self.space, command, obs)
            if ended:
                return 100.0
            reached = outcome(self.space, moment(self.env, obs))
            costs.append(float(np.square(reached - self._problem.wanted).sum()))
        return costs[-1] + self.config.running * float(np.mean(costs))


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


def encode_moment(bundle: Bundle, seen: Moment, proprio: bool = True) -> Tensor:
    """Latent (1, D) of what is seen, with or without what is felt; without if the model has no input for it."""
    feels = proprio and bundle.model.config.proprio_dim > 0
    felt = torch.from_numpy(np.asarray(seen.proprio, np.float32))[None, None] if feels else None
    with torch.no_grad():
        return bundle.model.encode(torch.from_numpy(seen.frame.copy())[None, None], felt)[:, 0]


def goal_latent(bundle: Bundle, problem: Problem, goal: str) -> Tensor | None:
    """The latent (1, D) of a goal that is a picture, alone ("image") or with what is felt there; None for others."""
    if goal not in ("image", "observation"):
        return None
    return encode_moment(bundle, problem.goal, proprio=goal == "observation")


def make_controller(name: str, env: Any, bundle: Bundle, config: PlanningConfig, seed: int = 0) -> Controller:
    """A controller by name; see CONTROLLERS. Raises ValueError for an unknown one or a part that the bundle lacks."""
    if name in PLANNERS:
        if config.goal == "instruction" and bundle.reader is None:
            raise ValueError("This world model reads no words. Train it again with agents/train_world_model.py.")
        return LatentController(bundle, config, name, seed)
    if name in ("amortised", "cloned"):
        head = getattr(bundle, name)
        if head is None:
            raise ValueError(f"This world model has no {name} head. Fit it with agents/train_world_model.py.")
        return HeadController(bundle, head, config)
    simple: dict[str, Callable[[], Controller]] = {
        "oracle": lambda: OracleController(env, bundle.space, config, seed=seed),
        "expert": lambda: ScriptController(env, bundle.space),
        "random": lambda: RandomController(bundle.space.dim, seed),
    }
    if name not in simple:
        raise nearest("controller", name, CONTROLLERS)
    return simple[name]()

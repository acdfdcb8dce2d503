"""Who decides the next commands: a planner in the latent world, or a head that answers at once."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

from neon_sim.names import nearest
from neon_sim.world_model.amortised import AmortisedHead
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.lewm import Distance, distance_to, latent_cost
from neon_sim.world_model.plan import Box, Cost, Plan, held, shifted, smoothed
from neon_sim.world_model.planner import CEM, ICEM_DECAY, MPPI, GradientPlanner, Planner, icem
from neon_sim.world_model.predictor import NO_PREFIX
from neon_sim.world_model.problems import GOALS, TRUE_POSE, Problem, seen_from_base
from neon_sim.world_model.readout import PLACES, embed_words, state_distance
from neon_sim.world_model.sight import in_front
from neon_sim.world_model.worlds import Moment, in_world, outcome

PLANNERS: Final = ("cem", "icem", "mppi", "gradient")
_UNRELATED_M2: Final = 0.1  # what the distance of two unrelated latents counts as: (32 cm)^2, as of goals 2.5 s away


@dataclass(frozen=True)
class PlanningConfig:
    """How it is planned. A plan has `horizon` commands, each held for `hold` model steps of 0.1 s.

    A search that goes on from a plan of before looks near it (`warm_sigma`), with slow noise, and pays for changing
    its mind: what the first command does is soon forgotten by a hand that goes to the last one, so a search with
    neither draws the first one anew at every replan, and the hand never comes to rest.
    """

    goal: str = "state"
    samples: int = 64
    iterations: int = 5
    horizon: int = 5
    hold: int = 2
    execute: int = 1  # model steps between two plans
    running: float = 1.0  # weight of the mean distance on the way: what is nearer sooner is better
    change: float = 3e-3  # m^2 that changing one entry of a command by half its box costs
    sigma: float = 0.7  # first standard deviation of a search that begins with nothing, of half the box
    warm_sigma: float = 0.3  # of one that begins with what is left of the last plan
    noise_beta: float = 2.0  # of the noise that cem, icem and mppi search with: 0 white, 2 slow (`colored_noise`)
    prefix: bool = False  # imagine a plan in one pass (Fast-LeWM); wants a model that was trained with --prefix
    goal_steps: int = 25  # to the goal when it was recorded
    budget_steps: int = 50  # in which it has to be reached

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise nearest("kind of goal", self.goal, GOALS)
        counts = (self.samples, self.iterations, self.horizon, self.hold, self.execute, self.goal_steps)
        if min(*counts, self.budget_steps) < 1 or self.execute > self.horizon * self.hold:
            raise ValueError(f"Planning wants counts of one or more and execute within the plan, got {self}.")
        if min(self.sigma, self.warm_sigma) <= 0.0 or min(self.running, self.change, self.noise_beta) < 0.0:
            raise ValueError(f"Planning wants sigmas above 0, and nothing that is weighed below 0, got {self}.")


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


def make_planner(name: str, config: PlanningConfig, warm: bool = False) -> Planner:
    """A planner by name with a budget of about samples x iterations candidates asked, whoever it is.

    iCEM asks fewer in every iteration, so it begins with more. A gradient counts as three candidates (one pass ahead,
    and one back that costs two): few plans, many steps. warm: for a search that begins with what is left of a plan.
    Raises ValueError for a name that does not exist.
    """
    samples, iterations, beta = config.samples, config.iterations, config.noise_beta
    sigma = config.warm_sigma if warm else config.sigma
    elites, starts = max(2, samples // 8), max(1, samples // 8)
    steps = max(1, round((samples * iterations / starts - 1) / 3))
    decayed = sum(ICEM_DECAY**-i for i in range(iterations))
    made: dict[str, Callable[[], Planner]] = {
        "cem": lambda: CEM(samples, iterations, elites, sigma, sigma_floor=0.05, noise_beta=beta),
        "icem": lambda: icem(round(samples * iterations / decayed), iterations, elites, sigma, beta),
        "mppi": lambda: MPPI(samples, iterations, sigma, noise_beta=beta),
        "gradient": lambda: GradientPlanner(starts, steps, sigma=sigma),
    }
    if name not in made:
        raise nearest("planner", name, made)
    return made[name]()


def make_planners(name: str, config: PlanningConfig) -> tuple[Planner, Planner]:
    """For a `Search`: who begins with nothing, and who goes on from a plan. See `make_planner`."""
    return make_planner(name, config), make_planner(name, config, warm=True)


class Search:
    """A planner with what lasts from one replan to the next: the last plan, and the random generator."""

    def __init__(self, planners: tuple[Planner, Planner], actions: int, config: PlanningConfig, seed: int) -> None:
        """planners: who searches where nothing is left of a plan, and who goes on from what is left of one."""
        self._planners, self.config, self.box = planners, config, Box.unit(actions)
        self._generator = torch.Generator().manual_seed(seed)
        self._last: Plan | None = None
        self._behind = 0  # model steps that the last plan began too early: less than one command

    def find(self, cost: Cost) -> Tensor:
        """The best plan, (1, horizon, A); the search begins at the last one."""
        config, last = self.config, self._last
        start, seeds, before, warm = self.box.center(1, config.horizon), None, None, False
        if last is not None:
            before = last.actions[:, (config.execute - 1) // config.hold]  # each plan is carried out from its beginning
            gone, self._behind = divmod(self._behind + config.execute, config.hold)
            start, seeds = shifted(last.actions, gone), shifted(last.elites[:, :4], gone)
            warm = gone < config.horizon
        judged = smoothed(held(cost, config.hold), config.change, before)
        plan = self._planners[warm].plan(judged, self.box, start, self._generator, seeds)
        self._last = plan
        return plan.actions


class LatentController:
    """Plans in the imagination of a world model.

    A goal that is a state is seen once, from the start, and carried on by what the latents say of the way since then:
    dead reckoning, as a robot has to. With the goal "state_true_pose" the simulator tells the base pose at every replan
    instead, so that the two together show what localisation costs. Where its palms are a robot knows by kinematics, and
    where its box is the patches of the picture say better than the latent (`Sight`): what the readout says of them now
    is off by so much, and is taken to be off by as much where a plan ends (offset-free predictive control, Pannocchia
    and Rawlings 2003).
    """

    def __init__(self, bundle: Bundle, config: PlanningConfig, planner: str = "cem", seed: int = 0) -> None:
        """Raises ValueError for a planner that does not exist, and for prefixes that the model did not learn."""
        if config.prefix and not bundle.model.config.prefix:
            raise ValueError(NO_PREFIX)
        self.bundle, self.config, self._seed = bundle, config, seed
        self._planners = make_planners(planner, config)
        self._told: tuple[Tensor, Tensor, Tensor] | None = None  # context and commands of the last plan

    @property
    @torch.no_grad()
    def imagined(self) -> Tensor | None:
        """Latents (H, D) float32 that the last plan leads to, for who wants to look: worked out when asked for."""
        if self._told is None:
            return None
        latents, past, found = self._told
        return self.bundle.model.predictor.rollout(latents, past, found[:, None], self.config.prefix)[0, 0].float()

    def begin(self, problem: Problem) -> None:
        """See `Controller`."""
        model = self.bundle.model
        self._problem = problem
        self._search = Search(self._planners, self.bundle.space.dim, self.config, self._seed + problem.seed)
        self._latents: deque[Tensor] = deque(maxlen=model.config.history)
        self._past: deque[Tensor] = deque(maxlen=model.config.history - 1)
        self._goal = goal_latent(self.bundle, problem, self.config.goal)
        self._words = embed_words([problem.instruction]) if self.config.goal == "instruction" else None
        self._wanted = seen_from_base(self.bundle.space, problem.start.base, problem.wanted)  # from the start
        self.walked = np.zeros(3)  # x, y m and yaw rad since the start, in its frame, as far as it knows

    @torch.no_grad()
    def see(self, seen: Moment, command: np.ndarray | None) -> None:
        """See `Controller`."""
        self._seen, latent = seen, encode_moment(self.bundle, seen)
        if command is not None:
            self._past.append(torch.as_tensor(command, dtype=torch.float32))
            self._walk(self._latents[-1], latent)
        self._latents.append(latent)

    def cost(self) -> Cost:
        """What plans cost from here, as the world model imagines them: the cost that is searched in."""
        (latents, past), config = self._context(), self.config
        distance = self._distance(latents[:, -1])
        return latent_cost(self.bundle.model, latents, past, distance, config.running, config.prefix)

    def decide(self) -> np.ndarray:
        """See `Controller`."""
        found = self._search.find(self.cost()).repeat_interleave(self.config.hold, dim=1)
        self._told = (*self._context(), found)
        return found[0, : self.config.execute].numpy().astype(np.float64)

    def _walk(self, before: Tensor, now: Tensor) -> None:
        """Take in the step that two neighbouring latents (1, D) tell of."""
        step = self.bundle.readout.walked(before, now[:, None, None])[0, 0, 0].double().numpy()
        place = in_world(self.walked, step[None, :2])[0]
        self.walked = np.array([*place, self.walked[2] + step[2]])

    def _context(self) -> tuple[Tensor, Tensor]:
        past = torch.stack(list(self._past)) if self._past else torch.zeros(0, self.bundle.space.dim)
        return torch.stack(list(self._latents), dim=1), past[None, : len(self._latents) - 1]

    def _distance(self, now: Tensor) -> Distance:
        bundle, problem = self.bundle, self._problem
        if self._goal is not None:
            apart, scale = distance_to(self._goal), _UNRELATED_M2 / (2 * bundle.model.config.dim)  # entries: variance 1
            return lambda imagined: scale * apart(imagined)
        if self._words is not None and bundle.reader is not None:
            with torch.no_grad():
                wanted = bundle.reader.goal(bundle.task, now, self._words)
        else:
            told = self.config.goal == TRUE_POSE
            base, place = (self._seen.base, problem.wanted) if told else (self.walked, self._wanted)
            wanted = torch.as_tensor(seen_from_base(bundle.space, base, place), dtype=torch.float32)[None]
        return state_distance(bundle.readout, bundle.task, now, wanted + self._off(now))

    @torch.no_grad()
    def _off(self, now: Tensor) -> Tensor:
        """How far the readout is off now (1, K, d) m: of palms, which are felt, and of a box that patches tell of. Of
        all else nothing better is known: 0.
        """
        bundle = self.bundle
        if bundle.task == "reach":
            read = bundle.readout.outcome("reach", now, now[:, None, None])[:, 0, 0]
            return read - torch.as_tensor(outcome(bundle.space, self._seen), dtype=torch.float32)[None]
        if bundle.task == "push_box" and bundle.sight is not None:
            seen = bundle.sight(bundle.model.encoder, torch.from_numpy(self._seen.frame.copy())[None])
            off = (bundle.readout.place(now)[:, PLACES["thing"]] - seen)[:, None, :2]
            return off * in_front(seen)[:, None, None]
        return torch.zeros(1, 1, 1)


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


def encode_moment(bundle: Bundle, seen: Moment, proprio: bool = True) -> Tensor:
    """Latent (1, D) float32, whatever the weights' dtype, of what is seen, with or without what is felt; without if the
    model has no input for it.
    """
    feels = proprio and bundle.model.config.proprio_dim > 0
    felt = torch.from_numpy(np.asarray(seen.proprio, np.float32))[None, None] if feels else None
    with torch.no_grad():
        return bundle.model.encode(torch.from_numpy(seen.frame.copy())[None, None], felt)[:, 0].float()


def goal_latent(bundle: Bundle, problem: Problem, goal: str) -> Tensor | None:
    """The latent (1, D) of a goal that is a picture, alone ("image") or with what is felt there; None for others."""
    if goal not in ("image", "observation"):
        return None
    return encode_moment(bundle, problem.goal, proprio=goal == "observation")

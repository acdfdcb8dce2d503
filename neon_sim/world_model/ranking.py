"""Whether the model orders plans as the world does: of random plans, and of those that CEM asks about."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.names import nearest
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.controllers import LatentController, PlanningConfig, Search, make_planners
from neon_sim.world_model.judging import each_problem, opened
from neon_sim.world_model.plan import held
from neon_sim.world_model.played import played_once
from neon_sim.world_model.probe import rank_correlation
from neon_sim.world_model.problems import Problem
from neon_sim.world_model.references import OracleController

DRAWN_BY: Final = ("random", "cem")  # whose plans are put in order: chance's, or those that CEM asks about


@dataclass(frozen=True)
class RankJob:
    """Some problems at whose start plans are put in order, and the file that keeps the correlations."""

    path: str
    model: str
    planning: PlanningConfig = field(default_factory=PlanningConfig)
    plans: int = 64
    drawn_by: str = "random"  # one of DRAWN_BY
    seed: int = 0
    first: int = 0  # episode
    count: int = 5

    @property
    def episodes(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + self.count)


def run_rank_job(job: RankJob) -> list[dict[str, Any]]:
    """`rank_of_plans` for a job's problems, or what is in its file: rows as of `run_job`, with `rho` or None."""

    def play(bundle: Bundle) -> list[dict[str, Any]]:
        env = opened(bundle.task, bundle.model.config.image_size, "nominal", 0)

        def rank(problem: Problem) -> dict[str, Any]:
            rho = rank_of_plans(env, bundle, problem, job.planning, job.plans, problem.seed, job.drawn_by)
            return {"rho": rho if np.isfinite(rho) else None}

        return each_problem(env, bundle, job.planning, job.seed, job.episodes, rank)

    return played_once(job, play, ("world_model/ranking.py",))


def rank_of_plans(
    env: Any,
    bundle: Bundle,
    problem: Problem,
    config: PlanningConfig,
    plans: int,
    seed: int,
    drawn_by: str = "random",
) -> float:
    """Spearman's rho between what the world model and the world say that plans cost, at the problem's start.

    Costs the world `plans` rollouts. NaN if all cost the same. The env is left at the start. Raises ValueError for
    plans of nobody (DRAWN_BY).
    """
    if drawn_by not in DRAWN_BY:
        raise nearest("source of plans", drawn_by, DRAWN_BY)
    latent = LatentController(bundle, config)
    oracle = OracleController(env, bundle.space, config)
    for controller in (latent, oracle):
        controller.begin(problem)
        controller.see(problem.start, None)
    env.set_state(problem.state)
    if drawn_by == "cem":
        drawn = asked_plans(latent, config, plans, seed)
    else:
        generator = torch.Generator().manual_seed(seed)
        drawn = 2.0 * torch.rand(1, plans, config.horizon, bundle.space.dim, generator=generator) - 1.0
    with torch.no_grad():
        predicted = held(latent.cost(), config.hold)(drawn)
    truth = held(oracle.cost(), config.hold)(drawn)
    env.set_state(problem.state)
    return float(rank_correlation(predicted.numpy().astype(np.float64), truth.numpy().astype(np.float64))[0])


def asked_plans(latent: LatentController, config: PlanningConfig, plans: int, seed: int) -> Tensor:
    """Plans (1, `plans`, H, A) of those that CEM asks the world model about from here, evenly out of all iterations: so
    the late ones, which differ by little, are among them.
    """
    cost = latent.cost()
    asked: list[Tensor] = []

    def noted(candidates: Tensor) -> Tensor:
        asked.append(candidates[:, :, :: config.hold])
        return cost(candidates)

    Search(make_planners("cem", config), latent.bundle.space.dim, config, seed).find(noted)
    every = torch.cat(asked, dim=1)
    return every[:, torch.linspace(0, every.shape[1] - 1, plans).round().long()]

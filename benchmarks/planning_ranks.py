"""Whether a world model puts plans in the order that the world does: what a planner needs of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from planning_cells import SHARD, Plan

from neon_sim.training.workers import parallel_map
from neon_sim.world_model.judging import NO_PROBLEM
from neon_sim.world_model.ranking import DRAWN_BY, RankJob, run_rank_job

OF_WHOM: Final = {"random": "random plans", "cem": "plans that CEM asks about"}


def rank_jobs(task: str, whose: str, model: Path, folder: Path, seeds: tuple[int, ...], problems: int) -> list[RankJob]:
    """A task's work: `problems` shared out over the seeds, a few in each file, so that a longer run goes on with those
    of a shorter one.
    """
    each, config = -(-problems // len(seeds)), Plan().planning
    jobs = []
    for seed in seeds:
        for first in range(0, each, SHARD):
            count = min(SHARD, each - first)
            path = folder / f"{task}-ranks-{whose}" / f"seed{seed}_{first:04d}_{count}.json"
            jobs.append(RankJob(str(path), str(model), config, RankJob.plans, whose, seed, first, count))
    return jobs


def measure_ranks(
    models: Mapping[str, Path], folder: Path, seeds: tuple[int, ...], problems: int, workers: int
) -> tuple[dict[str, Any], list[list[str]]]:
    """Spearman's rho between predicted and true cost of 64 plans, at the start of `problems` problems a task: of random
    plans, and of those that CEM asks about there, which are what it has to tell apart.

    A problem whose plans all cost the same in the world (a box that none of them touches) has none: those are counted.
    """
    jobs = {
        (task, whose): rank_jobs(task, whose, model, folder, seeds, problems)
        for task, model in models.items()
        for whose in DRAWN_BY
    }
    found = iter(list(parallel_map(run_rank_job, [job for part in jobs.values() for job in part], workers, "ranks")))
    figures: dict[str, Any] = {}
    rows = []
    for (task, whose), part in jobs.items():
        name = f"rank_{task}" if whose == "random" else f"rank_{whose}_{task}"
        figures[name] = got = rank_figures([row for _ in part for row in next(found)])
        median = "none" if got["median"] is None else f"{got['median']:.2f}, quartiles {got['quartiles']}"
        label = f"{task}, rank correlation of predicted and true cost of {RankJob.plans} {OF_WHOM[whose]}, median"
        rows.append([label, f"{median}, {got['problems']} problems", f"{got['undefined']} undefined", "", ""])
    return figures, rows


def rank_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plain numbers of rows of `run_rank_job`; episodes without a problem are left out."""
    values = [row["rho"] for row in rows if NO_PROBLEM not in row]
    rho = np.array([value for value in values if value is not None])
    low, median, high = np.quantile(rho, (0.25, 0.5, 0.75)).round(3).tolist() if len(rho) else (None, None, None)
    return {"problems": len(values), "undefined": len(values) - len(rho), "median": median, "quartiles": [low, high]}

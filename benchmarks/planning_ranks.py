"""Whether a world model puts plans in the order that the world does: what a planner needs of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from planning_success import Plan

from neon_sim.training.workers import parallel_map
from neon_sim.world_model.judging import NO_PROBLEM, RankJob, run_rank_job


def measure_ranks(
    models: Mapping[str, Path], folder: Path, seeds: tuple[int, ...], problems: int, workers: int
) -> tuple[dict[str, Any], list[list[str]]]:
    """Spearman's rho between predicted and true cost of 64 random plans, at the start of `problems` problems a task.

    A problem whose plans all cost the same in the world (a box that none of them touches) has none: those are counted.
    """
    each = -(-problems // len(seeds))
    config = Plan().planning
    jobs = [
        RankJob(str(folder / f"{task}-ranks" / f"seed{seed}.json"), str(model), config, seed=seed, count=each)
        for task, model in models.items()
        for seed in seeds
    ]
    played = list(zip(jobs, parallel_map(run_rank_job, jobs, workers, "ranks"), strict=True))
    figures, rows = {}, []
    for task, model in models.items():
        figures[f"rank_{task}"] = found = rank_figures(
            [row for job, r in played if job.model == str(model) for row in r]
        )
        median = "none" if found["median"] is None else f"{found['median']:.2f}, quartiles {found['quartiles']}"
        label = f"{task}, rank correlation of predicted and true cost of {RankJob.plans} random plans, median"
        rows.append([label, f"{median}, {found['problems']} problems", f"{found['undefined']} undefined", "", ""])
    return figures, rows


def rank_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plain numbers of rows of `run_rank_job`; episodes without a problem are left out."""
    values = [row["rho"] for row in rows if NO_PROBLEM not in row]
    rho = np.array([value for value in values if value is not None])
    low, median, high = np.quantile(rho, (0.25, 0.5, 0.75)).round(3).tolist() if len(rho) else (None, None, None)
    return {"problems": len(values), "undefined": len(values) - len(rho), "median": median, "quartiles": [low, high]}

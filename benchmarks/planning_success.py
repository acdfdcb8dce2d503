"""How often plans succeed: cells of task, controller, kind of goal, distance and world, played in shards that stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.training.workers import parallel_map
from neon_sim.world_model.controllers import PlanningConfig
from neon_sim.world_model.judging import RankJob, TrialJob, run_job, run_rank_job, summary

TASKS: Final = ("navigate", "reach", "push_box")
SHARD: Final = 5  # episodes
REPORT_SEEDS: Final = tuple(range(10))  # settings are chosen on 100 to 104
NEAR, FAR = 25, 50  # model steps to the goal: 2.5 and 5 s


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    task: str
    controller: str = "cem"
    goal: str = "state"
    goal_steps: int = NEAR
    world: str = "nominal"

    @property
    def name(self) -> str:
        """Also its folder's."""
        return f"{self.task}-{self.controller}-{self.goal}-{self.goal_steps}-{self.world}"


@dataclass(frozen=True)
class Plan:
    """What is played. The oracle takes minutes an episode, so it has fewer of them."""

    episodes: int = 200
    oracle_episodes: int = 40
    extra_episodes: int = 50  # of the cells beside the main ones
    planning: PlanningConfig = PlanningConfig(execute=2)
    oracle: PlanningConfig = PlanningConfig(hold=5, execute=25)  # the whole plan, then again: its model is the world


def cells(tasks: tuple[str, ...]) -> list[Cell]:
    """Every row, the main ones of each task first."""
    rows: list[Cell] = []
    for task in tasks:
        main = Cell(task)
        rows += [main, *(replace(main, controller=name) for name in ("oracle", "expert", "random"))]
        rows += [Cell(task, "expert", "instruction")]  # what of those goals can be reached in time at all
        rows += [Cell(task, name, "observation") for name in ("cem", "cloned", "amortised")]
        rows += [replace(main, goal=goal) for goal in ("image", "instruction")]
        rows += [replace(main, controller=name) for name in ("icem", "mppi", "gradient")]
        rows += [replace(main, goal_steps=FAR)]
        rows += [replace(main, world=world) for world in ("unseen_scenes", "unseen_objects", "camera_pose")]
    return rows


def count_of(cell: Cell, plan: Plan) -> int:
    """Episodes of a cell."""
    if cell.controller == "oracle":
        return plan.oracle_episodes
    nominal = cell.goal_steps == NEAR and cell.world == "nominal" and cell.goal in ("state", "observation")
    return plan.episodes if nominal else min(plan.extra_episodes, plan.episodes)


def jobs_of(cell: Cell, plan: Plan, model: Path, folder: Path, seeds: tuple[int, ...]) -> list[TrialJob]:
    """The cell's work: its episodes are shared out over the seeds; the same for any number of workers."""
    config = plan.oracle if cell.controller == "oracle" else plan.planning
    config = replace(config, goal=cell.goal, goal_steps=cell.goal_steps, budget_steps=2 * cell.goal_steps)
    each = -(-count_of(cell, plan) // len(seeds))
    jobs = []
    for seed in seeds:
        for first in range(0, each, SHARD):
            path = folder / cell.name / f"seed{seed}_{first:04d}.json"
            count = min(SHARD, each - first)
            jobs.append(TrialJob(str(path), str(model), cell.controller, config, cell.world, seed, first, count))
    return jobs


def play(
    wanted: list[Cell], plan: Plan, models: Mapping[str, Path], folder: Path, seeds: tuple[int, ...], workers: int
) -> dict[Cell, dict[str, Any]]:
    """Play what is missing and sum up every cell."""
    jobs = {cell: jobs_of(cell, plan, models[cell.task], folder, seeds) for cell in wanted}
    everything = [job for part in jobs.values() for job in part]
    rows = list(parallel_map(run_job, everything, workers, "episodes"))
    found, at = {}, 0
    for cell, part in jobs.items():
        found[cell] = summary([row for shard in rows[at : at + len(part)] for row in shard])
        at += len(part)
    return found


def table_rows(found: Mapping[Cell, Mapping[str, Any]]) -> list[list[str]]:
    """Rows for people."""
    rows = []
    for cell, row in found.items():
        share = _share_of_oracle(cell, found)
        label = f"{cell.task}, {cell.controller}, goal {cell.goal} {0.1 * cell.goal_steps:.1f} s away, {cell.world}"
        distance = f"{row['start_cm_median']:.0f} to {row['final_cm_median']:.1f} cm"
        rows.append([label, row["success"], share, distance, f"{row['decide_ms_p50']:.0f} ms"])
    return rows


def _share_of_oracle(cell: Cell, found: Mapping[Cell, Mapping[str, Any]]) -> str:
    oracle = found.get(Cell(cell.task, "oracle"))
    if oracle is None or not oracle["successes"] or cell.goal_steps != NEAR or cell.world != "nominal":
        return ""
    return f"{found[cell]['rate'] / oracle['rate']:.2f}"


def success_figures(found: Mapping[Cell, Mapping[str, Any]]) -> dict[str, Any]:
    """Plain numbers for the JSON file, the main ones under the names that others look for."""
    figures: dict[str, Any] = {"cells": {cell.name: dict(row) for cell, row in found.items()}}
    for task in dict.fromkeys(cell.task for cell in found):
        for name, controller in (("success", "cem"), ("oracle", "oracle")):
            row = found.get(Cell(task, controller))
            figures[f"{name}_{task}"] = row["rate"] if row is not None else None
            figures[f"episodes_{name}_{task}"] = row["episodes"] if row is not None else 0
    figures["episodes"] = min((row["episodes"] for c, row in found.items() if c == Cell(c.task)), default=0)
    return figures


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
    """Plain numbers of rows of `run_rank_job`."""
    rho = np.array([row["rho"] for row in rows if row["rho"] is not None])
    low, median, high = np.quantile(rho, (0.25, 0.5, 0.75)).round(3).tolist() if len(rho) else (None, None, None)
    undefined = len(rows) - len(rho)
    return {"problems": len(rows), "undefined": undefined, "median": median, "quartiles": [low, high]}

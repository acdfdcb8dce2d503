"""How often plans succeed: cells of task, controller, kind of goal, distance and world, played in shards that stay."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from neon_sim.training.workers import parallel_map
from neon_sim.world_model.controllers import PlanningConfig
from neon_sim.world_model.judging import TrialJob, run_job, summary

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

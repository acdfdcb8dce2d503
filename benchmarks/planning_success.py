"""How often plans succeed: cells of task, controller, kind of goal, distance and world, played in shards that stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from planning_pairs import Gap, difference, ratio, worth

from neon_sim.training.workers import parallel_map
from neon_sim.world_model.command_space import STEP_S
from neon_sim.world_model.controllers import PLANNERS, PlanningConfig
from neon_sim.world_model.judging import NO_PROBLEM, TrialJob, run_job, seconds_of, summary
from neon_sim.world_model.problems import TRUE_POSE

TASKS: Final = ("navigate", "reach", "push_box")
SHARD: Final = 2  # episodes: a brief run's shards are the first of a full one's
REPORT_SEEDS: Final = tuple(range(10))  # settings are chosen on 100 to 104
NEAR, FAR = 25, 50  # model steps to the goal: 2.5 and 5 s
MAIN: Final = (
    ("cem", "state"), ("oracle", "state"), ("expert", "state"), ("random", "state"),
    ("cem", "observation"), ("cloned", "observation"), ("amortised", "observation"),
)  # fmt: skip
WHERE_IT_ENDED: Final = ("state", TRUE_POSE, "observation", "image")  # goals that are the oracle's, told otherwise
# Seconds of an episode with a near goal on one core, to say how long it takes before any was played: reckoned, not
# measured. 321 rollouts of 50 control steps at 1338 steps/s (benchmarks/results/step_rate.json) are 12 s a plan of the
# oracle's, of which it has five at most and four if it arrives; 25 plans of 0.15 s; the world with its pictures.
SECONDS: Final = {"oracle": 48.0, "search": 4.0, "at once": 1.2}
Rows = Sequence[Mapping[str, Any]]


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

    @property
    def is_main(self) -> bool:
        """One of those that the others are there to explain."""
        return (self.controller, self.goal) in MAIN and self.world == "nominal"


@dataclass(frozen=True)
class Plan:
    """What is played. The oracle has CEM's samples, iterations and plans of a second, and plans anew each second rather
    than each 0.2 s: its model is the world, so nothing has drifted in between, and a plan costs it twelve seconds.
    Where there is time, let it plan as often as the others (`--oracle-execute 2`: five times as long).
    """

    episodes: int = 200
    far_oracle_episodes: int = 10  # more than a minute each
    extra_episodes: int = 50  # of the cells beside the main ones
    main_only: bool = False  # and near goals only
    planning: PlanningConfig = PlanningConfig(execute=2)
    oracle: PlanningConfig = PlanningConfig(execute=10)


_QUICK: Final = PlanningConfig(samples=4, iterations=1, horizon=2, execute=4)
PLANS: Final = {
    "full": Plan(),
    "brief": Plan(episodes=60, main_only=True),
    "tiny": Plan(episodes=2, main_only=True, planning=_QUICK, oracle=_QUICK),
}


def cells(tasks: tuple[str, ...], main_only: bool = False) -> list[Cell]:
    """Every row, the main ones of each task first."""
    rows: list[Cell] = []
    for task in tasks:
        main = [Cell(task, controller, goal) for controller, goal in MAIN]
        rows += main if main_only else main + _beside(task, main)
    return rows


def _beside(task: str, main: list[Cell]) -> list[Cell]:
    rows = [] if task == "reach" else [Cell(task, goal=TRUE_POSE)]  # reach knows no base pose
    rows += [replace(cell, goal_steps=FAR) for cell in main]
    rows += [Cell(task, "expert", "instruction")]  # what of those goals can be reached in time at all
    rows += [Cell(task, goal=goal) for goal in ("image", "instruction")]
    rows += [Cell(task, name) for name in PLANNERS if name != "cem"]
    worlds = ("unseen_scenes", "unseen_objects", "camera_pose")
    return rows + [Cell(task, name, world=world) for world in worlds for name in ("cem", "expert")]


def count_of(cell: Cell, plan: Plan) -> int:
    """Episodes of a cell."""
    if cell.controller == "oracle" and cell.goal_steps == FAR:
        return min(plan.far_oracle_episodes, plan.episodes)
    alike = cell.is_main or cell.goal == TRUE_POSE
    return plan.episodes if alike else min(plan.extra_episodes, plan.episodes)


def jobs_of(cell: Cell, plan: Plan, model: Path, folder: Path, seeds: tuple[int, ...]) -> list[TrialJob]:
    """The cell's work: its episodes are shared out over the seeds; the same for any number of workers."""
    config = plan.oracle if cell.controller == "oracle" else plan.planning
    config = replace(config, goal=cell.goal, goal_steps=cell.goal_steps, budget_steps=2 * cell.goal_steps)
    each = -(-count_of(cell, plan) // len(seeds))
    place = folder / (f"{cell.name}-every{config.execute}" if cell.controller == "oracle" else cell.name)
    jobs = []
    for seed in seeds:
        for first in range(0, each, SHARD):
            count = min(SHARD, each - first)
            path = place / f"seed{seed}_{first:04d}_{count}.json"
            jobs.append(TrialJob(str(path), str(model), cell.controller, config, cell.world, seed, first, count))
    return jobs


def estimate(jobs: Mapping[Cell, Sequence[TrialJob]], workers: int) -> str:
    """How much is to do and about how long that takes: by the shards of the same cell where there are any."""
    episodes = left = 0
    seconds = 0.0
    for cell, part in jobs.items():
        took = [(job.count, seconds_of(Path(job.path))) for job in part]
        played = [(count, spent) for count, spent in took if spent is not None]
        missing = sum(count for count, spent in took if spent is None)
        kind = "search" if cell.controller in PLANNERS else "oracle" if cell.controller == "oracle" else "at once"
        each = SECONDS[kind] * cell.goal_steps / NEAR
        if played:
            each = sum(spent for _, spent in played) / sum(count for count, _ in played)
        episodes, left, seconds = episodes + sum(job.count for job in part), left + missing, seconds + missing * each
    hours = seconds / max(1, workers) / 3600.0
    return f"{left} of {episodes} episodes are to be played: roughly {hours:.1f} h with {workers} workers on idle cores"


def play(
    wanted: list[Cell], plan: Plan, models: Mapping[str, Path], folder: Path, seeds: tuple[int, ...], workers: int
) -> dict[Cell, list[dict[str, Any]]]:
    """Play what is missing; every cell's rows, see `run_job`."""
    jobs = {cell: jobs_of(cell, plan, models[cell.task], folder, seeds) for cell in wanted}
    print(estimate(jobs, workers), flush=True)
    shards = parallel_map(run_job, [job for part in jobs.values() for job in part], workers, "shards")
    played: dict[Cell, list[dict[str, Any]]] = {cell: [] for cell in wanted}
    for (cell, _), rows in zip([(cell, job) for cell, part in jobs.items() for job in part], shards, strict=True):
        played[cell] += rows
    return played


def oracle_of(cell: Cell) -> Cell | None:
    """The oracle's cell with the same problems; None where it has none: other goals, other worlds."""
    if cell.goal not in WHERE_IT_ENDED or cell.world != "nominal" or cell.controller == "oracle":
        return None
    return Cell(cell.task, "oracle", goal_steps=cell.goal_steps)


def shares_of_oracle(played: Mapping[Cell, Rows]) -> dict[Cell, Gap]:
    """Success over the oracle's on the episodes that both played, where there is such a thing."""
    found = {}
    for cell, rows in played.items():
        oracle = oracle_of(cell)
        share = ratio(rows, played[oracle]) if oracle is not None and oracle in played else None
        if share is not None:
            found[cell] = share
    return found


def budgets(plan: Plan) -> list[str]:
    """A row for people: what the oracle was given, and the others."""
    other, oracle = plan.planning, plan.oracle
    length = STEP_S * oracle.horizon * oracle.hold
    label = (
        f"oracle: MuJoCo as the model, {oracle.samples} samples x {oracle.iterations} iterations, plans of "
        f"{length:.1f} s as the others have; a plan each {STEP_S * oracle.execute:.1f} s, theirs each "
        f"{STEP_S * other.execute:.1f} s"
    )
    return [label, "", "", "", ""]


def over_cloned(played: Mapping[Cell, Rows]) -> dict[str, Gap]:
    """By task: success of CEM less that of the cloned head, both with the goal "observation" 2.5 s away."""
    found = {}
    for task in dict.fromkeys(cell.task for cell in played):
        planned, cloned = (played.get(Cell(task, name, "observation")) for name in ("cem", "cloned"))
        gap = None if planned is None or cloned is None else difference(planned, cloned)
        if gap is not None:
            found[task] = gap
    return found


def sums(played: Mapping[Cell, Rows]) -> dict[Cell, dict[str, Any]]:
    """`summary` of each cell that has an episode."""
    some = {cell: rows for cell, rows in played.items() if any(NO_PROBLEM not in row for row in rows)}
    return {cell: summary([dict(row) for row in rows]) for cell, rows in some.items()}


def table_rows(played: Mapping[Cell, Rows]) -> list[list[str]]:
    """Rows for people."""
    found, shares, rows = sums(played), shares_of_oracle(played), []
    for cell, every in played.items():
        label = f"{cell.task}, {cell.controller}, goal {cell.goal} {0.1 * cell.goal_steps:.1f} s away, {cell.world}"
        row = found.get(cell)
        if row is None:
            rows.append([label, f"no problem found in {len(every)} tries", "", "", ""])
            continue
        share = worth(shares[cell]) if cell in shares else ""
        distance = f"{row['start_cm_median']:.0f} to {row['final_cm_median']:.1f} cm"
        rows.append([label, row["success"], share, distance, f"{row['decide_ms_p50']:.0f} ms"])
    for task, gap in over_cloned(played).items():
        label = f"{task}, cem less cloned (behaviour cloning), both with goal observation 2.5 s away"
        rows.append([label, f"{worth(gap, 100.0, '+.1f')} points", "above 0", "", ""])
    return rows


def success_figures(played: Mapping[Cell, Rows]) -> dict[str, Any]:
    """Plain numbers for the JSON file, the main ones under the names that others look for."""
    found, shares, cloned = sums(played), shares_of_oracle(played), over_cloned(played)
    figures: dict[str, Any] = {"cells": {cell.name: row for cell, row in found.items()}}
    figures["of_oracle"] = {cell.name: gap._asdict() for cell, gap in shares.items()}
    for task in dict.fromkeys(cell.task for cell in played):
        for name, controller in (("success", "cem"), ("oracle", "oracle")):
            row = found.get(Cell(task, controller))
            figures[f"{name}_{task}"] = row["rate"] if row is not None else None
            figures[f"episodes_{name}_{task}"] = row["episodes"] if row is not None else 0
        share, gap = shares.get(Cell(task)), cloned.get(task)
        figures[f"share_of_oracle_{task}"] = None if share is None else share._asdict()
        figures[f"cem_over_cloned_{task}"] = None if gap is None else gap._asdict()
    figures["episodes"] = min((row["episodes"] for cell, row in found.items() if cell == Cell(cell.task)), default=0)
    return figures

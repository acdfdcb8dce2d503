"""Cells of the planning benchmark: which rows there are, how many episodes each has, and the shards of its work."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from neon_sim.world_model.command_space import STEP_S
from neon_sim.world_model.controllers import PLANNERS, PlanningConfig
from neon_sim.world_model.judging import TrialJob
from neon_sim.world_model.problems import TRUE_POSE

TASKS: Final = ("navigate", "reach", "push_box")
SHARD: Final = 2  # episodes: a brief run's shards are the first of a full one's
REPORT_SEEDS: Final = tuple(range(10))  # settings are chosen on 100 to 104
NEAR, FAR = 25, 50  # model steps to the goal: 2.5 and 5 s
MAIN: Final = (
    ("cem", "state"), ("oracle", "state"), ("expert", "state"), ("random", "state"),
    ("cem", "observation"), ("cloned", "observation"), ("amortised", "observation"),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    task: str
    controller: str = "cem"
    goal: str = "state"
    goal_steps: int = NEAR
    world: str = "nominal"
    every: int = 1  # model steps between two decisions

    @property
    def name(self) -> str:
        """Also its folder's."""
        return f"{self.task}-{self.controller}-{self.goal}-{self.goal_steps}-{self.world}-every{self.every}"

    @property
    def label(self) -> str:
        """For people."""
        away = f"goal {self.goal} {STEP_S * self.goal_steps:.1f} s away"
        how = "" if self.controller in ("expert", "random") else f" at {1.0 / (STEP_S * self.every):.3g} Hz"
        return f"{self.task}, {self.controller}{how}, {away}, {self.world}"

    @property
    def is_main(self) -> bool:
        """One of those that the others are there to explain."""
        return (self.controller, self.goal) in MAIN and self.world == "nominal"


@dataclass(frozen=True)
class Plan:
    """What is played.

    Everybody plans anew at each model step, the oracle at each fourth, since a plan costs it seconds. So that it has an
    equal, CEM plays its problems at that pace as well: same samples, iterations, plans and warm start.
    """

    episodes: int = 200
    far_oracle_episodes: int = 60  # more than a minute each
    extra_episodes: int = 200  # of the cells beside the main ones
    main_only: bool = False  # and near goals only
    planning: PlanningConfig = PlanningConfig()
    oracle_execute: int = 4  # model steps between two plans of the oracle, and of its equal
    hold: int | None = None  # model steps that a command is held for; None: the task's own, HOLD


HOLD: Final[Mapping[str, int]] = {"navigate": 2, "reach": 2, "push_box": 2}  # chosen on seeds 100 to 104
_QUICK: Final = PlanningConfig(samples=4, iterations=1, horizon=2, execute=2)
PLANS: Final = {
    "full": Plan(),
    "main": Plan(main_only=True),
    "brief": Plan(episodes=60, main_only=True),
    "tiny": Plan(episodes=2, main_only=True, planning=_QUICK),
}


def cells(tasks: tuple[str, ...], plan: Plan) -> list[Cell]:
    """Every row, the main ones of each task first."""
    rows: list[Cell] = []
    for task in tasks:
        main = [Cell(task, controller, goal, every=plan.planning.execute) for controller, goal in MAIN]
        equal = [replace(cell, every=plan.oracle_execute) for cell in main if cell.goal == "state"]
        equal = [cell for cell in equal if cell.controller in ("cem", "oracle")]
        main = [cell for cell in main if cell.controller != "oracle"]
        rows += [*main, *equal] if plan.main_only else [*main, *equal, *_beside(task, [*main, *equal], plan)]
    return list(dict.fromkeys(rows))  # at equal paces the oracle's equal is there already


def _beside(task: str, main: list[Cell], plan: Plan) -> list[Cell]:
    usual = Cell(task, every=plan.planning.execute)
    rows = [] if task == "reach" else [replace(usual, goal=TRUE_POSE)]  # reach knows no base pose
    rows += [replace(cell, goal_steps=FAR) for cell in main]
    rows += [replace(usual, controller="expert", goal="instruction")]  # what of those goals can be reached in time
    rows += [replace(usual, goal=goal) for goal in ("image", "instruction")]
    rows += [replace(usual, controller=name) for name in PLANNERS if name != "cem"]
    worlds = ("unseen_scenes", "unseen_objects", "camera_pose")
    return rows + [replace(usual, controller=name, world=world) for world in worlds for name in ("cem", "expert")]


def count_of(cell: Cell, plan: Plan) -> int:
    """Episodes of a cell."""
    beside_the_oracle = cell.controller == "oracle" or cell.every == plan.oracle_execute != plan.planning.execute
    if beside_the_oracle and cell.goal_steps == FAR:
        return min(plan.far_oracle_episodes, plan.episodes)
    alike = cell.is_main or cell.goal == TRUE_POSE
    return plan.episodes if alike else min(plan.extra_episodes, plan.episodes)


def planning_of(cell: Cell, plan: Plan) -> PlanningConfig:
    """What a cell's controller is given."""
    steps, hold = cell.goal_steps, HOLD[cell.task] if plan.hold is None else plan.hold
    paced = replace(plan.planning, execute=cell.every, hold=hold)
    return replace(paced, goal=cell.goal, goal_steps=steps, budget_steps=2 * steps)


def jobs_of(cell: Cell, plan: Plan, model: Path, folder: Path, seeds: tuple[int, ...]) -> list[TrialJob]:
    """The cell's work: its episodes are shared out over the seeds; the same for any number of workers."""
    config = planning_of(cell, plan)
    each = -(-count_of(cell, plan) // len(seeds))
    place = folder / f"{cell.name}-hold{config.hold}"
    jobs = []
    for seed in seeds:
        for first in range(0, each, SHARD):
            count = min(SHARD, each - first)
            path = place / f"seed{seed}_{first:04d}_{count}.json"
            jobs.append(TrialJob(str(path), str(model), cell.controller, config, cell.world, seed, first, count))
    return jobs

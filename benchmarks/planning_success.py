"""How often plans succeed: cells of task, controller, kind of goal, distance and world, played in shards that stay.

Shards are played problem by problem, all cells and tasks of one before the next: a run that is stopped holds rows that
can be compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from planning_cells import FAR, HOLD, NEAR, TASKS, Cell, Plan
from planning_pairs import Gap, difference, ratio, worth
from planning_time import time_left

from neon_sim.training.workers import parallel_map
from neon_sim.world_model.command_space import STEP_S
from neon_sim.world_model.judging import NO_PROBLEM, TrialJob, run_job, summary
from neon_sim.world_model.played import stamp_of

# Seconds on one core, to say how long it takes before any was played: of a plan by search in the world and in a latent,
# and of a model step of the world with its pictures; an episode is taken to need three quarters of its budget.
PLAN_S: Final = {"oracle": 3.7, "cem": 0.16, "icem": 0.16, "mppi": 0.16, "gradient": 0.16}
STEP_SPENT_S, PROBLEM_S, OF_BUDGET = 0.02, 0.4, 0.75
Rows = Sequence[Mapping[str, Any]]
Played = Mapping[Cell, Rows]
Jobs = Mapping[Cell, Sequence[TrialJob]]


def guess(cell: Cell) -> float:
    """Seconds of one of its episodes, before any was played."""
    steps = OF_BUDGET * 2 * cell.goal_steps
    return PROBLEM_S + steps * (STEP_SPENT_S + PLAN_S.get(cell.controller, 0.0) / cell.every)


def estimate(jobs: Jobs, workers: int) -> str:
    """How much is to do and about how long that takes: by the shards of the same cell where there are any."""
    return time_left(
        [(guess(cell), [(Path(job.path), job.count) for job in part]) for cell, part in jobs.items()], workers
    )


def in_order(jobs: Jobs) -> list[tuple[Cell, TrialJob]]:
    """All shards: block by block of the same episodes of all seeds, in a block seed by seed, then task by task."""
    every = [(cell, job) for cell, part in jobs.items() for job in part]
    return sorted(every, key=lambda pair: (pair[1].first, pair[1].seed, TASKS.index(pair[0].task)))


def play(
    jobs: Jobs, workers: int, show: Callable[[dict[Cell, list[dict[str, Any]]]], None] = lambda played: None
) -> tuple[dict[Cell, list[dict[str, Any]]], list[str]]:
    """Play what is missing; every cell's rows, see `run_job`, and when and at which commits they were played.

    show: is given what there is so far after each block of episodes, and when the run is stopped.
    """
    print(estimate(jobs, workers), flush=True)
    played: dict[Cell, list[dict[str, Any]]] = {cell: [] for cell in jobs}
    ordered = in_order(jobs)
    found = parallel_map(run_job, [job for _, job in ordered], workers, "shards")
    try:
        for at, ((cell, job), rows) in enumerate(zip(ordered, found, strict=True)):
            played[cell] += rows
            if at + 1 < len(ordered) and ordered[at + 1][1].first != job.first:
                show({one: some for one, some in played.items() if some})
    except KeyboardInterrupt:
        show({one: some for one, some in played.items() if some})
        raise
    return played, sorted({stamp_of(Path(job.path)) for _, job in ordered})


def oracle_of(cell: Cell, played: Played) -> Cell | None:
    """The oracle's cell with the same problems, samples, plans and pace; None where nobody played that."""
    oracle = replace(cell, controller="oracle")
    return oracle if cell.controller == "cem" and oracle in played else None


def shares_of_oracle(played: Played) -> dict[Cell, Gap]:
    """CEM's success over the oracle's, like for like, on the episodes that both played."""
    found = {}
    for cell, rows in played.items():
        oracle = oracle_of(cell, played)
        share = ratio(rows, played[oracle]) if oracle is not None else None
        if share is not None:
            found[cell] = share
    return found


def budgets(plan: Plan, corrected: Sequence[str] = ()) -> list[list[str]]:
    """Rows for people: what everybody was given.

    corrected: tasks where the box's place now is read off patch tokens (`Sight`).
    """
    given = plan.planning
    holds = ", ".join(f"{task} {STEP_S * given.horizon * (plan.hold or hold):.1f} s" for task, hold in HOLD.items())
    labels = [
        f"all that search: {given.samples} samples x {given.iterations} iterations, warm start, plans of {holds}",
        f"oracle: MuJoCo as the model, a plan each {STEP_S * plan.oracle_execute:.1f} s; CEM's share of it is of the "
        "row at the same pace, on the episodes that both played",
    ]
    labels += [episodes_told(plan)]
    labels += [
        f"{task}: where the box is now is read off patch tokens, the way of it off latents" for task in corrected
    ]
    return [[label, "", "", "", ""] for label in labels]


def episodes_told(plan: Plan) -> str:
    """Which rows have how many episodes, for people; each row has its own count beside its rate as well."""
    if plan.main_only:
        return f"episodes: {plan.episodes} in every row"
    far, extra = (min(count, plan.episodes) for count in (plan.far_oracle_episodes, plan.extra_episodes))
    return (
        f"episodes: {plan.episodes} in the nominal world with goal state (true pose or not) and observation, of cem, "
        f"cloned, amortised, oracle, expert and random; of these {far} for the oracle, and cem at its pace, with goals "
        f"{STEP_S * FAR:.0f} s away; {extra} in all other rows (goals image and instruction; icem, mppi and gradient; "
        "the other worlds), whose intervals are wider"
    )


def over_cloned(played: Played, what: str = "success") -> dict[tuple[str, int], Gap]:
    """By task and model steps to the goal (NEAR, FAR): success of CEM less that of the cloned head, both with the goal
    "observation".

    what: "success", or "passed" for who only came near.
    """
    found = {}
    for cell, rows in played.items():
        if (cell.controller, cell.goal, cell.world) == ("cem", "observation", "nominal"):
            gap = difference(rows, played.get(replace(cell, controller="cloned"), ()), what)
            if gap is not None:
                found[cell.task, cell.goal_steps] = gap
    return found


def sums(played: Played) -> dict[Cell, dict[str, Any]]:
    """`summary` of each cell that has an episode."""
    some = {cell: rows for cell, rows in played.items() if any(NO_PROBLEM not in row for row in rows)}
    return {cell: summary([dict(row) for row in rows]) for cell, rows in some.items()}


def table_rows(played: Played) -> list[list[str]]:
    """Rows for people."""
    found, shares, rows = sums(played), shares_of_oracle(played), []
    for cell, every in played.items():
        row = found.get(cell)
        if row is None:
            rows.append([cell.label, f"no problem found in {len(every)} tries", "", "", ""])
            continue
        share = worth(shares[cell]) if cell in shares else ""
        distance = f"{row['start_cm_median']:.0f} to {row['final_cm_median']:.1f} cm"
        success = f"{row['success']}, passed {row['passed']}"
        rows.append([cell.label, success, share, distance, f"{row['decide_ms_p50']:.0f} ms"])
    for what, name in (("success", "success"), ("passed", "passed, standing or not")):
        for (task, steps), gap in over_cloned(played, what).items():
            away = f"goal observation {STEP_S * steps:.1f} s away"
            label = f"{task}, cem less cloned (behaviour cloning), both with {away}: {name}"
            rows.append([label, f"{worth(gap, 100.0, '+.1f')} points", "above 0", "", ""])
    return rows


def success_figures(played: Played) -> dict[str, Any]:
    """Plain numbers for the JSON file, the main ones under the names that others look for.

    `success_TASK` is CEM's at its own pace, `oracle_TASK` the oracle's, `share_of_oracle_TASK` that of CEM at the
    oracle's pace; `cem_over_cloned_TASK` and `cem_over_cloned_passed_TASK` are of goals 2.5 s away, with `_far` at the
    end of those 5 s away; `episodes` the fewest that one of the first two was played for, and each cell has its own.
    """
    found, shares = sums(played), shares_of_oracle(played)
    figures: dict[str, Any] = {"cells": {cell.name: row for cell, row in found.items()}}
    figures["of_oracle"] = {cell.name: gap._asdict() for cell, gap in shares.items()}
    gaps = {name: over_cloned(played, what) for name, what in (("", "success"), ("_passed", "passed"))}
    near = [cell for cell in played if (cell.goal, cell.goal_steps, cell.world) == ("state", NEAR, "nominal")]
    counts = []
    for task in dict.fromkeys(cell.task for cell in played):
        mine = sorted((cell for cell in near if cell.task == task), key=lambda cell: cell.every)
        for name, controller in (("success", "cem"), ("oracle", "oracle")):
            row = next((found[cell] for cell in mine if cell.controller == controller and cell in found), None)
            figures[f"{name}_{task}"] = row["rate"] if row is not None else None
            figures[f"episodes_{name}_{task}"] = row["episodes"] if row is not None else 0
            counts += [row["episodes"]] if row is not None else []
        share = next((shares[cell] for cell in mine if cell in shares), None)
        figures[f"share_of_oracle_{task}"] = None if share is None else share._asdict()
        for name, found_gaps in gaps.items():
            for steps, end in ((NEAR, ""), (FAR, "_far")):
                gap = found_gaps.get((task, steps))
                figures[f"cem_over_cloned{name}_{task}{end}"] = None if gap is None else gap._asdict()
    return figures | {"episodes": min(counts, default=0)}

"""Planning in the latent world model: how fast, and how often it gets there.

    python benchmarks/planning.py                            # speed, memory: ten minutes on two idle cores
    python benchmarks/planning.py --success --preset brief   # the main rows, 60 episodes each: about 1.7 h
    python benchmarks/planning.py --success --preset main    # the main rows, 200 episodes each: about 5 h
    python benchmarks/planning.py --success                  # all rows: about 20 h
    python benchmarks/planning.py --ranks --adaptation       # order of plans, imagined and real; learning in the loop
    python benchmarks/planning.py --equal-flops              # trains a patch-token model of each task, then plays both
    python benchmarks/planning.py --success --seeds 100 101 --tasks reach --controllers cem --episodes 10  # to choose
    python benchmarks/planning.py --preset tiny --success    # a minute or two, prints and reports nothing

World models are taken from runs/world_model_TASK/world_model (agents/train_world_model.py), else the shipped ones; a
task without one is left out and said so. Episodes are kept in --runs, so the same line goes on where it was stopped,
and a full run begins with what a brief one has played; those in benchmarks/results/planning_episodes are taken from
there while settings, weights and code are the same. How long it will take is said first. All cells and tasks of some
problems come before the next problems, and the table so far is printed in between and when it is stopped.

The report (benchmarks/results/planning.json, RESULTS.md) is made of parts: speed, success, ranks, equal FLOPs,
adaptation. Speed is of the size xs read off our grid, as agents/train_world_model.py trains it, and of its class token
beside it; it prints the README's row as well. What is measured takes the place of its own part, unless the report has a
better one: full before brief, all tasks before some, an idle machine before a busy one. With --tasks, --controllers,
--episodes or --seeds a run is printed and not reported.
"""

import argparse
import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from planning_adaptation import ARMS, measure_adaptation
from planning_cells import HOLD, PLANS, REPORT_SEEDS, TASKS, Cell, Plan, cells, jobs_of
from planning_costs import readme_row
from planning_equal_flops import PatchTraining, measure_equal_flops
from planning_parts import PRESETS, QUIET, Part, parts_of, together, why_not
from planning_ranks import measure_ranks
from planning_shipped import EPISODES, ship, take_shipped
from planning_speed import SPEED_PRESETS, cpu_share, measure_speed
from planning_success import budgets, play, success_figures, table_rows
from report import BEGUN_AT, ROOT, table, write_report

from neon_sim.names import nearest
from neon_sim.training.workers import cpu_count
from neon_sim.world_model.bundle import load_bundle, other_walker
from neon_sim.world_model.judging import TrialJob, model_folder
from neon_sim.world_model.references import CONTROLLERS

Measured = tuple[dict[str, Any], list[list[str]]]  # figures for the JSON file, rows for people
HEADER = ("what", "measured", "of the oracle's, or wanted", "distance, start to end", "decision, p50")


def models_of(tasks: tuple[str, ...], given: Path | None = None) -> dict[str, Path]:
    """The world models that there are, by task; given: a folder with one for each task.

    Raises ValueError for one that learned from recordings of another walker: what it does says nothing of today's.
    """
    found = {}
    for task in tasks:
        try:
            found[task] = model_folder(task, None if given is None else given / task)
        except FileNotFoundError:
            print(f"{task}: no world model; train one with agents/train_world_model.py --task {task}")
            continue
        differs = other_walker(found[task])
        if differs:
            raise ValueError(
                f"{found[task]} learned from recordings of another walker ({', '.join(differs)}). Train it again "
                f"(python agents/train_world_model.py --task {task}), or name others with --models."
            )
    return found


def speed(args: argparse.Namespace, models: Mapping[str, Path]) -> Measured:
    """Figures and rows of how fast plans are made."""
    trained = load_bundle(next(iter(models.values()))) if models and args.preset != "tiny" else None
    figures, rows = measure_speed(SPEED_PRESETS["tiny" if args.preset == "tiny" else "full"], args.threads, trained)
    return figures, [[*row, "", ""] for row in rows]


def jobs_asked_for(args: argparse.Namespace, models: Mapping[str, Path]) -> tuple[Plan, dict[Cell, list[TrialJob]]]:
    """What --success plays: the plan, and each cell's shards."""
    plan = PLANS[args.preset]
    given = {"episodes": args.episodes, "oracle_execute": args.oracle_execute, "hold": args.hold}
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})
    if args.execute is not None:
        plan = replace(plan, planning=replace(plan.planning, execute=args.execute))
    seeds = tuple(args.seeds or REPORT_SEEDS[: plan.episodes])
    wanted = [cell for cell in cells(tuple(models), plan) if cell.controller in (args.controllers or CONTROLLERS)]
    return plan, {cell: jobs_of(cell, plan, models[cell.task], args.runs, seeds) for cell in wanted}


def success(args: argparse.Namespace, models: Mapping[str, Path]) -> Measured:
    """Figures and rows of the episodes; what there is so far is printed after each block of them."""
    plan, jobs = jobs_asked_for(args, models)
    if not args.anew:
        every = [job for part in jobs.values() for job in part]
        taken = take_shipped(every, args.runs)
        if taken:
            print(f"{taken} of {len(every)} shards are those in {EPISODES}; --anew and another --runs play them.")
    seeds = sorted({job.seed for part in jobs.values() for job in part})
    corrected = [task for task, folder in models.items() if load_bundle(folder).sight is not None]

    def show(played: Mapping[Cell, Any]) -> None:
        print("\nso far:\n" + table(HEADER, table_rows(played)), flush=True)

    played, stamps = play(jobs, args.workers, show)
    settings = {"seeds": seeds, "plan": asdict(plan), "hold": dict(HOLD), "played": stamps}
    settings["box_read_off_patch_tokens"] = corrected
    rows = [*table_rows(played), *budgets(plan, corrected), [f"played on {'; '.join(stamps)}", "", "", "", ""]]
    return success_figures(played) | settings, rows


def ranks(args: argparse.Namespace, models: Mapping[str, Path]) -> Measured:
    """Figures and rows of the order of plans; some seconds a problem."""
    problems = args.episodes or {"full": 50, "main": 50, "brief": 20, "tiny": 1}[args.preset]
    return measure_ranks(models, args.runs, tuple(args.seeds or REPORT_SEEDS), problems, args.workers)


def equal_flops(args: argparse.Namespace, models: Mapping[str, Path]) -> Measured:
    """Figures and rows of one token against many; the patch-token models are trained first."""
    episodes = args.episodes or {"full": 50, "main": 50, "brief": 20, "tiny": 2}[args.preset]
    training = PatchTraining(episodes=4, updates=20, readout_epochs=1) if args.preset == "tiny" else PatchTraining()
    seeds = args.seeds or REPORT_SEEDS[:episodes]
    return measure_equal_flops(models, args.runs, PLANS[args.preset].planning, seeds, episodes, args.workers, training)


def adaptation(args: argparse.Namespace, models: Mapping[str, Path]) -> Measured:
    """Figures and rows of learning in the loop; `--episodes` are shared out over the seeds' lives."""
    seeds = args.seeds or REPORT_SEEDS
    each = -(-(args.episodes or {"full": 200, "main": 200, "brief": 60, "tiny": 10}[args.preset]) // len(seeds))
    given = {"l2": args.strength_l2, "ewc": args.strength_ewc}
    strengths = {arm: value for arm, value in given.items() if value is not None}
    return measure_adaptation(models, args.runs, seeds, each, args.workers, strengths)


MEASURES: dict[str, Callable[[argparse.Namespace, Mapping[str, Path]], Measured]] = {
    "speed": speed,
    "success": success,
    "ranks": ranks,
    "equal_flops": equal_flops,
    "adaptation": adaptation,
}


def check(args: argparse.Namespace) -> None:
    """Refuse what does not exist.

    Raises:
        ValueError: an unknown preset, task or controller, with the nearest that exists, or a count below one.
    """
    for kind, given, valid in (
        ("preset", [args.preset], PRESETS),
        ("task", args.tasks or [], TASKS),
        ("controller", args.controllers or [], CONTROLLERS),
    ):
        for name in given:
            if name not in valid:
                raise nearest(kind, name, valid)
    if args.episodes is not None and args.episodes < 1:
        raise ValueError(f"--episodes must be at least 1, got {args.episodes}.")


def ship_played(args: argparse.Namespace) -> None:
    """Put what --success has played into the repository, and say how much there is then."""
    models = models_of(tuple(args.tasks or TASKS), args.models)
    jobs: dict[str, list[TrialJob]] = {}
    for cell, part in jobs_asked_for(args, models)[1].items():
        jobs.setdefault(cell.task, []).extend(part)
    print(f"{ship(jobs, args.runs)} shards are in {EPISODES} now.")


def measure(args: argparse.Namespace) -> dict[str, Part]:
    """The parts that were asked for; the time-critical one first, on a machine that is still free."""
    asked = [name for name in MEASURES if getattr(args, name)] or ["speed"]
    models = models_of(tuple(args.tasks or TASKS), args.models)
    parts = {}
    for name in asked:
        if name != "speed" and not models:
            continue
        got = cpu_share(args.threads) if name == "speed" else 1.0
        if got < QUIET:
            print(f"This machine is busy: {100 * got:.0f} % of the processor were to be had. Times will be too long.")
        figures, rows = MEASURES[name](args, models)
        tasks = () if name == "speed" else tuple(models)
        parts[name] = Part(args.preset, tasks, _today(), BEGUN_AT, figures, rows, _notes(name, args), got)
    return parts


def _notes(name: str, args: argparse.Namespace) -> dict[str, Any]:
    return {"threads": args.threads} if name == "speed" else {"workers": args.workers}


def _today() -> str:
    return datetime.date.today().isoformat()


def report(measured: Mapping[str, Part], root: Path = ROOT) -> None:
    """Put what was measured into the report, beside the parts that are there already."""
    path = root / "benchmarks" / "results" / "planning.json"
    parts = parts_of(json.loads(path.read_text(encoding="utf-8"))["figures"]) if path.exists() else {}
    for name, part in measured.items():
        reason = why_not(part, parts.get(name))
        if reason is None:
            parts[name] = part
        else:
            print(f"{name} is not reported: {reason}.")
    if any(parts[name] is part for name, part in measured.items()):
        figures, rows = together(parts)
        write_report("planning", figures, HEADER, rows, _today(), root)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--speed", action="store_true", help="how fast plans are made; so without any of these")
    parser.add_argument("--success", action="store_true", help="play episodes")
    parser.add_argument("--ranks", action="store_true", help="correlate predicted and true costs of plans")
    parser.add_argument("--equal-flops", action="store_true", help="train a patch-token model and play both")
    parser.add_argument("--adaptation", action="store_true", help=f"live with a model that learns: {', '.join(ARMS)}")
    parser.add_argument("--tasks", nargs="+", help=f"some of {', '.join(TASKS)}")
    parser.add_argument("--controllers", nargs="+", help=f"rows to play, of {', '.join(CONTROLLERS)}")
    parser.add_argument("--episodes", type=int, help="of the main rows and of lives (200), or problems (50)")
    parser.add_argument("--seeds", type=int, nargs="+", help="100 to 104 to choose settings; 0 to 9 are reported")
    parser.add_argument("--execute", type=int, help="model steps of 0.1 s between two decisions (1)")
    parser.add_argument("--oracle-execute", type=int, help="the same of the oracle and of the CEM beside it (4)")
    parser.add_argument("--hold", type=int, help="model steps that a command of a plan is held for")
    parser.add_argument("--strength-l2", type=float, help="of the springs that adapt under l2, for all parameters")
    parser.add_argument("--strength-ewc", type=float, help="of those under ewc")
    parser.add_argument("--models", type=Path, help="a folder with a world model for each task, by its name")
    parser.add_argument("--runs", type=Path, default=Path("runs/planning"))
    parser.add_argument("--anew", action="store_true", help="play what is in the repository again, too")
    parser.add_argument("--ship", action="store_true", help="put what is played into the repository, and end")
    parser.add_argument("--threads", type=int, default=min(2, cpu_count()), help="of the speed rows; the bar's are two")
    parser.add_argument("--workers", type=int, default=cpu_count())
    args = parser.parse_args()
    try:
        check(args)
        if args.ship:
            ship_played(args)
            return
        measured = measure(args)
    except (ValueError, FileNotFoundError, ChildProcessError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was played is in {args.runs}. The same line goes on.") from None
    rows = [row for name, part in measured.items() for row in (part.heading(name), *part.rows)]
    print(table(HEADER, rows))
    if "speed" in measured:
        print(f"\nFor the README's table:\n{readme_row(measured['speed'].figures, measured['speed'].date)}")
    chosen = any((args.tasks, args.controllers, args.seeds)) or any(
        value is not None for value in (args.episodes, args.execute, args.oracle_execute, args.hold)
    )
    if args.preset != "tiny" and measured and not chosen:
        report(measured)


if __name__ == "__main__":
    main()

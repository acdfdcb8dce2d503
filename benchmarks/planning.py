"""Planning in the latent world model: how fast, and how often it gets there.

    python benchmarks/planning.py                      # speed: some minutes on two idle cores
    python benchmarks/planning.py --success            # then the episodes as well: hours, can be stopped and resumed
    python benchmarks/planning.py --success --tasks reach --controllers cem random
    python benchmarks/planning.py --ranks --adaptation # order of plans, imagined and real; learning in the loop
    python benchmarks/planning.py --preset tiny        # seconds, prints and writes nothing

World models are taken from runs/world_model_TASK/world_model (agents/train_world_model.py), else the shipped ones; a
task without one is left out and said so. Episodes are kept in --runs, so the same line goes on where it was stopped.
"""

import argparse
import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

from planning_adaptation import measure_adaptation
from planning_speed import SPEED_PRESETS, measure_speed
from planning_success import REPORT_SEEDS, TASKS, Plan, cells, measure_ranks, play, success_figures, table_rows
from report import table, write_report

from neon_sim.names import nearest
from neon_sim.training.workers import cpu_count
from neon_sim.world_model.controllers import CONTROLLERS
from neon_sim.world_model.judging import model_folder

Measured = tuple[dict[str, Any], list[list[str]]]  # figures for the JSON file, rows for people
HEADER = ("what", "measured", "of the oracle's, or wanted", "distance, start to end", "decision, p50")


def models_of(tasks: tuple[str, ...]) -> dict[str, Path]:
    """The world models that there are, by task."""
    found = {}
    for task in tasks:
        try:
            found[task] = model_folder(task)
        except FileNotFoundError:
            print(f"{task}: no world model; train one with agents/train_world_model.py --task {task}")
    return found


def success(args: argparse.Namespace, models: dict[str, Path]) -> Measured:
    """Figures and rows of the episodes."""
    plan = Plan()
    if args.episodes is not None:
        few = min(args.episodes, plan.oracle_episodes)
        plan = replace(plan, episodes=args.episodes, oracle_episodes=few)
    wanted = [cell for cell in cells(tuple(models)) if cell.controller in args.controllers]
    found = play(wanted, plan, models, args.runs, tuple(args.seeds), args.workers)
    return success_figures(found) | {"seeds": list(args.seeds)}, table_rows(found)


def ranks(args: argparse.Namespace, models: dict[str, Path]) -> Measured:
    """Figures and rows of the order of plans; some seconds a problem."""
    return measure_ranks(models, args.runs, tuple(args.seeds), args.episodes or 50, args.workers)


def adaptation(args: argparse.Namespace, models: dict[str, Path]) -> Measured:
    """Figures and rows of learning in the loop; `--episodes` are shared out over the seeds' lives."""
    each = -(-(args.episodes or 200) // len(args.seeds))
    return measure_adaptation(models, args.runs, args.seeds, each, args.workers)


def played(args: argparse.Namespace) -> Measured:
    """Everything that was asked for and needs a trained world model.

    Raises:
        ValueError: an unknown task or controller, with the nearest that exists.
    """
    for kind, given, valid in (("task", args.tasks, TASKS), ("controller", args.controllers, CONTROLLERS)):
        for name in given:
            if name not in valid:
                raise nearest(kind, name, valid)
    figures: dict[str, Any] = {}
    rows: list[list[str]] = []
    parts = {success: args.success, ranks: args.ranks, adaptation: args.adaptation}
    models = models_of(tuple(args.tasks)) if any(parts.values()) else {}
    for measure in (part for part, asked in parts.items() if asked):
        more, more_rows = measure(args, models)
        figures, rows = figures | more, rows + more_rows
    return figures, rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=f"one of {', '.join(SPEED_PRESETS)}")
    parser.add_argument("--success", action="store_true", help="play episodes as well")
    parser.add_argument("--ranks", action="store_true", help="correlate predicted and true costs of plans as well")
    parser.add_argument("--adaptation", action="store_true", help="live with a model that learns as well")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--controllers", nargs="+", default=[n for n in CONTROLLERS], help="rows to play")
    parser.add_argument("--episodes", type=int, help="of the main rows (200), or problems (50)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(REPORT_SEEDS), help="100 to 104 to choose settings"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/planning"))
    parser.add_argument("--threads", type=int, default=cpu_count(), help="of the speed rows")
    parser.add_argument("--workers", type=int, default=cpu_count())
    args = parser.parse_args()
    if args.preset not in SPEED_PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, SPEED_PRESETS)))
    figures, speed_rows = measure_speed(SPEED_PRESETS[args.preset], args.threads)
    rows = [[what, measured, wanted, "", ""] for what, measured, wanted in speed_rows]
    try:
        more, more_rows = played(args)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was played is in {args.runs}. The same line goes on.") from None
    figures, rows = figures | more, rows + more_rows
    print(table(HEADER, rows))
    if args.preset == "full":
        write_report("planning", figures, HEADER, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()

"""NeonBench of the references, and how often the experts of the tasks that need no walking succeed.

    python benchmarks/neonbench.py              # expert, zero, random: all tasks and cells, 20 episodes each
    python benchmarks/neonbench.py --experts    # experts of the tasks without walking: the nominal cell, 200 episodes
    python benchmarks/neonbench.py --experts --tasks reach press --episodes 2

Both fill --out, where every episode is kept: stop with Ctrl-C, and the same line goes on; what one of the two has
played is not played again by the other. RESULTS.md is written for all tasks with at least so many episodes, and by
nothing smaller; how long it took is in it if nothing had been played before.
"""

import argparse
import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from report import table, write_report

from neon_sim.cells import CELLS, TASKS
from neon_sim.eval.neonbench import BenchConfig, plan, run
from neon_sim.eval.neonbench_play import find_player
from neon_sim.eval.neonbench_report import BenchResults, Score, as_dict, task_cells
from neon_sim.eval.statistics import format_rate
from neon_sim.inference.references import REFERENCES
from neon_sim.training.multitask import STANDING
from neon_sim.training.workers import cpu_count

SMOKE, FULL = 20, 200  # episodes of each task and cell: of the references, and where a rate is judged
MOST_MINUTES: Final = 15.0  # of the references on two cores
LEAST_PERCENT: Final = 90.0  # of an expert's episodes


def cells_rows(results: BenchResults, minutes: float | None, workers: int) -> list[list[str]]:
    """A row for each policy and task, and one for the time that it all took."""
    rows = []
    for player in results.players:
        over_all = [str(results.score(player, results.tasks, cell)) for cell in results.cells]
        rows.append([player.label, f"all {len(results.tasks)}", *over_all])
        rows += [[player.label, task, *task_cells(results, player, task)] for task in results.tasks]
    took = "not measured: played in parts"
    if minutes is not None:
        verdict = "met" if minutes < MOST_MINUTES else "missed"
        judged = verdict if workers == 2 else "of two processes, so not judged"
        took = f"{minutes:.1f} min, {workers} processes (target: under {MOST_MINUTES:g}: {judged})"
    return [*rows, ["all", "time", took, *[""] * (len(results.cells) - 1)]]


def expert_rows(results: BenchResults) -> list[list[str]]:
    """A row for each task: success, how long the successes took, what ended in a fall or a mistake, the target."""
    rows, (player,) = [], results.players
    for task in results.tasks:
        episodes = results.of(player, task, results.cells[0])
        score, won = Score.of(episodes), [episode.steps for episode in episodes if episode.success]
        mean_s = f"{sum(won) / len(won) / 50:.1f} s" if won else "-"  # of steps at 50 Hz
        ended = sum(episode.terminated for episode in episodes)
        verdict = f"{LEAST_PERCENT:g} %: {'met' if score.percent[0] >= LEAST_PERCENT else 'missed'}"
        rows.append([task, format_rate(score.successes, score.episodes), mean_s, str(ended), verdict])
    return rows


def measure(config: BenchConfig, folder: Path, workers: int) -> tuple[BenchResults, float | None]:
    """Play what is missing; the results, and the minutes that it took if nothing had been played before."""
    shards = [shard for several in plan(config, folder).values() for shard in several]
    fresh = not any(Path(shard.path).is_file() for shard in shards)
    start_s = time.perf_counter()
    results = run(config, folder, workers)
    return results, (time.perf_counter() - start_s) / 60.0 if fresh else None


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, with what was left open filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", action="store_true", help="the experts' rates instead of the references' cells")
    parser.add_argument("--tasks", nargs="+", help="some of them, for a trial")
    parser.add_argument("--episodes", type=int, help=f"of each task and cell: {SMOKE}, of the experts {FULL}")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/neonbench"))
    args = parser.parse_args(arguments)
    if args.workers < 1:
        parser.error(f"--workers must be at least 1, got {args.workers}")
    args.enough = FULL if args.experts else SMOKE
    args.episodes = args.enough if args.episodes is None else args.episodes
    args.every_task = STANDING if args.experts else tuple(TASKS)
    args.tasks = tuple(args.tasks or args.every_task)
    return args


def main() -> None:
    """Play, print and report."""
    args = parse()
    players = tuple(find_player(name) for name in (("expert",) if args.experts else REFERENCES))
    cells = ("nominal",) if args.experts else tuple(CELLS)
    try:
        config = BenchConfig(players, args.tasks, cells, args.episodes)
        results, minutes = measure(config, args.out / "episodes", args.workers)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was played is in {args.out}. The same line goes on.") from None
    if args.experts:
        name, rows = "neonbench_experts", expert_rows(results)
        header = ["task", "success, 95 % interval", "mean time to success", "falls and mistakes", "target"]
    else:
        name, rows = "neonbench", cells_rows(results, minutes, args.workers)
        header = ["policy", "task", *(cell.replace("_", " ") for cell in cells)]
    print(table(header, rows))
    if args.tasks != args.every_task or args.episodes < args.enough:
        print(f"RESULTS.md is written for all tasks with {args.enough} episodes, not for this trial.")
        return
    figures = {**as_dict(results), "minutes": minutes, "workers": args.workers}
    write_report(name, figures, header, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()

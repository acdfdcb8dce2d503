"""A planner in a head: a head that learned from what a planner did, beside the planner and the scripted expert.

    python agents/collect.py --task reach --policy cem --as-judged --sensors state proprio camera --episodes 300 \\
        --out runs/planned/reach
    python agents/pretrain.py --preset multitask_state --tasks reach --data runs/planned --successes-only \\
        --out runs/planned/head
    python benchmarks/distilled_planner.py --policy runs/planned/head/best     # planned for 10 minutes, two idle cores
    python benchmarks/distilled_planner.py --policy runs/planned/head/best --episodes 10

All three play the same episodes of NeonBench's nominal cell. Stop with Ctrl-C; the same line goes on. RESULTS.md is
written for 200 episodes each, and by nothing smaller.
"""

import argparse
import datetime
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from report import table, write_report

from neon_sim.eval.neonbench import BenchConfig, run
from neon_sim.eval.neonbench_play import BenchEpisode, Player, find_player
from neon_sim.eval.neonbench_report import BenchResults, Score
from neon_sim.eval.statistics import format_rate, paired_difference
from neon_sim.inference.planner_policy import SENSES, world_model_of
from neon_sim.names import nearest
from neon_sim.training.workers import cpu_count
from neon_sim.world_model.controllers import PLANNERS
from neon_sim.world_model.played import fingerprint

FULL: Final = 200  # episodes that a figure counts with
CELL: Final = "nominal"
WHO: Final = ("expert", "planner", "head")
HEADER: Final = ("task, planner", *WHO, "head against planner, points", "CPU s of an episode, planner and head")


def players_of(folder: str, task: str, planner: str) -> tuple[Player, ...]:
    """The expert, the planner in the task's world model, and the head, which sees no pictures if it reads the state.

    Raises ValueError for a planner, a world model or a checkpoint that is not there.
    """
    if planner not in PLANNERS:
        raise nearest("planner", planner, PLANNERS)
    head = find_player(folder)
    reads = tuple(name for name in head.reads if not ("state" in head.reads and name == "camera"))
    mark = f"{planner} {fingerprint(world_model_of(task))}"
    return (
        replace(find_player("expert"), label="expert"),
        Player("planner", planner, SENSES, mark=mark, task=task),
        replace(head, label="head", reads=reads),
    )


def figures_of(results: BenchResults, task: str, planner: str) -> dict[str, Any]:
    """Successes of all three, and what the head gains on the planner in the same episodes."""
    played: dict[str, Sequence[BenchEpisode]] = {p.label: results.of(p, task, CELL) for p in results.players}
    wins = {who: [episode.success for episode in episodes] for who, episodes in played.items()}
    gain, low, high = paired_difference(wins["planner"], wins["head"])
    return {
        "task": task,
        "by": planner,
        "seeds": [played["head"][0].seed, played["head"][-1].seed],
        **{who: asdict(Score.of(episodes)) for who, episodes in played.items()},
        "head_against_planner": {"points": 100.0 * gain, "low": 100.0 * low, "high": 100.0 * high},
        "cpu_s": {who: sum(e.cpu_s for e in episodes) / len(episodes) for who, episodes in played.items()},
    }


def row_of(figures: dict[str, Any]) -> list[str]:
    """The table for people."""
    gain, cpu_s = figures["head_against_planner"], figures["cpu_s"]
    return [
        f"{figures['task']}, {figures['by']}",
        *(format_rate(figures[who]["successes"], figures[who]["episodes"]) for who in WHO),
        f"{gain['points']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}]",
        f"{cpu_s['planner']:.2f}, {cpu_s['head']:.2f}",
    ]


def main() -> None:
    """Play what is missing, print the row, and write it down at full size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", required=True, help="folder of the head")
    parser.add_argument("--task", default="reach")
    parser.add_argument("--planner", default="cem", help=f"one of {', '.join(PLANNERS)}")
    parser.add_argument("--episodes", type=int, default=FULL)
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/planned/bench"))
    args = parser.parse_args()
    try:
        players = players_of(args.policy, args.task, args.planner)
        results = run(BenchConfig(players, (args.task,), (CELL,), args.episodes), args.out / "episodes", args.workers)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was played is in {args.out}. The same line goes on.") from None
    figures = figures_of(results, args.task, args.planner)
    print(table(HEADER, [row_of(figures)]))
    if args.episodes >= FULL:
        date = datetime.date.today().isoformat()
        print(f"Wrote {write_report('distilled_planner', figures, HEADER, [row_of(figures)], date)} and RESULTS.md")
    else:
        print(f"Not written down: that takes {FULL} episodes.")


if __name__ == "__main__":
    main()

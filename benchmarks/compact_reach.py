"""The preset compact_reach: what it reaches from camera and words, and what its training took.

    python agents/collect.py --task reach --as-judged --policy noisy_expert --sensors proprio camera --episodes 3000 \\
        --out runs/data/reach                           # 5 minutes on two idle AVX-512 cores
    python agents/pretrain.py --preset compact_reach    # 12
    python benchmarks/compact_reach.py                  # half a minute
    python benchmarks/compact_reach.py --episodes 20    # says how it stands, and writes nothing down

Policy and expert play the same 200 episodes of NeonBench's nominal cell. Stop with Ctrl-C; the same line goes on.
Writes benchmarks/results/compact_reach.json and RESULTS.md for 200 episodes and a training that is at its end.
"""

import argparse
import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from report import table, write_report

from neon_sim.data.lerobot import LeRobotReader
from neon_sim.eval.neonbench import BenchConfig, run
from neon_sim.eval.neonbench_play import find_player
from neon_sim.eval.neonbench_report import BenchResults
from neon_sim.eval.statistics import format_rate
from neon_sim.training.workers import cpu_count

FULL: Final = 200  # episodes that a figure counts with
CELL, TASK = "nominal", "reach"
LEAST_PERCENT, MOST_MINUTES = 85.0, 30.0
HEADER: Final = ("what", "found", "target")


def training_of(folder: Path) -> dict[str, Any]:
    """Steps and minutes of a run of `NeonTrainer`, its best loss, and whether it is at its end.

    Raises ValueError for a folder without one.
    """
    log, state = folder / "log.jsonl", folder / "state.pt"
    if not log.is_file() or not state.is_file():
        raise ValueError(f"There is no training in {folder}. Run agents/pretrain.py --preset compact_reach.")
    saved = torch.load(state, weights_only=True)
    minutes = float(saved["seconds"]) / 60.0
    ended = (folder / "loss.png").is_file()  # what it writes last
    return {"steps": saved["step"], "minutes": minutes, "best_loss": float(saved["best_loss"]), "ended": ended}


def collecting_of(folder: Path) -> dict[str, float]:
    """Episodes and minutes of agents/collect.py.

    Raises ValueError for a folder that does not say how long it took, FileNotFoundError for one without a data set.
    """
    told = folder / "collected.json"
    if not told.is_file():
        raise ValueError(f"{folder} does not say how long it took: there is no {told.name} of agents/collect.py.")
    seconds = float(json.loads(told.read_text(encoding="utf-8"))["seconds"])
    return {"episodes": len(LeRobotReader(folder / "dataset", cameras=False)), "minutes": seconds / 60.0}


def figures_of(results: BenchResults, training: Mapping[str, Any], collecting: Mapping[str, float]) -> dict[str, Any]:
    """Successes of policy and expert, the seeds, and the time that it took."""
    policy, expert = results.players
    seeds = [episode.seed for episode in results.of(policy, TASK, CELL)]
    return {
        "policy": asdict(results.score(policy, [TASK], CELL)),
        "expert": asdict(results.score(expert, [TASK], CELL)),
        "seeds": [seeds[0], seeds[-1]],
        "training": dict(training),
        "collecting": dict(collecting),
    }


def rows_of(figures: Mapping[str, Any]) -> list[list[str]]:
    """The table for people."""
    policy, expert, training = figures["policy"], figures["expert"], figures["training"]
    collecting = figures["collecting"]
    reached = 100.0 * policy["successes"] / policy["episodes"]
    first, last = figures["seeds"]
    return [
        [
            f"success, seeds {first} to {last}",
            format_rate(policy["successes"], policy["episodes"]),
            f"{LEAST_PERCENT:g} %: {'met' if reached >= LEAST_PERCENT else 'missed'}",
        ],
        [
            f"training, {training['steps']} steps",
            f"{training['minutes']:.1f} min",
            f"under {MOST_MINUTES:g} min: {'met' if training['minutes'] < MOST_MINUTES else 'missed'}",
        ],
        [f"collecting, {collecting['episodes']} episodes", f"{collecting['minutes']:.1f} min", "-"],
        ["expert in the same episodes", format_rate(expert["successes"], expert["episodes"]), "-"],
    ]


def main() -> None:
    """Play what is missing, print the table, and write it down at full size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/compact_reach"), help="folder of the training")
    parser.add_argument("--data", type=Path, default=Path("runs/data/reach"), help="--out of agents/collect.py")
    parser.add_argument("--episodes", type=int, default=FULL)
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/compact_reach_bench"))
    args = parser.parse_args()
    try:
        training, collecting = training_of(args.run), collecting_of(args.data)
        players = (find_player(str(args.run / "best"), ("proprio", "camera")), find_player("expert"))
        config = BenchConfig(players, (TASK,), (CELL,), args.episodes)
        figures = figures_of(run(config, args.out / "episodes", args.workers), training, collecting)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was played is in {args.out}. The same line goes on.") from None
    print(table(HEADER, rows_of(figures)))
    if args.episodes >= FULL and training["ended"]:
        date = datetime.date.today().isoformat()
        print(f"Wrote {write_report('compact_reach', figures, HEADER, rows_of(figures), date)} and RESULTS.md")
    else:
        print(f"Not written down: that takes {FULL} episodes, and a training that is at its end.")


if __name__ == "__main__":
    main()

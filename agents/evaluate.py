"""Measure a policy: chunks on a LeRobot folder, closed loop in NeonBench's cells, and by default what it reaches.

    python agents/evaluate.py                                   # the shipped demo heads on reach, 200 episodes
    python agents/evaluate.py --policy expert --episodes 50
    python agents/evaluate.py --policy runs/pretrain/policy --dataset runs/collect/dataset --trajs 20 --plot
    python agents/evaluate.py --tasks reach press --cells nominal unseen_wordings --episodes 20
    python agents/evaluate.py --dataset runs/collect/dataset --tasks reach          # both, on one page

Without --dataset and --tasks: success on reach with a 95 % interval, what the policy is worth blind or with another
episode's words, and the references. With --dataset: total and each joint group's mean squared error beside a zero and a
random action. With --tasks: NeonBench. Stop with Ctrl-C; what was played is in OUT, and the same line goes on.

Writes OUT/evaluation.json, OUT/evaluation.md and a picture of each part (reach.png, offline.png, neonbench.png), and
with --plot OUT/trajectory_*.png.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.data.soup_file import add_relative_flag, read_options
from neon_sim.eval import neonbench
from neon_sim.eval.evaluate import EVALUATION_SEED, EpisodeResult, EvaluationJob, evaluate
from neon_sim.eval.neonbench_play import VERSION, find_player
from neon_sim.eval.neonbench_report import as_dict, as_markdown
from neon_sim.eval.neonbench_report import plot as plot_bench
from neon_sim.eval.plots import bar_plot
from neon_sim.eval.statistics import format_rate, wilson_interval
from neon_sim.inference.policy import ENGINES
from neon_sim.inference.references import REFERENCES
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path
from neon_sim.training.workers import cpu_count

ENV = {
    "task": "reach",
    "physics_dt": 0.005,
    "sensors": ("proprio", "camera"),
    "camera": CameraConfig(rate_hz=12.5),
}
PLOTTED = 3  # episodes that --plot draws


@dataclass
class Report:
    """What was found so far: for JSON and for a page."""

    figures: dict[str, Any] = field(default_factory=dict)
    pages: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """evaluation.json and evaluation.md."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(self.figures, indent=2) + "\n", encoding="utf-8")
        (folder / "evaluation.md").write_text("\n".join(self.pages), encoding="utf-8")


def jobs_for(policy: str, episodes: int, seed: int, references: bool, engine: str) -> list[EvaluationJob]:
    """The policy as it is, blind, with another episode's words; and the references."""
    seeds = tuple(range(EVALUATION_SEED + seed, EVALUATION_SEED + seed + episodes))
    jobs = [EvaluationJob("policy", policy, seeds, env=ENV, engine=engine)]
    if references:
        jobs += [
            EvaluationJob("camera blanked", policy, seeds, blank_camera=True, env=ENV, engine=engine),
            EvaluationJob("words of another episode", policy, seeds, shuffle_words=True, env=ENV, engine=engine),
            EvaluationJob("expert", "expert", seeds, env=ENV),
            EvaluationJob("zero", "zero", seeds, env=ENV),
            EvaluationJob("random", "random", seeds, env=ENV),
        ]
    return jobs


def summary(results: list[EpisodeResult]) -> dict[str, float | int | str]:
    """Counts, rate with interval, and the median final distance in cm."""
    successes = sum(result.success for result in results)
    return {
        "episodes": len(results),
        "successes": successes,
        "success": format_rate(successes, len(results)),
        "final_distance_cm_median": 100.0 * float(np.median([result.final_distance for result in results])),
        "falls": sum(result.fell for result in results),
    }


def reach(args: argparse.Namespace, report: Report) -> None:
    """Success and distance on reach, printed, in the report and as reach.png; episodes are kept in OUT/reach.

    Raises ValueError for a policy that does not exist.
    """
    played = f"{VERSION}-{find_player(args.policy).mark}"
    jobs = jobs_for(args.policy, args.episodes, args.seed, not args.no_references, args.engine)
    results = evaluate(jobs, args.workers, folder=args.out / "reach" / played)
    rows = {label: summary(found) for label, found in results.items()}
    for label, row in rows.items():
        print(f"{label:32} {row['success']:34} final distance {row['final_distance_cm_median']:.1f} cm")
    report.figures |= rows
    report.pages += ["# Reach", "", "| policy | success | median distance at the end | falls |", "|---|---|---|---|"]
    report.pages += [
        f"| {label} | {row['success']} | {row['final_distance_cm_median']:.1f} cm | {row['falls']} |"
        for label, row in rows.items()
    ]
    report.pages.append("")
    wins = {label: (sum(one.success for one in found), len(found)) for label, found in results.items()}
    bars = {label: [percent(*counts)] for label, counts in wins.items()}
    bar_plot(args.out / "reach.png", ["reach"], bars, "success, %", f"{args.episodes} episodes each, 95 % intervals")


def percent(successes: int, episodes: int) -> tuple[float, float, float]:
    """Success in % and both ends of its interval."""
    low, high = wilson_interval(successes, episodes)
    return 100.0 * successes / episodes, 100.0 * low, 100.0 * high


def offline(args: argparse.Namespace, report: Report) -> None:
    """Mean squared errors on recorded episodes, printed, in the report and as offline.png.

    Raises ValueError or OSError for a checkpoint or data set that cannot be read.
    """
    from neon_sim.eval.offline import evaluate_offline, open_dataset, plot_trajectory
    from neon_sim.model.neon_vla import NeonVLA
    from neon_sim.training.flags import skipped_line

    model = NeonVLA.from_pretrained(args.policy)
    options = read_options(args.source_options)
    soup = open_dataset(
        args.dataset, args.dataset_type, model, options, args.skip_bad, args.relative_actions, args.trajs
    )
    result = evaluate_offline(model, soup, args.trajs, args.seed)
    lines = ["| group | MSE | zero | random | improvement over zero |", "|---|---|---|---|---|"]
    for name, value in result.mse.items():
        gain = f"{100 * result.improvement(name):.1f} %" if result.zero[name] else "-"  # nothing to improve on
        lines.append(f"| {name} | {value:.5f} | {result.zero[name]:.5f} | {result.random[name]:.5f} | {gain} |")
    lines += ["", f"{result.trajectories} episodes, {result.chunks} chunks of {args.dataset}"]
    lines += [skipped_line(soup.skipped)] if soup.skipped else []
    print("\n".join(lines))
    report.figures["offline"] = {"dataset": args.dataset, **result.as_dict()}
    report.pages += ["# Recorded episodes", "", "Mean squared error, action units squared.", "", *lines, ""]
    errors = {"policy": result.mse, "zero": result.zero, "random": result.random}
    bars = {label: [(mse[name],) * 3 for name in result.mse] for label, mse in errors.items()}
    bar_plot(args.out / "offline.png", list(result.mse), bars, "MSE", f"{result.chunks} chunks of recorded episodes")
    drawn = [index for index in soup.episodes["dataset"] if ("dataset", index) not in soup.bad]
    for index in drawn[: min(PLOTTED, result.trajectories) if args.plot else 0]:
        plot_trajectory(model, soup, index, args.out / f"trajectory_{index}.png")


def closed_loop(args: argparse.Namespace, report: Report) -> None:
    """NeonBench's cells, printed, in the report and as neonbench.png; episodes are kept in OUT/episodes.

    Raises ValueError for a name that does not exist.
    """
    asked = argparse.Namespace(**{**vars(args), "policy": [args.policy]})
    results = neonbench.run(neonbench.settings(asked), args.out / "episodes", args.workers)
    page = as_markdown(results)
    print(page)
    report.figures["neonbench"] = as_dict(results)
    report.pages.append(page)
    plot_bench(results, args.out / "neonbench.png")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = str(asset_path("g1")) + "/demo_heads"
    parser.add_argument("--policy", "--model", default=shipped, help=f"a folder, or {', '.join(REFERENCES)}")
    parser.add_argument("--episodes", type=int, default=200, help="in the live env: of reach, or of each task and cell")
    parser.add_argument("--seed", type=int, default=0, help="of reach's first episode; of the random baseline")
    parser.add_argument("--engine", default="eager", choices=ENGINES, help="of reach: how the action layer is run")
    parser.add_argument("--no-references", action="store_true", help="let nobody play beside the policy")
    parser.add_argument("--dataset", help="folder of recorded episodes")
    parser.add_argument("--dataset-type", default="lerobot", help="its format, see neon_sim.data.sources")
    parser.add_argument("--source-options", metavar="JSON", default="{}", help="what its format asks for")
    add_relative_flag(parser)
    parser.add_argument("--skip-bad", action="store_true", help="leave out and count episodes that cannot be read")
    parser.add_argument("--trajs", type=int, default=10, help="recorded episodes")
    parser.add_argument("--plot", action="store_true", help=f"draw the chunks over the first {PLOTTED} of them")
    parser.add_argument("--tasks", nargs="+", help="NeonBench: some tasks, or all")
    parser.add_argument("--cells", nargs="+", default=["all"], help="NeonBench: some cells, or all")
    parser.add_argument("--sensors", nargs="+", help="NeonBench: that the policy is given, not all that it can read")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/evaluate"))
    args = parser.parse_args()
    if args.episodes < 1 or args.trajs < 1:
        parser.error(f"--episodes and --trajs must be at least 1, got {args.episodes} and {args.trajs}.")
    if args.dataset and args.policy in REFERENCES:
        parser.error(f"--dataset compares a checkpoint's chunks, and {args.policy!r} is none. Give its folder.")
    if args.plot and not args.dataset:
        parser.error("--plot draws recorded episodes: name them with --dataset.")
    return args


def main() -> None:
    """Evaluate what was asked for, print it, and write it down."""
    args = parse()
    report = Report()
    try:
        if args.dataset:
            offline(args, report)
        if args.tasks:
            closed_loop(args, report)
        if not args.dataset and not args.tasks:
            reach(args, report)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was played is in {args.out}. The same line goes on.") from None
    report.write(args.out)
    print(f"Wrote {args.out / 'evaluation.json'}, evaluation.md and pictures")


if __name__ == "__main__":
    main()

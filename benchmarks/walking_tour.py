"""How long a walker lasts: 90 s of waypoints with arms that move by themselves and a punch every 5 s.

    python benchmarks/walking_tour.py                              # the shipped walker, 512 runs, some 20 minutes
    python benchmarks/walking_tour.py --task harsh                 # the same under harder conditions of ours
    python benchmarks/walking_tour.py --walker standing            # a baseline beside it; base_gait is the other
    python benchmarks/walking_tour.py --walker runs/mine/walker.npz --runs 64
    python benchmarks/walking_tour.py --preset tiny                # 4 runs of 15 s: one number, no report
    python benchmarks/walking_tour.py --resume                     # go on after Ctrl-C
    python benchmarks/walking_tour.py --video 7                    # one run as docs/walking_tour.mp4 and .png

The scenario is a pure function of the run id, so every walker meets the same 512 tours. All 512 of a named walker in a
task as it stands are reported in RESULTS.md, the JSON file and docs/; anything else is printed only. Walkers measured
on other days stay in the report. The task and where ours differs from the published one: benchmarks/tour_task.py.
"""

import argparse
import datetime
import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from report import BEGUN_AT, ROOT, commit, replace_file, table
from tour_figures import HEADER, PUBLISHED, SPEED_HEADER, rows, speed_rows, summarise
from tour_pictures import film, plot_survival, strip
from tour_record import PunchResult, RunResult, Speeds
from tour_run import build_tour_robot, run_tour
from tour_task import TASKS, TOUR_S, TourConfig
from walkers import WALKERS, Weights, label_of, make_walker, weights_of
from walking_report import write_walking

from neon_sim.names import nearest
from neon_sim.shipped import walker_fingerprint
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map

NAME: Final = "walking_tour"
VENDOR_NOTE: Final = (
    "What the vendor's own check, which stops the robot at 10 rad/s of any joint or 6 rad/s of the gyro, would have "
    "said of ours (read every 20 ms):"
)


class Preset(NamedTuple):
    """How much is run."""

    runs: int
    duration_s: float


PRESETS: Final = {"full": Preset(512, TOUR_S), "tiny": Preset(4, 15.0)}


@dataclass(frozen=True)
class Job:
    """One run of one walker."""

    walker: str
    run_id: int
    config: TourConfig


@functools.cache
def robot_of(walker: str, config: TourConfig) -> SimRobot:
    """The robot of this process, compiled once for all its runs."""
    return build_tour_robot(make_walker(walker), config)


def run_job(job: Job) -> RunResult:
    """One run, in whichever process."""
    return run_tour(robot_of(job.walker, job.config), job.run_id, job.config)


def measure(walker: str, run_ids: Iterable[int], config: TourConfig, workers: int, kept: Path) -> list[RunResult]:
    """All runs in the order of `run_ids`. Each is added to the file `kept` as it ends; what is there is not rerun."""
    wanted = list(run_ids)
    done = {result.run_id: result for result in read_results(kept)}
    replace_file(kept, "".join(map(as_line, done.values())))  # without a line that was cut short
    jobs = [Job(walker, run_id, config) for run_id in wanted if run_id not in done]
    with kept.open("a", encoding="utf-8") as file:
        for result in parallel_map(run_job, jobs, workers, f"tour, {label_of(walker)}"):
            done[result.run_id] = result
            file.write(as_line(result))
            file.flush()
    return [done[run_id] for run_id in wanted]


def as_line(result: RunResult) -> str:
    """A result as one line of JSON."""
    return json.dumps(asdict(result)) + "\n"


def read_results(path: Path) -> list[RunResult]:
    """Results written down by `as_line`; none if there is no file. A line that was cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    for record in records:
        record["punches"] = tuple(PunchResult(**punch) for punch in record["punches"])
        record["speeds"] = {name: Speeds(**part) for name, part in record["speeds"].items()}
        record["position_cm"], record["yaw_deg"] = tuple(record["position_cm"]), tuple(record["yaw_deg"])
    return [RunResult(**record) for record in records]


def settings_of(walker: str, config: TourConfig) -> dict[str, Any]:
    """What decides a run besides its id, weights, code and body by their digests as files may be written anew; what is
    kept.
    """
    weights = weights_of(walker)
    digest = "none" if weights is None else weights.sha256
    kept = sorted(RunResult.__dataclass_fields__)
    files = walker_fingerprint() | {"weights": digest}  # the walker that runs need not be the shipped one
    return {"walker": walker, **files, "commit": BEGUN_AT, "config": asdict(config), "kept": kept}


def keep_file(walker: str, config: TourConfig, folder: Path, resume: bool) -> Path:
    """Where the results of single runs go; without `resume` what an earlier call left there is thrown away."""
    place = folder / label_of(walker)
    if not resume:
        for name in ("settings.json", "runs.jsonl"):
            (place / name).unlink(missing_ok=True)
    claim_folder(place, settings_of(walker, config))
    return place / "runs.jsonl"


def unreported(walker: str, task: str, config: TourConfig, run_ids: range) -> list[str]:
    """Why these figures do not belong in RESULTS.md; nothing if they do."""
    reasons = []
    if walker not in WALKERS:
        reasons.append(f"--walker is none of {', '.join(WALKERS)}")
    if config != TASKS[task]:
        reasons.append(f"the settings are not those of task {task}")
    if run_ids != range(PRESETS["full"].runs):
        reasons.append(f"the runs are not 0 to {PRESETS['full'].runs - 1}")
    return reasons


def report(
    walker: str,
    task: str,
    config: TourConfig,
    figures: dict[str, Any],
    weights: Weights | None,
    root: Path = ROOT,
) -> None:
    """Put one walker's figures beside those of the others: JSON file, RESULTS.md, picture; root: the checkout."""
    path = root / "benchmarks" / "results" / f"{NAME}.json"
    walkers = json.loads(path.read_text(encoding="utf-8"))["figures"]["walkers"] if path.exists() else {}
    today, begun = datetime.date.today().isoformat(), BEGUN_AT if root == ROOT else commit(root)
    what = {"walker": label_of(walker), "task": task, "date": today, "commit": begun, "config": asdict(config)}
    digest = {"weights": None if weights is None else weights._asdict()}
    walkers[f"{label_of(walker)}, {task}"] = what | digest | figures
    published = {name: row._asdict() for name, row in PUBLISHED.items()}
    below = [VENDOR_NOTE, table(SPEED_HEADER, speed_rows(walkers)), *weight_lines(walkers)]
    write_walking(NAME, {"walkers": walkers, "published": published}, HEADER, rows(walkers), below, today, root)
    plot_survival(walkers, root / "docs" / "walking_tour_survival.png")


def weight_lines(walkers: dict[str, dict[str, Any]]) -> list[str]:
    """For below the table: which weights the rows are of, and when and from which commit each was measured."""
    rows_of: dict[str, list[str]] = {}
    for label, row in walkers.items():
        weights = row.get("weights")
        line = "No weights, or not recorded" if weights is None else Weights(**weights).line
        rows_of.setdefault(line, []).append(f"{label} ({row['date']}, {row['commit']})")
    return [f"{line}. Rows: {'; '.join(labels)}." for line, labels in rows_of.items()]


def make_video(walker: str, run_id: int, config: TourConfig, path: Path) -> None:
    """One run as a film, and its hardest survived punch as a picture of the same name."""
    result = film(make_walker(walker), run_id, config, path)
    print(f"Run {run_id}: up for {result.survival_s:g} s. Wrote {path}")
    punch = strip(make_walker(walker), result, config, path.with_suffix(".png"))
    if punch is None:
        print("No punch was survived, so there is no strip of pictures.")
    else:
        print(f"The hardest survived, {punch.force:.0f} N on {punch.body}: {path.with_suffix('.png')}")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, with what the preset fills in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walker", default="shipped", help=f"{', '.join(WALKERS)} or PATH.npz")
    parser.add_argument("--preset", default="full", help=", ".join(PRESETS))
    parser.add_argument("--task", default="published", help=", ".join(TASKS))
    parser.add_argument("--runs", type=int, help="512, or what the preset says")
    parser.add_argument("--first", type=int, default=0, help="the first run id")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--physics-dt", type=float, default=TourConfig.physics_dt, help="s")
    parser.add_argument("--height", type=float, default=TourConfig.height, help="m, commanded pelvis height")
    parser.add_argument("--resume", action="store_true", help="go on where Ctrl-C stopped")
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md, the JSON file and docs/ alone")
    parser.add_argument("--video", type=int, metavar="RUN_ID", help="film this run and measure nothing")
    parser.add_argument(
        "--out", type=Path, help="of the video; default: in docs/ if it shows the shipped walker's task"
    )
    args = parser.parse_args(given)
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    if args.task not in TASKS:
        raise SystemExit(str(nearest("task", args.task, TASKS)))
    args.runs = PRESETS[args.preset].runs if args.runs is None else args.runs
    if args.runs < 1 or args.first < 0:
        parser.error(f"--runs must be at least 1 and --first at least 0, got {args.runs} and {args.first}")
    return args


def main() -> None:
    """Measure, print and report, or film."""
    args = arguments()
    duration_s = PRESETS[args.preset].duration_s
    config = replace(TASKS[args.task], duration_s=duration_s, physics_dt=args.physics_dt, height=args.height)
    try:
        weights = weights_of(args.walker)  # as they are now; a name that is none is said now, not by a worker
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None
    if args.video is not None:
        shipped = args.walker == "shipped" and config == TASKS["published"]
        folder = ROOT / ("docs" if shipped else f"runs/{NAME}")
        make_video(args.walker, args.video, config, args.out or folder / f"{NAME}.mp4")
        return
    kept = keep_file(args.walker, config, ROOT / "runs" / NAME / args.preset / args.task, args.resume)
    run_ids = range(args.first, args.first + args.runs)
    try:
        figures = summarise(measure(args.walker, run_ids, config, args.workers, kept))
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; finished runs are in {kept}. The same command with --resume goes on.") from None
    shown = {args.walker: {"walker": label_of(args.walker), "task": args.task, **figures}}
    print(f"{table(HEADER, rows(shown))}\n\n{table(SPEED_HEADER, speed_rows(shown))}")
    print(f"mean survival: {figures['survival_s'][0]:.2f} s of {duration_s:g} s")
    reasons = unreported(args.walker, args.task, config, run_ids)
    if reasons or args.print_only:
        print(f"Printed only: {'; '.join(reasons) or '--print-only'}.")
    else:
        report(args.walker, args.task, config, figures, weights)


if __name__ == "__main__":
    main()

"""One unbroken life through every trouble, and what each way of learning has kept of it.

    python benchmarks/forgetting.py                      # reach, five arms, three seeds: half an hour
    python benchmarks/forgetting.py --preset tiny        # a quick look; writes nothing outside --out
    python benchmarks/forgetting.py --preset full        # all arms, ten seeds
    python benchmarks/forgetting.py --task walk          # or wave, stand; the policy it begins with is made first
    python benchmarks/forgetting.py --calibrate          # how bad the regimes are to be; learns nothing
    python benchmarks/forgetting.py --choose             # rate, decay, shares, losses: on seeds that are not reported
    python benchmarks/forgetting.py --choose strength    # then EWC's strength and L2's, on whole lives

nominal -> payload -> weak motor -> actuator bias -> low friction -> latency -> nominal -> each trouble again. After
each stage a frozen copy is judged on all regimes. Each arm's life with each seed is a shard: run the command again and
it goes on, where a shard was begun from its last whole stage. A life that fails leaves what went wrong in OUT/failed,
and the others go on. The table, the pictures and the JSON file are written once all shards are there, all of the same
settings and code; in RESULTS.md a run takes the place of one with no more seeds and arms. Lives that are in
benchmarks/results/forgetting_lives are taken from there while code and settings are the same.
reach begins with the shipped heads; wave's are taught, and for stand and walk the healthy robot's body is found out, in
runs/forgetting_TASK_policy, with the preset tiny a little of it below --out. --policy takes another's.
"""

import argparse
import datetime
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from forgetting_arms import ARMS, PRESETS, Preset, preset_of
from forgetting_calibrate import calibrate
from forgetting_choose import choose
from forgetting_costs import PROPORTIONS, expected_seconds, expected_total, measured_costs
from forgetting_failures import live_all
from forgetting_gestures import TINY as FEW_GESTURES
from forgetting_gestures import GestureTeaching, teach_gestures
from forgetting_inside import inside_lines
from forgetting_job import ShardJob
from forgetting_learners import prepare_rivals
from forgetting_legs import TINY as LITTLE_BABBLING
from forgetting_legs import Babbling, begin_residual
from forgetting_looks import look_at_all
from forgetting_merge import figures_of
from forgetting_plots import plot_all
from forgetting_settings import prepare
from forgetting_shards import read_shard
from forgetting_shipped import LIVES, ship, take_shipped
from forgetting_strength import choose_strength
from forgetting_table import HEADER, arm_rows, regime_lines
from forgetting_tasks import subject_of
from forgetting_verdicts import verdict_lines, verdicts
from report import ROOT, table, write_report

from neon_sim.eval.regimes import CALIBRATED, REGIMES, regimes_of
from neon_sim.names import nearest
from neon_sim.shipped import asset_path
from neon_sim.training.workers import cpu_count

PER_CELL: Final = 100  # judged episodes, all seeds together, at least
CHOICES = {"settings": choose, "strength": choose_strength}


def gather(jobs: Sequence[ShardJob]) -> dict[str, list[Any]]:
    """The finished shards, by arm, in the order of their seeds.

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: one does not belong to the settings of its arm.
    """
    shards: dict[str, list[Any]] = {}
    for job in jobs:
        shards.setdefault(job.arm, []).append(read_shard(job))
    return {arm: shards[arm] for arm in ARMS if arm in shards}


def report(jobs: Sequence[ShardJob], name: str) -> str:
    """Merge the shards of all jobs into figures, table and pictures; RESULTS.md has the most there is (`why_not`).

    Raises:
        FileNotFoundError: a shard is missing; nothing is written.
        ValueError: one was lived with other settings or code than the folder says; nothing is written.
    """
    job, shards = jobs[0], gather(jobs)
    figures = {"task": job.task, "preset": name, **figures_of(shards, job.regimes, job.preset)}
    figures["seed_numbers"] = list(job.preset.seeds)
    figures["verdicts"] = verdicts(figures)
    figures["lived_at"] = sorted({shard["commit"] for found in shards.values() for shard in found})  # commits
    rows = arm_rows(figures)
    lines = (*verdict_lines(figures["verdicts"]), *inside_lines(figures["inside_training"]), *regime_lines(figures))
    notes = "\n".join(lines)
    text = f"{table(HEADER, rows)}\n\n{notes}\n"
    (job.out / "figures.json").write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    (job.out / "table.md").write_text(text)
    pictures = plot_all(figures, shards, job.preset.window, job.out)
    written = "forgetting" if job.task == "reach" else f"forgetting_{job.task}"
    if not (job.own and job.preset.written and is_part_of(job.preset, preset_of(name, job.task))):
        return text
    there = ROOT / "benchmarks" / "results" / f"{written}.json"
    if job.task not in CALIBRATED:
        print(f"RESULTS.md has no room for {job.task} yet: its regimes are not calibrated (neon_sim/eval/regimes.py).")
    elif reason := why_not(figures, json.loads(there.read_text())["figures"] if there.exists() else None):
        print(f"Not in RESULTS.md: {reason}.")
    else:
        docs = [ROOT / "docs" / picture.name.replace("forgetting", written, 1) for picture in pictures]
        for picture, doc in zip(pictures, docs, strict=True):
            shutil.copyfile(picture, doc)
        shown = "\n".join(f"![{doc.stem.replace('_', ' ').capitalize()}](docs/{doc.name})" for doc in docs)
        write_report(written, figures, HEADER, rows, datetime.date.today().isoformat(), notes=f"{notes}\n\n{shown}")
    return text


def is_part_of(preset: Preset, whole: Preset) -> bool:
    """Whether a run is some seeds and arms of what is written into RESULTS.md, and is otherwise the same."""
    some = set(preset.seeds) <= set(whole.seeds) and set(preset.arms) <= set(whole.arms)
    return some and replace(preset, seeds=whole.seeds, arms=whole.arms) == whole


def why_not(figures: Mapping[str, Any], there: Mapping[str, Any] | None) -> str | None:
    """Why figures do not take the place of the report's, None there being none; None: they do."""
    if figures["judged_per_cell"] < PER_CELL:
        return f"{figures['judged_per_cell']} episodes a cell are fewer than {PER_CELL}"
    if there is not None and figures["seeds"] < there["seeds"]:
        return f"the report has {there['seeds']} seeds"
    lacking = set(there["arms"]) - set(figures["arms"]) if there is not None else set()
    return f"the report has {', '.join(sorted(lacking))}" if lacking else None


def make_jobs(preset: Preset, task: str, policy: Path, out: Path, own: bool = True) -> list[ShardJob]:
    """One for each arm and seed, the longest first, so that no worker is left alone with one at the end.

    own: the policy is the task's own, and not one that somebody tries; only its figures go into RESULTS.md.
    """
    regimes = regimes_of(task)
    lives = [(arm, seed) for seed in preset.seeds for arm in preset.arms]
    jobs = [ShardJob(arm, seed, task, regimes, preset, str(policy), out, own) for arm, seed in lives]
    return sorted(jobs, key=lambda job: -expected_seconds(job, PROPORTIONS))


def run(jobs: Sequence[ShardJob], name: str, workers: int, shipped: bool = False) -> None:
    """Look, tell how long it will take, live, report. shipped: lives in the repository are not lived again.

    Raises:
        SystemExit: the folder has other settings, or lives failed: what is finished stays, and nothing is reported.
        ValueError: a finished shard does not belong to the folder's settings.
    """
    prepare(jobs)
    taken = take_shipped(jobs) if shipped else 0
    if taken:
        print(
            f"{taken} of {len(jobs)} lives are those in {LIVES}, of the same settings and code; --anew and another "
            "--out live them again."
        )
    missing = [job for job in jobs if not job.path.exists()]
    if missing:
        looks = look_at_all(jobs[0], workers)
        prepare_rivals(missing, workers)
        costs = measured_costs(jobs[0], looks)
        minutes = expected_total(jobs, costs, min(workers, len(missing))) / 60
        each = (
            f"an episode costs {costs.acted:.2f} s to live, {costs.learned:.2f} s to learn from, {costs.judged:.2f} s"
        )
        each = f"{each} to judge on this machine now"
        print(f"{len(missing)} of {len(jobs)} shards, {workers} workers; {each}: about {minutes:.0f} min.", flush=True)
        live_all(missing, workers)
    print(f"\n{report(jobs, name)}\nWrote table.md, figures.json and three pictures to {jobs[0].out}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="benchmark", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--task", default="reach", help=f"one of {', '.join(REGIMES)}")
    parser.add_argument("--policy", type=Path, help="folder of the policy that every arm begins with")
    parser.add_argument("--out", type=Path, default=None, help="default: runs/forgetting_TASK_PRESET")
    parser.add_argument("--arms", nargs="+", help=f"some of {', '.join(ARMS)}; `frozen` must be among them")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--anew", action="store_true", help="live what is in the repository again, too")
    parser.add_argument(
        "--ship", action="store_true", help="put what is finished in --out into the repository, and end"
    )
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--episodes", type=int, default=300, help="of each level, with --calibrate")
    parser.add_argument("--choose", nargs="?", const="settings", choices=tuple(CHOICES), help="default: settings")
    return parser.parse_args(arguments)


def chosen_preset(args: argparse.Namespace) -> Preset:
    """The preset, with the arms and seeds that were asked for.

    Raises:
        ValueError: a name that does not exist, an arm that the task lacks, or arms without the frozen one that all are
            compared with.
    """
    preset = preset_of(args.preset, args.task)
    for arm in args.arms or ():
        if arm not in ARMS:
            raise nearest("arm", arm, ARMS)
        if arm in subject_of(args.task).lacking:
            raise ValueError(f"There is no arm '{arm}' for '{args.task}' (forgetting_tasks.py says why): leave it out.")
    if args.arms and "frozen" not in args.arms:
        raise ValueError(f"Every figure is relative to the arm 'frozen'; got {args.arms}. Add it.")
    return replace(preset, arms=tuple(args.arms or preset.arms), seeds=tuple(args.seeds or preset.seeds))


def first_policy(task: str, preset: str, out: Path, workers: int) -> Path:
    """Where the policy is that every arm begins with; reach's is shipped, another's is made, unless it is there.

    Raises:
        ValueError: its folder was begun with other settings.
    """
    if task == "reach":
        return asset_path("g1/demo_heads")
    tiny = preset == "tiny"
    folder = out / "first_policy" if tiny else Path("runs") / f"forgetting_{task}_policy"
    if subject_of(task).legs:
        return begin_residual(task, folder, LITTLE_BABBLING if tiny else Babbling(), workers)
    return teach_gestures(folder, FEW_GESTURES if tiny else GestureTeaching(), workers)


def main(arguments: Sequence[str] | None = None) -> None:
    """Calibrate, or live and report."""
    args = parse(arguments)
    try:
        regimes_of(args.task)
        preset = chosen_preset(args)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    what = f"choose_{args.choose}_" if args.choose else ""
    out = args.out or Path("runs") / f"forgetting_{args.task}_{what}{args.preset}"
    try:
        policy = args.policy or first_policy(args.task, args.preset, out, args.workers)
        if args.calibrate:
            calibrate(args.task, policy, args.episodes)
            return
        if args.choose:
            CHOICES[args.choose](args.task, policy, args.policy is None, out, args.workers, args.preset)
            return
        jobs = make_jobs(preset, args.task, policy, out, args.policy is None)
        if args.ship:
            print(f"{ship(jobs)} of {len(jobs)} lives of {out} are in {LIVES} now.")
            return
        run(jobs, args.preset, args.workers, shipped=not args.anew)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was lived through is in {out}. The same command goes on.") from None


if __name__ == "__main__":
    main()

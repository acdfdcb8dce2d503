"""Train a latent world model (LeWM) of one task, from recording to a report.

    python agents/train_world_model.py --task reach               # records, trains, fits the parts, reports: an hour
    python agents/train_world_model.py --task reach --collect     # records only
    python agents/train_world_model.py --task push_box --place-weight 0.1 --out runs/taught   # and a supervised loss
    python agents/train_world_model.py --task reach --preset gpu --device cuda --minutes 2   # by the clock, on a GPU
    python agents/train_world_model.py --task reach --felt-dim 32 --encoder-from assets/g1/world_models/reach \
        --out runs/felt   # all but the picture encoder anew
    python agents/train_world_model.py --preset tiny --out runs/tiny_world   # two minutes

Stop with Ctrl-C, or lose the machine: the same line goes on, and the weights are those of a run that was not stopped
(on a CPU, and without --minutes). --minutes and --record-minutes end training and recording by the clock; the learning
rate has reached its end by then. --probe-every and --ranks may be other ones when it goes on.

On the way it prints what the latents know: R² of the place of each kind of object by axis, when an episode begins, on
held-out episodes (--probe-every). Where "box left" stays low, no planner will push the box to where it belongs.

Writes OUT/data (rollouts: expert, noisy expert and random commands, at 10 Hz), OUT/state.pt and OUT/log.jsonl (the
training), OUT/world_model (what agents/plan.py loads, 16-bit matrices, with provenance.json), OUT/report.json and
OUT/report.png, which tell the shipped weights, and OUT/seconds.json (time spent, all pieces together).
"""

import argparse
import datetime
import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from neon_sim.model.backbones.loading import pick_device
from neon_sim.names import nearest
from neon_sim.shipped import walker_fingerprint
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map
from neon_sim.world_model.bundle import PROVENANCE_FILE, Bundle, load_bundle, save_bundle
from neon_sim.world_model.command_space import COMMAND_SPACES
from neon_sim.world_model.config import SIZES, lewm_config
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.encoder import VisionEncoder
from neon_sim.world_model.expectation import expectation_report
from neon_sim.world_model.judging import NO_PROBLEM
from neon_sim.world_model.objects import reset_probe
from neon_sim.world_model.parts import PartsConfig, fit_parts
from neon_sim.world_model.played import fingerprint
from neon_sim.world_model.ranking import RankJob, run_rank_job
from neon_sim.world_model.recording import check_recorded, collect
from neon_sim.world_model.report import commit, draw_report, held_out_report, machine, rank_summary
from neon_sim.world_model.rollouts import RolloutConfig, mixed_for
from neon_sim.world_model.training import STATE_FILE, WorldModelTrainer, read_log, take_encoder
from neon_sim.world_model.training_config import OUR_GRID, OUR_TRAINING, WorldModelTraining, model_config, of_size

TRAINING_FLAGS = ("size", "updates", "minutes", "batch", "learning_rate", "prefix", "seed", "probe_every")
TRAINING_FLAGS += ("patch_size", "grid", "proprio_dropout", "felt_dim", "place_weight", "encoder_from")
TOLD = ("violations", "ranks")  # how much the report asks, which is written last: a run may go on with others
RANK_SEED = 100  # of problems whose plans are put in order; 0 to 9 are for the benchmark


@dataclass(frozen=True)
class Run:
    """Everything that the result depends on."""

    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    training: WorldModelTraining = field(default_factory=WorldModelTraining)
    parts: PartsConfig = field(default_factory=PartsConfig)
    record_minutes: float | None = None  # recording stops there, with fewer episodes
    violations: int = 40  # episodes that the report violates expectations in
    ranks: int = 20  # problems at which the report puts random plans in order; 0: none


PRESETS = {
    "default": Run(RolloutConfig(episodes=2000), OUR_TRAINING),
    "tiny": Run(
        RolloutConfig(episodes=24, steps=20, image_size=32, shard_episodes=4),
        WorldModelTraining(size="tiny", updates=60, batch=16, learning_rate=1e-3, judge_every=20, grid=OUR_GRID),
        PartsConfig(readout_epochs=5, reader_updates=100, head_updates=100, distil_plans=32, iterations=2),
        violations=4,
        ranks=0,
    ),
    "gpu": Run(  # three tasks side by side on one GPU and 16 cores, in ten minutes
        RolloutConfig(episodes=3000, shard_episodes=10),
        WorldModelTraining(
            minutes=3.5,
            batch=128,
            learning_rate=1e-3,
            patch_size=16,
            grid=OUR_GRID,
            checkpoint_every=5000,
            log_every=100,
            judge_every=2500,
            probe_every=10_000,
        ),
        PartsConfig(
            readout_epochs=20,
            readout_batch=1024,
            reader_updates=2000,
            head_updates=4000,
            distil_plans=4096,
            samples=128,
            iterations=8,
        ),
        record_minutes=4.0,
    ),
}


@contextmanager
def timed(out: Path, stage: str) -> Iterator[None]:
    """Say how long a stage takes and add it to OUT/seconds.json, also when it is stopped."""
    begun = time.monotonic()
    try:
        yield
    finally:
        spent, path = time.monotonic() - begun, out / "seconds.json"
        before = spent_seconds(out)
        replace_bytes(path, (json.dumps(before | {stage: before.get(stage, 0.0) + spent}) + "\n").encode())
        print(f"{stage}: {spent:.0f} s")


def spent_seconds(out: Path) -> dict[str, float]:
    """What `timed` kept, by stage."""
    path = out / "seconds.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def settings(args: argparse.Namespace) -> Run:
    """The preset with the given flags put in.

    Raises:
        ValueError: a name that does not exist, with the nearest that does, or a number that makes no sense.
    """
    for kind, value, valid in (("preset", args.preset, PRESETS), ("task", args.task, COMMAND_SPACES)):
        if value not in valid:
            raise nearest(kind, value, valid)
    run = PRESETS[args.preset]
    if args.size is not None:
        sight = replace(run.rollouts, image_size=lewm_config(args.size).image_size)
        run = replace(run, rollouts=sight, training=of_size(run.training, args.size))
    given = vars(args)

    def with_flags(config: Any, *names: str) -> Any:
        return replace(config, **{name: given[name] for name in names if given[name] is not None})

    if args.updates is not None and args.minutes is None:
        run = replace(run, training=replace(run.training, minutes=None))
    run = replace(
        run,
        rollouts=mixed_for(args.task, with_flags(run.rollouts, "episodes")),
        training=with_flags(run.training, *TRAINING_FLAGS),
        parts=with_flags(run.parts, "seed"),
    )
    found: Run = with_flags(run, "record_minutes", "ranks")
    config = model_config(args.task, found.training, found.rollouts.image_size)  # what cannot be, said before recording
    if found.training.encoder_from is not None:
        take_encoder(VisionEncoder(config), Path(found.training.encoder_from))
    return found


def claim_of(run: Run) -> dict[str, Any]:
    """What a run's folder belongs to: all that is learned from, but not when it is looked at and what is told of it."""
    learned = {"training": run.training.learned_from, "walker": walker_fingerprint()}  # who made the recordings
    return {name: value for name, value in (asdict(run) | learned).items() if name not in TOLD}


def main() -> None:
    """Record, train, fit, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--task", default="reach", help=f"one of {', '.join(COMMAND_SPACES)}")
    parser.add_argument(
        "--size",
        help=f"of the model: {', '.join(SIZES)}; another than the preset's comes with its own --patch-size and "
        f"--grid {OUR_GRID} (paper: --grid 0, as published)",
    )
    parser.add_argument("--episodes", type=int, help="to record")
    parser.add_argument("--updates", type=int, help="of the training")
    parser.add_argument("--minutes", type=float, help="of training, instead of so many updates")
    parser.add_argument("--record-minutes", type=float, help="of recording at most; what is there then is learned from")
    parser.add_argument("--batch", type=int, help="windows in a batch")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--prefix", action="store_const", const=True, help="learn action prefixes as well (Fast-LeWM)")
    parser.add_argument("--patch-size", type=int, metavar="PX", help="of the encoder: 16 is three times as fast as 8")
    parser.add_argument(
        "--grid", type=int, help="places that a picture is read off, n x n; 0: the class token, as published"
    )
    parser.add_argument("--proprio-dropout", type=float, help="chance that a window lacks what the robot feels")
    parser.add_argument("--felt-dim", type=int, help="entries of z that proprioception alone has; 0: shared with sight")
    parser.add_argument("--encoder-from", metavar="FOLDER", help="of a world model: its picture encoder, kept as it is")
    parser.add_argument("--place-weight", type=float, help="of a supervised loss on objects' places; 0: as published")
    parser.add_argument("--probe-every", type=int, metavar="UPDATES", help="from one look at what z knows to the next")
    parser.add_argument("--ranks", type=int, help="problems at which the report puts plans in order; 0: none")
    parser.add_argument("--commit", help="of the code, where git cannot tell")
    parser.add_argument("--seed", type=int, help="of weights and batches")
    parser.add_argument("--collect", action="store_true", help="record and stop")
    parser.add_argument("--data", type=Path, metavar="RUN", help="learn from what another OUT of this script recorded")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="runs/world_model_TASK by default")
    args = parser.parse_args()
    try:
        args.device = str(pick_device(args.device))  # said before an hour of recording, not after it
        run = settings(args)
        out = args.out or Path("runs") / f"world_model_{args.task}"
        claim_folder(out, claim_of(run))
        make(args.task, run, out, args)
    except (ValueError, ChildProcessError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped. The same line goes on from what is in {out}.") from None


def make(task: str, run: Run, out: Path, args: argparse.Namespace) -> None:
    """All of it into `out`, each part where it is missing."""
    if args.data is not None:
        check_recorded(args.data, run.rollouts)
    elif not (out / STATE_FILE).exists():  # a training goes on with the episodes that it began with
        with timed(out, "recording"):
            collect(run.rollouts, out / "data", args.workers, run.record_minutes)
    if args.collect:
        return
    rollouts = Rollouts((args.data or out) / "data")
    config, probe = model_config(task, run.training, run.rollouts.image_size), partial(reset_probe, task)
    trainer = WorldModelTrainer(config, run.training, rollouts, out, probe=probe)
    if not trainer.run(args.device):
        raise SystemExit(f"Stopped at update {trainer.step}. The same line goes on.")
    part_seconds: dict[str, float] = {}
    with timed(out, "fitting parts"):
        bundle = fit_parts(task, trainer.model, trainer.train_set, run.parts, args.device, part_seconds)
        save_bundle(bundle, out / "world_model", half=True)
    print("of these: " + ", ".join(f"{name} {spent:.0f} s" for name, spent in part_seconds.items()))
    with timed(out, "report"):
        report = tell(load_bundle(out / "world_model"), trainer, run, out, args)
    hours = {name: spent / 3600.0 for name, spent in (spent_seconds(out) | {"training": trainer.seconds}).items()}
    report |= {"hours": hours, "part_seconds": part_seconds, "updates": trainer.step, "machine": machine(args.device)}
    report["reset_probe"] = {name: r2 for name, r2 in read_log(out)[-1].items() if name.startswith("r2_")}
    report |= {"task": task, "run": asdict(run), "parameters": trainer.model.parameter_table()}
    report["provenance"] = provenance(report, trainer, args)
    text = json.dumps(report["provenance"], indent=2) + "\n"
    replace_bytes(out / "world_model" / "provenance.json", text.encode())
    replace_bytes(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    draw_report(report, read_log(out), out / "report.png")
    say(report, out)


def tell(bundle: Bundle, trainer: WorldModelTrainer, run: Run, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What is measured of the weights that were written."""
    report = held_out_report(bundle, trainer.train_set, trainer.test_set, device=args.device)
    report["expectation"] = expectation_report(bundle, run.violations)
    if run.ranks:
        folder = out / "world_model"
        mark = fingerprint(folder)  # other weights, other files
        jobs = [
            RankJob(str(out / "ranks" / f"{mark}_{i}.json"), str(folder), seed=RANK_SEED, first=i, count=1)
            for i in range(run.ranks)
        ]
        played = parallel_map(run_rank_job, jobs, min(args.workers, len(jobs)), "order of plans")
        rows = [row for part in played for row in part]
        posed = [row["rho"] for row in rows if NO_PROBLEM not in row]
        report["ranks"] = rank_summary(posed, RankJob.plans) | {"without_a_problem": len(rows) - len(posed)}
    return report


def provenance(report: dict[str, Any], trainer: WorldModelTrainer, args: argparse.Namespace) -> dict[str, Any]:
    """What made the weights, to lie beside them."""
    data = {"episodes": len(trainer.train_set) + len(trainer.test_set), "held_out": len(trainer.test_set)}
    moments = trainer.train_set.moments + trainer.test_set.moments
    return encoder_provenance(trainer.training.encoder_from) | {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.date.today().isoformat(),
        "commit": args.commit or commit(Path(__file__).resolve().parent),
        "seed": report["run"]["training"]["seed"],
        "data": data | {"moments": moments, "recorded_as": report["run"]["rollouts"]},
        "training": report["run"]["training"] | {"updates": trainer.step},
        "objective": trainer.training.objective,
        "walker": walker_fingerprint(),
        **{name: report[name] for name in ("hours", "machine", "parameters")},
    }


def encoder_provenance(folder: str | None) -> dict[str, Any]:
    """What made the encoder that was taken over, under its name; nothing without one."""
    if folder is None:
        return {}
    path = Path(folder) / PROVENANCE_FILE
    return {"encoder": json.loads(path.read_text(encoding="utf-8")) if path.exists() else "not told"}


def say(report: dict[str, Any], out: Path) -> None:
    """The figures in a few lines."""
    rollout = report["rollout"]
    print(f"imagined {0.1 * rollout['horizon']:.1f} s ahead: error {rollout['model'][-1]:.3f}, if nothing changed "
          f"{rollout['no_change'][-1]:.3f}, a random frame {rollout['spread']:.3f}")  # fmt: skip
    told = {k: (row["normal"], row["violated"], row["p_value"]) for k, row in report["expectation"].items()}
    print(f"surprise without, with, p of the difference: {json.dumps(told)}")
    print(f"R² of objects' places from z at the start of held-out episodes: {json.dumps(report['reset_probe'])}")
    print(f"read off a latent, median cm: {json.dumps({k: round(v, 1) for k, v in report['readout_cm'].items()})}")
    if "ranks" in report:
        ranks = report["ranks"]
        print(f"rank correlation of plans, median of {ranks['problems']}: {ranks['median']}; {ranks['undefined']} more "
              "problems where all plans cost the same")  # fmt: skip
    print(f"Wrote {out}/world_model and {out}/report.png")


if __name__ == "__main__":
    main()

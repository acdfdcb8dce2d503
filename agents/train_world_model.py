"""Train a latent world model (LeWM) of one task, from recording to a report.

    python agents/train_world_model.py --task reach               # records, trains, fits the parts, reports
    python agents/train_world_model.py --task reach --collect     # records only
    python agents/train_world_model.py --preset tiny --out runs/tiny_world   # two minutes

Stop with Ctrl-C, or lose the machine: the same line goes on, and the weights are those of a run that was not stopped.

Writes OUT/data (rollouts: expert, noisy expert and random commands, at 10 Hz), OUT/state.pt and OUT/log.jsonl (the
training), OUT/world_model (what agents/plan.py loads), OUT/report.json and OUT/report.png.
"""

import argparse
import json
import signal
import time
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import torch

from neon_sim.names import nearest
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map
from neon_sim.world_model.bundle import save_bundle
from neon_sim.world_model.command_space import COMMAND_SPACES
from neon_sim.world_model.config import SIZES, lewm_config
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.expectation import expectation_report
from neon_sim.world_model.parts import PartsConfig, fit_parts
from neon_sim.world_model.report import draw_report, held_out_report
from neon_sim.world_model.rollouts import RolloutConfig, missing, open_worker, record_shard, shards_of
from neon_sim.world_model.training import WorldModelTrainer, WorldModelTraining, model_config, read_log


@dataclass(frozen=True)
class Run:
    """Everything that the result depends on."""

    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    training: WorldModelTraining = field(default_factory=WorldModelTraining)
    parts: PartsConfig = field(default_factory=PartsConfig)
    violations: int = 40  # episodes that the report violates expectations in


PRESETS = {
    "default": Run(),
    "tiny": Run(
        RolloutConfig(episodes=24, steps=20, image_size=32, shard_episodes=4),
        WorldModelTraining(size="tiny", updates=60, batch=16, learning_rate=1e-3),
        PartsConfig(episodes=24, readout_epochs=5, reader_updates=100, head_updates=100, distil_plans=32, iterations=2),
        violations=4,
    ),
}


def start_worker(config: RolloutConfig) -> None:
    """Prepare a worker; Ctrl-C is for the main process to act on."""
    if parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    open_worker(config)


def collect(config: RolloutConfig, folder: Path, workers: int) -> None:
    """Record what is missing and say how fast."""
    work, begun = missing(shards_of(config, folder)), time.monotonic()
    if not work:
        return
    moments = sum(parallel_map(record_shard, work, min(workers, len(work)), "recording", start_worker, (config,)))
    spent = time.monotonic() - begun
    print(f"{moments} new moments in {spent:.0f} s: {moments / spent:.0f} a second, {workers} workers")


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
        size = lewm_config(args.size).image_size
        run = replace(run, rollouts=replace(run.rollouts, image_size=size))
    given = vars(args)

    def with_flags(config: Any, *names: str) -> Any:
        return replace(config, **{name: given[name] for name in names if given[name] is not None})

    return Run(
        with_flags(run.rollouts, "task", "episodes"),
        with_flags(run.training, "size", "updates", "batch", "seed"),
        with_flags(run.parts, "seed"),
        run.violations,
    )


def main() -> None:
    """Record, train, fit, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--task", default="reach", help=f"one of {', '.join(COMMAND_SPACES)}")
    parser.add_argument("--size", help=f"of the model: {', '.join(SIZES)}")
    parser.add_argument("--episodes", type=int, help="to record")
    parser.add_argument("--updates", type=int, help="of the training")
    parser.add_argument("--batch", type=int, help="windows in a batch")
    parser.add_argument("--seed", type=int, help="of weights and batches")
    parser.add_argument("--collect", action="store_true", help="record and stop")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="runs/world_model_TASK by default")
    args = parser.parse_args()
    try:
        run = settings(args)
        out = args.out or Path("runs") / f"world_model_{args.task}"
        claim_folder(out, asdict(run))
        make(args.task, run, out, args)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped. The same line goes on from what is in {out}.") from None


def make(task: str, run: Run, out: Path, args: argparse.Namespace) -> None:
    """All of it into `out`, each part where it is missing."""
    collect(run.rollouts, out / "data", args.workers)
    if args.collect:
        return
    rollouts, begun = Rollouts(out / "data"), time.monotonic()
    trainer = WorldModelTrainer(model_config(task, run.training, run.rollouts.image_size), run.training, rollouts, out)
    if not trainer.run(args.device):
        raise SystemExit(f"Stopped at update {trainer.step}. The same line goes on.")
    hours = (time.monotonic() - begun) / 3600.0
    print("fitting readout, words and heads")
    bundle = fit_parts(task, trainer.model, trainer.train_set, run.parts)
    save_bundle(bundle, out / "world_model")
    report = held_out_report(bundle, trainer.train_set, trainer.test_set)
    report["expectation"] = expectation_report(bundle, run.violations)
    report |= {"task": task, "run": asdict(run), "parameters": trainer.model.parameter_table(), "hours_last_run": hours}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    draw_report(report, read_log(out), out / "report.png")
    rollout = report["rollout"]
    print(f"imagined {0.1 * rollout['horizon']:.1f} s ahead: error {rollout['model'][-1]:.3f}, if nothing changed "
          f"{rollout['no_change'][-1]:.3f}, a random frame {rollout['spread']:.3f}")  # fmt: skip
    told = {k: (row["normal"], row["violated"], row["p_value"]) for k, row in report["expectation"].items()}
    print(f"surprise without, with, p of the difference: {json.dumps(told)}")
    print(f"read off a latent, median cm: {json.dumps({k: round(v, 1) for k, v in report['readout_cm'].items()})}")
    print(f"Wrote {out}/world_model and {out}/report.png")


if __name__ == "__main__":
    main()

"""What each Parameter Golf switch is worth: trained on and off on one demonstration set, judged in closed loop.

    python agents/ablate.py                  # 13 variants x 3 seeds: about 40 minutes on two idle cores
    python agents/ablate.py --preset tiny    # two variants, one seed: under two minutes
    python agents/ablate.py --out runs/ablate    # stop with Ctrl-C, run the same line to go on

The heads read the shipped backbone's features and the shipped goal reader's token, and learn from reaches that the
script records itself, few enough that a head can still fail. Writes OUT/table.md, OUT/results.json, OUT/ablation.png;
benchmarks/ablation.py puts the table into RESULTS.md.
"""

import argparse
import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.ablation import (
    VARIANTS,
    Trial,
    markdown,
    plot_ablation,
    residual_scales,
    summarise,
)
from neon_sim.eval.evaluate import EVALUATION_SEED, EvaluationJob, run_job
from neon_sim.eval.trials import TrialTraining, record_demos, train_trial, trial_model
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.names import nearest
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path
from neon_sim.training.demos import Demos
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map

ENV = {"task": "reach", "physics_dt": 0.005, "sensors": ("proprio", "camera"), "camera": CameraConfig(rate_hz=12.5)}


@dataclass(frozen=True)
class Preset:
    """How much is trained and judged."""

    demos: int = 200
    training: TrialTraining = TrialTraining()
    layers: int = 4  # of a decoder: the first depth at which the skip connection adds anything
    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 40  # that judge each variant with each seed


PRESETS = {
    "default": Preset(),
    "tiny": Preset(6, TrialTraining(updates=12, batch_size=16), variants=("all", "none"), seeds=(0,), episodes=2),
}


@dataclass(frozen=True)
class TrialJob:
    """One variant with one seed."""

    variant: str
    seed: int
    preset: Preset
    folder: Path
    demos: tuple[Path, ...]  # files

    @property
    def result(self) -> Path:
        """Where its outcome is kept: what is there need not be done again."""
        return self.folder / "trials" / f"{self.variant.replace(' ', '_')}_{self.seed}.json"


def judging_seeds(preset: Preset, seed: int) -> tuple[int, ...]:
    """The same for every variant, others for every training seed."""
    first = EVALUATION_SEED + 1_000 * (seed + 1)
    return tuple(range(first, first + preset.episodes))


def run_trial(job: TrialJob) -> Trial:
    """Train a variant, save it, play its episodes; or read what an earlier run found."""
    if not job.result.exists():
        trial = train_and_judge(job)
        job.result.parent.mkdir(parents=True, exist_ok=True)
        partial = job.result.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(trial)) + "\n")
        partial.replace(job.result)
    found = json.loads(job.result.read_text())
    return Trial(**{**found, "distances": tuple(found["distances"]), "alphas": tuple(found["alphas"])})


def train_and_judge(job: TrialJob) -> Trial:
    """The trial itself."""
    torch.set_num_threads(1)
    preset, variant = job.preset, VARIANTS[job.variant]
    shipped = NeonVLA.from_pretrained(asset_path("g1/demo_heads"))
    config = NeonConfig(use_lidar=False, use_audio=False, action_head_layers=preset.layers, head=dict(variant.head))
    model = trial_model(shipped, config, job.seed)
    figures = train_trial(model, Demos.load(list(job.demos)), variant.of(replace(preset.training, seed=job.seed)))
    policy = job.result.with_suffix("")
    model.save_pretrained(policy)
    played = run_job(EvaluationJob(job.variant, str(policy), judging_seeds(preset, job.seed), env=ENV))
    return Trial(
        job.variant,
        job.seed,
        figures["train_loss"],
        figures["held_back_mse"],
        sum(result.success for result in played),
        tuple(result.final_distance for result in played),
        residual_scales(model),
    )


def run(preset: Preset, out: Path, workers: int) -> None:
    """The whole experiment into `out`."""
    demos = tuple(record_demos(out / "demos", preset.demos, ENV, workers))
    jobs = [TrialJob(variant, seed, preset, out, demos) for seed in preset.seeds for variant in preset.variants]
    trials = list(parallel_map(run_trial, jobs, workers, "trials"))
    summary, date = summarise(trials), last_day(jobs)
    page = f"{markdown(summary)}\n{preset.demos} demonstrations, seeds {preset.seeds}, the last trial on {date}.\n"
    (out / "table.md").write_text(page)
    record = {"date": date, "summary": summary, "trials": [asdict(trial) for trial in trials], "preset": asdict(preset)}
    (out / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    plot_ablation(summary, out / "ablation.png")
    print(f"\n{page}\nWrote table.md, results.json and ablation.png to {out}")


def last_day(jobs: Sequence[TrialJob]) -> str:
    """When the newest trial ended, ISO: a later run that only reads them does not make them younger."""
    return datetime.date.fromtimestamp(max(job.result.stat().st_mtime for job in jobs)).isoformat()


def main() -> None:
    """Record, train, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/ablate"))
    parser.add_argument("--workers", type=int, default=cpu_count())
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    preset = PRESETS[args.preset]
    try:
        claim_folder(args.out, asdict(preset))
    except ValueError as error:
        raise SystemExit(str(error)) from None
    try:
        run(preset, args.out, args.workers)
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what is done is in {args.out}. The same line goes on.") from None


if __name__ == "__main__":
    main()

"""What each Parameter Golf switch is worth: trained on and off on one demonstration set, judged in closed loop.

    python agents/ablate.py                  # 13 variants x 3 seeds: estimated half an hour on two idle cores
    python agents/ablate.py --preset tiny    # two variants, one seed: under two minutes
    python agents/ablate.py --out runs/ablate    # stop with Ctrl-C, run the same line to go on

The heads read the shipped backbone's features and the shipped goal reader's token, and learn from reaches that the
script records itself, few enough that a head can still fail. "all" and "none" come first: where one of them is above
95 % or below 20 %, the others have no room to differ, and the run stops there unless --go-on says otherwise. Writes
OUT/table.md, OUT/results.json, OUT/ablation.png; benchmarks/ablation.py puts the table into RESULTS.md.
"""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.ablation import (
    REFERENCES,
    VARIANTS,
    Trial,
    markdown,
    no_room,
    plot_ablation,
    residual_scales,
    summarise,
)
from neon_sim.eval.evaluate import EVALUATION_SEED, EvaluationJob, run_job
from neon_sim.eval.outcomes import kept, made_when
from neon_sim.eval.trials import FIRST_DEMO_SEED, HELD_BACK, TrialTraining, record_demos, train_trial, trial_model
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.names import nearest
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path, walker_fingerprint
from neon_sim.training.demos import Demos
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map
from neon_sim.world_model.report import commit

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
    commit: str  # of the code that does it

    @property
    def result(self) -> Path:
        """Where its outcome is kept: what is there need not be done again."""
        return self.folder / "trials" / f"{self.variant.replace(' ', '_')}_{self.seed}.json"


def judging_seeds(preset: Preset, seed: int) -> tuple[int, ...]:
    """The same for every variant, others for every training seed."""
    first = EVALUATION_SEED + 1_000 * (seed + 1)
    return tuple(range(first, first + preset.episodes))


def settings_of(preset: Preset) -> dict[str, Any]:
    """Everything that a run's folder belongs to: a run that goes on must have the same."""
    variants = {name: asdict(VARIANTS[name]) for name in preset.variants}
    seeds = {"first_demo": FIRST_DEMO_SEED, "judged": {seed: judging_seeds(preset, seed)[0] for seed in preset.seeds}}
    world = {"env": ENV, "walker": walker_fingerprint(), "seeds": seeds}
    return {"preset": asdict(preset), "variants": variants, **world, "held_back": HELD_BACK}


def run_trial(job: TrialJob) -> Trial:
    """Train a variant, save it, play its episodes; or read what an earlier run found."""
    found = kept(job.result, lambda: asdict(train_and_judge(job)), job.commit)
    return Trial(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})


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
        tuple(result.success for result in played),
        tuple(result.final_distance for result in played),
        residual_scales(model),
    )


def run(preset: Preset, out: Path, workers: int, begun_at: str, go_on: bool = False) -> None:
    """The whole experiment into `out`.

    Raises SystemExit after the references where they leave the other variants no room, unless told to go on.
    """
    demos = tuple(record_demos(out / "demos", preset.demos, ENV, workers))
    kept(out / "demos.json", lambda: {"files": [path.name for path in demos]}, begun_at)
    pairs = [(variant, seed) for seed in preset.seeds for variant in preset.variants]
    jobs = [TrialJob(variant, seed, preset, out, demos, begun_at) for variant, seed in pairs]
    first = [job for job in jobs if job.variant in REFERENCES]
    others = [job for job in jobs if job.variant not in REFERENCES]
    trials = list(parallel_map(run_trial, first, workers, " and ".join(REFERENCES)))
    told = no_room(summarise(trials))
    print("\n".join(told) or "Neither reference is at the ceiling or on the floor.")
    if others and told and not go_on:
        raise SystemExit(f"Stopped: the others cannot show a difference. --go-on trains them; all is kept in {out}.")
    if others:
        trials += parallel_map(run_trial, others, workers, "the other variants")
    report(sorted(trials, key=lambda trial: (preset.variants.index(trial.variant), trial.seed)), jobs, out)


def report(trials: list[Trial], jobs: list[TrialJob], out: Path) -> None:
    """Table, JSON file and picture of all trials."""
    preset, summary = jobs[0].preset, summarise(trials)
    made = made_when([out / "demos.json", *(job.result for job in jobs)])
    page = f"{markdown(summary)}\n{preset.demos} demonstrations, seeds {preset.seeds}, the last trial on {made['date']}"
    page += f", commit {made['commit']}.\n"
    (out / "table.md").write_text(page)
    record = {**made, "summary": summary, "trials": [asdict(trial) for trial in trials], **settings_of(preset)}
    (out / "results.json").write_text(json.dumps(record, indent=2, default=str) + "\n")
    plot_ablation(summary, out / "ablation.png")
    print(f"\n{page}\nWrote table.md, results.json and ablation.png to {out}")


def main() -> None:
    """Record, train, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/ablate"))
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--go-on", action="store_true", help="train the others where all and none leave no room too")
    parser.add_argument("--commit", help="of the running code, where it is no git checkout")
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    preset = PRESETS[args.preset]
    try:
        claim_folder(args.out, settings_of(preset))
    except ValueError as error:
        raise SystemExit(str(error)) from None
    begun_at = args.commit or commit(Path(__file__).resolve().parent) or "uncommitted"
    try:
        run(preset, args.out, args.workers, begun_at, args.go_on)
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what is done is in {args.out}. The same line goes on.") from None


if __name__ == "__main__":
    main()

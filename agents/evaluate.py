"""Measure a policy on the reach task: success with a 95 % interval, what it is worth blind or deaf, and references.

    python agents/evaluate.py                                   # the shipped demo heads, 200 episodes
    python agents/evaluate.py --policy runs/pretrain/policy --episodes 50
    python agents/evaluate.py --policy expert

Writes OUT/evaluation.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.evaluate import EVALUATION_SEED, EpisodeResult, EvaluationJob, evaluate
from neon_sim.eval.statistics import format_rate
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path
from neon_sim.training.workers import cpu_count

ENV = {
    "task": "reach",
    "physics_dt": 0.005,
    "sensors": ("proprio", "camera"),
    "camera": CameraConfig(rate_hz=12.5),
}


def jobs_for(policy: str, episodes: int, seed: int, references: bool) -> list[EvaluationJob]:
    """The policy as it is, blind, with another episode's words; and the references."""
    seeds = tuple(range(EVALUATION_SEED + seed, EVALUATION_SEED + seed + episodes))
    jobs = [EvaluationJob("policy", policy, seeds, env=ENV)]
    if references:
        jobs += [
            EvaluationJob("camera blanked", policy, seeds, blank_camera=True, env=ENV),
            EvaluationJob("words of another episode", policy, seeds, shuffle_words=True, env=ENV),
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


def main() -> None:
    """Evaluate and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default=str(asset_path("g1")) + "/demo_heads")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-references", action="store_true")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/evaluate"))
    args = parser.parse_args()
    results = evaluate(jobs_for(args.policy, args.episodes, args.seed, not args.no_references), args.workers)
    table = {label: summary(rows) for label, rows in results.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "evaluation.json").write_text(json.dumps(table, indent=2) + "\n")
    for label, row in table.items():
        print(f"{label:32} {row['success']:34} final distance {row['final_distance_cm_median']:.1f} cm")


if __name__ == "__main__":
    main()

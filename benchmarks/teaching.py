"""A planner as teacher of the heads: how often they reach before and after, without a label, with EWC on.

The shipped heads reach every ball with a healthy robot, so it is taught where they fail: with a broken shoulder, that
of benchmarks/self_learning.py. The world model knows healthy bodies only.

    python benchmarks/teaching.py                    # goes on where it was stopped
    python benchmarks/teaching.py --arms taught_ewc  # that one alone
    python benchmarks/teaching.py --preset tiny --model runs/tiny_world/world_model   # minutes, writes no report

Arms: before (the shipped heads), taught_ewc and taught_naive (the planner acts, the heads learn from it, with and
without EWC), own_ewc (as many episodes, but the heads act themselves), taught_lr0 (learning rate 0: must show no gain).
The world model is --model, else runs/world_model_reach/world_model (agents/train_world_model.py), else the shipped one.
Courses belong to its weights, not to its place: after another training choose another --out. With some of the arms
only, the table is printed and no report is written.
"""

import argparse
import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from planning_time import said
from report import table, write_report
from tqdm import tqdm

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.evaluate import EVALUATION_SEED, EpisodeResult, EvaluationJob, evaluate
from neon_sim.eval.statistics import format_rate
from neon_sim.names import nearest
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path, walker_fingerprint
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.online import LifeEpisode
from neon_sim.training.protection import NoneConfig, OnlineEWCConfig, ProtectionConfig
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.self_learner import SelfLearnerConfig
from neon_sim.training.teaching import TeachingConfig, teach
from neon_sim.training.workers import cpu_count, parallel_map
from neon_sim.world_model.bundle import load_bundle
from neon_sim.world_model.controllers import PlanningConfig
from neon_sim.world_model.judging import model_folder
from neon_sim.world_model.played import fingerprint

ENV: dict[str, Any] = {
    "task": "reach",
    "physics_dt": 0.005,
    "sensors": ("proprio", "camera"),
    "camera": CameraConfig(rate_hz=12.5),
}
FAULT = ActuatorFault("right_shoulder_pitch_joint", strength=0.7, bias=0.25)  # that of agents/self_learn.py
BEFORE = "before"
ARMS = ("taught_ewc", "taught_naive", "own_ewc", "taught_lr0")
TAUGHT_S, JUDGED_S = 3.0, 0.5  # of an episode on one core, reckoned from a tiny run
HEADER = ("arm, robot", "success, 95 % interval", "median distance at the end", "while it was taught")


Results = dict[str, list[EpisodeResult]]


@dataclass(frozen=True)
class Preset:
    """How long it is."""

    seeds: tuple[int, ...] = (0, 1, 2)
    course: TeachingConfig = TeachingConfig(fault=FAULT)
    learner: SelfLearnerConfig = SelfLearnerConfig(practice_noise_m=0.04)
    protection: ProtectionConfig = OnlineEWCConfig()  # that of agents/self_learn.py
    episodes: int = 200  # of each arm and robot, shared out over the seeds


PRESETS = {
    "full": Preset(),
    "tiny": Preset(
        seeds=(0,),
        course=TeachingConfig(4, 4, planning=PlanningConfig(samples=16, iterations=2), fault=FAULT),
        learner=SelfLearnerConfig(practice_noise_m=0.04, batch_size=16),
        episodes=4,
    ),
}


@dataclass(frozen=True)
class Course:
    """One arm with one seed."""

    arm: str
    seed: int
    preset: Preset
    policy: str
    model: str
    folder: str
    position: int  # of its bar


def learner_of(course: Course) -> SelfLearnerConfig:
    """What makes the arms differ, beside who acts."""
    preset = course.preset
    protection = preset.protection if course.arm.endswith("_ewc") else NoneConfig()
    config = replace(preset.learner, seed=course.seed, protection=protection)
    return replace(config, learning_rate=0.0) if course.arm == "taught_lr0" else config


def run_course(course: Course) -> list[LifeEpisode]:
    """Go through one arm's course in a worker, or what is left of it."""
    torch.set_num_threads(1)
    config = replace(course.preset.course, teacher=course.arm.startswith("taught"))
    env = gymnasium.make("NeonG1-v0", disable_env_checker=True, **ENV).unwrapped
    total = config.own_episodes + config.taught_episodes
    with tqdm(total=total, desc=f"{course.arm}, seed {course.seed}", position=course.position, leave=False) as bar:

        def on_episode(line: LifeEpisode, losses: dict[str, float]) -> None:
            bar.update(line.episode + 1 - bar.n)

        try:
            bundle = load_bundle(Path(course.model))
            return teach(env, Path(course.policy), bundle, learner_of(course), config, Path(course.folder), on_episode)
        finally:
            env.close()


def judged(preset: Preset, arm: str, policies: Mapping[int, str], out: Path, workers: int) -> Results:
    """One arm, heads alone, on seeds that no course has seen, or what is kept of that; results by "arm, robot"."""
    path = out / f"judged_{arm}.json"
    if path.exists():
        kept = json.loads(path.read_text())
        return {label: [EpisodeResult(**row) for row in rows] for label, rows in kept.items()}
    each, jobs = -(-preset.episodes // len(preset.seeds)), []
    for seed, policy in policies.items():
        first = EVALUATION_SEED + 1_000 * (seed + 1)
        seeds = tuple(range(first, first + each))
        for robot, broken in (("healthy", None), ("faulty", preset.course.fault)):
            jobs.append(EvaluationJob(f"{arm}, {robot}|{seed}", policy, seeds, fault=broken, env=ENV))
    found: Results = {}
    for label, results in evaluate(jobs, workers, f"judging {arm}").items():
        found.setdefault(label.partition("|")[0], []).extend(results)
    rows = {label: [asdict(result) for result in results] for label, results in found.items()}
    replace_bytes(path, (json.dumps(rows) + "\n").encode())
    return found


def figures_of(
    found: Mapping[str, list[EpisodeResult]], lines: Mapping[str, list[LifeEpisode]]
) -> tuple[dict[str, Any], list[list[str]]]:
    """Plain numbers, and rows for people. `lines` are each arm's episodes of the course."""
    figures: dict[str, Any] = {"cells": {}, "while_taught": {}}
    for arm, course in lines.items():
        taught = [line.success for line in course if line.faulty]
        figures["while_taught"][arm] = {"successes": sum(taught), "episodes": len(taught)}
    rows = []
    for label, results in found.items():
        successes, off = sum(r.success for r in results), float(np.median([r.final_distance for r in results]))
        figures["cells"][label] = {"successes": successes, "episodes": len(results), "final_m_median": off}
        then = figures["while_taught"].get(label.partition(",")[0])
        acted = "" if then is None else format_rate(then["successes"], then["episodes"])
        rows.append([label, format_rate(successes, len(results)), f"{100 * off:.1f} cm", acted])
    return figures, rows


def settings_of(preset: Preset, policy: Path, model: Path) -> dict[str, Any]:
    """What courses depend on: weights and walker by what they are. A folder of courses is of one such set."""
    weights = hashlib.sha256()
    for path in sorted(path for path in policy.iterdir() if path.is_file()):
        weights.update(path.read_bytes())
    made_with = {"policy": weights.hexdigest()[:12], "model": fingerprint(model), "walker": walker_fingerprint()}
    return {"preset": asdict(preset)} | made_with


def time_to_go(courses: list[Course], arms: list[str], preset: Preset, out: Path, workers: int) -> str:
    """How much is to do and about how long that takes; a course that was begun counts whole."""
    each = preset.course.own_episodes + preset.course.taught_episodes
    to_teach = each * sum(not (Path(course.folder) / "policy").exists() for course in courses)
    cells = [2 * preset.episodes * (not (out / f"judged_{arm}.json").exists()) for arm in (BEFORE, *arms)]
    every = each * len(courses) + 2 * preset.episodes * len(cells)
    return said(to_teach + sum(cells), every, TAUGHT_S * to_teach + JUDGED_S * sum(cells), workers)


def measure(preset: Preset, arms: list[str], policy: str, model: str, out: Path, workers: int) -> Any:
    """All courses that are missing, then all judging: figures and rows."""
    work = [(arm, seed) for arm in arms for seed in preset.seeds]
    courses = [
        Course(arm, seed, preset, policy, model, str(out / f"{arm}_{seed}"), i + 1)
        for i, (arm, seed) in enumerate(work)
    ]
    print(time_to_go(courses, arms, preset, out, workers), flush=True)
    played = list(zip(courses, parallel_map(run_course, courses, workers, "courses"), strict=True))
    found = judged(preset, BEFORE, dict.fromkeys(preset.seeds, policy), out, workers)
    for arm in arms:
        found |= judged(preset, arm, {s: str(out / f"{arm}_{s}" / "policy") for s in preset.seeds}, out, workers)
    lines = {arm: [line for course, part in played if course.arm == arm for line in part] for arm in arms}
    return figures_of(found, lines)


def main() -> None:
    """Teach, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), help=f"of {', '.join(ARMS)}")
    parser.add_argument("--policy", default=str(asset_path("g1/demo_heads")))
    parser.add_argument("--model", type=Path, help="a world model of reach")
    parser.add_argument("--out", type=Path, default=Path("runs/teaching"))
    parser.add_argument("--workers", type=int, default=cpu_count())
    args = parser.parse_args()
    out: Path = args.out
    try:
        for kind, names, valid in (("preset", [args.preset], PRESETS), ("arm", args.arms, ARMS)):
            for name in names:
                if name not in valid:
                    raise nearest(kind, name, valid)
        preset = PRESETS[args.preset]
        model = str(model_folder("reach", args.model))
        claim_folder(out, settings_of(preset, Path(args.policy), Path(model)))
        figures, rows = measure(preset, args.arms, args.policy, model, out, args.workers)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was taught is in {out}. The same line goes on.") from None
    print(table(HEADER, rows))
    (out / "results.json").write_text(json.dumps(figures, indent=2) + "\n")
    if args.preset == "full" and set(args.arms) == set(ARMS):
        write_report("teaching", figures, HEADER, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()

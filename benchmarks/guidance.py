"""Physics guidance on reach: one head with the guide off and on, in worlds that the head was not trained for.

    python benchmarks/guidance.py                  # estimated 30 minutes on two idle cores, 8 of them training
    python benchmarks/guidance.py --preset tiny    # a few minutes, leaves RESULTS.md alone
    python benchmarks/guidance.py --out runs/guide # stop with Ctrl-C, run the same line to go on

A flow head and a diffusion transformer, each with six guides where they matter: something heavy in both hands (payload:
the torque margin; sag: lift what sags), a ball-shaped obstacle half way (collision), motors that may use 25 % of their
effort (torque), and nothing special (smooth); then collision, torque and smoothness together (composite). The obstacle
is in the guide's map and not in the scene, fixed to the pelvis: an arm that crosses it shows as negative clearance, and
nothing stops it. Off and on play the same episodes. Intervals are 95 %: Wilson's for success, of the mean for the rest;
the change is that of paired episodes.
"""

import argparse
import datetime
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import torch
from report import ROOT, replace_file, table, write_report

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.episode import NeonEpisode
from neon_sim.eval.evaluate import EVALUATION_SEED
from neon_sim.eval.neonbench_play import leave_interrupts_to_the_main_process
from neon_sim.eval.statistics import format_rate, mean_interval
from neon_sim.eval.trials import TrialTraining, record_demos, train_trial, trial_model
from neon_sim.g1 import joints
from neon_sim.g1.kinematics import palm_poses
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.real_time import last_target
from neon_sim.model.collision import Obstacle, arm_spheres, gaps
from neon_sim.model.g1_dynamics import limb_poses
from neon_sim.model.guidance import GuidanceConfig, PhysicsGuide
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.physics_losses import (
    CollisionLoss,
    CompositeLoss,
    PayloadLoss,
    PhysicsLoss,
    SagLoss,
    SmoothLoss,
    TorqueLoss,
)
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path
from neon_sim.sim.faults import Payload
from neon_sim.training.demos import Demos
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map

ENV: Final[dict[str, Any]] = {
    "task": "reach", "physics_dt": 0.005, "sensors": ("proprio", "camera"), "camera": CameraConfig(rate_hz=12.5),
}  # fmt: skip
LOAD_KG: Final = 1.5  # in each hand: holding a reach then takes 34 % of some arm motor's effort (median), 15 % without
TORQUE_SHARE: Final = 0.25  # of each motor's effort that the torque and payload guides allow
RADIUS_M: Final = 0.05  # of the obstacle, whose centre is half way from the palm at home to the ball
DT: Final = 0.02  # s
ARMS: Final = joints.GROUPS["arms"]


@dataclass(frozen=True)
class Case:
    """One rule in one world. measure: what it is about, of `MEASURES`."""

    measure: str
    loss: Callable[[Obstacle], PhysicsLoss]
    loaded: bool = False
    config: GuidanceConfig = field(default_factory=GuidanceConfig)


def _composite(obstacle: Obstacle) -> PhysicsLoss:
    parts = (CollisionLoss((obstacle,)), 1.0), (TorqueLoss(TORQUE_SHARE), 0.5), (SmoothLoss(), 0.3)
    return CompositeLoss(parts)


HANDS_KG: Final = (LOAD_KG, LOAD_KG)
LAST_STEP: Final = GuidanceConfig(start_time=0.75)  # of four: see SagLoss
CASES: Final = {
    "payload": Case("torque_held", lambda _: PayloadLoss(HANDS_KG, TORQUE_SHARE), loaded=True),
    "sag": Case("distance_cm", lambda _: SagLoss(HANDS_KG), loaded=True, config=LAST_STEP),
    "torque": Case("torque_peak", lambda _: TorqueLoss(TORQUE_SHARE)),
    "collision": Case("clearance_cm", lambda obstacle: CollisionLoss((obstacle,))),
    "smooth": Case("jerk", lambda _: SmoothLoss()),
    "composite": Case("clearance_cm", _composite),
}
MEASURES: Final = {
    "torque_peak": "largest share of an arm motor's effort",
    "torque_held": "the same, mean over the last 0.2 s",
    "distance_cm": "palm to ball at the end, cm",
    "clearance_cm": "least distance of arm and obstacle, cm",
    "jerk": "jerk of the arms' targets, rms, rad/s^3",
}
HEADS: Final[dict[str, dict[str, Any]]] = {
    "flow": {"head_type": "flow"},
    "dit": {"head_type": "dit", "dit_hidden": 256, "dit_layers": 4, "dit_heads": 4},
}
HEADER: Final = ("head", "case", "guide", "success, 95 % interval", "measure", "mean", "change by the guide")


@dataclass(frozen=True)
class Preset:
    """How much is trained and played."""

    demos: int = 400
    updates: tuple[int, int] = (4000, 1500)  # of the flow head and of the transformer, which costs three times as much
    episodes: int = 60
    cases: tuple[str, ...] = tuple(CASES)


PRESETS: Final = {"full": Preset(), "tiny": Preset(4, (10, 4), 2, ("collision",))}


@dataclass(frozen=True)
class TrainingJob:
    """One head and where it goes."""

    head: str
    updates: int
    demos: tuple[Path, ...]
    policy: Path


@dataclass(frozen=True)
class Job:
    """Episodes of one head in one case, with the guide or without. folder: of the whole experiment."""

    head: str
    case: str
    guided: bool
    folder: Path
    seeds: tuple[int, ...]

    @property
    def result(self) -> Path:
        """Where its episodes are kept: what is there need not be played again."""
        name = f"{self.head}_{self.case}_{'on' if self.guided else 'off'}_{self.seeds[0]}_{len(self.seeds)}.json"
        return self.folder / "played" / name


def obstacle_on_the_way(hand: int, target_pos_b: np.ndarray) -> Obstacle:
    """A ball half way between the palm of the home pose and the target (3,) m, pelvis frame."""
    start = palm_poses(joints.HOME)[0][hand]
    x, y, z = (0.5 * (start + target_pos_b)).tolist()
    return Obstacle((x, y, z), radius=RADIUS_M)


def clearance_m(joint_pos: np.ndarray, obstacle: Obstacle) -> float:
    """Least distance, m, between either arm and an obstacle over postures (T, 29) rad; negative inside it."""
    centers, radii = arm_spheres(limb_poses(torch.from_numpy(joint_pos)[None]))
    return float((gaps(centers, (obstacle,))[..., 0] - radii).min())


def measures(episode: NeonEpisode, distance_m: float, obstacle: Obstacle) -> dict[str, float]:
    """One episode's figures, see `MEASURES`; from what the robot sensed in it."""
    body = episode.observations["proprio"].astype(np.float64)
    torque = np.abs(body[1:, 58:87])[:, ARMS] / joints.EFFORT[ARMS]  # the first was sensed before any action
    targets = np.stack([last_target(row) for row in body])[:, ARMS]
    third = np.diff(targets, n=3, axis=0) / DT**3
    return {
        "success": float(episode.success),
        "torque_peak": float(torque.max()),
        "torque_held": float(torque[-10:].max(axis=1).mean()),
        "distance_cm": 100.0 * distance_m,
        "clearance_cm": 100.0 * clearance_m(body[:, :29], obstacle),
        "jerk": math.sqrt(float(np.square(third).mean())),
    }


def play_or_read(job: Job) -> list[dict[str, float]]:
    """The figures of each episode of a job, played now unless an earlier run did."""
    if not job.result.exists():
        played = play(job)
        job.result.parent.mkdir(parents=True, exist_ok=True)
        replace_file(job.result, json.dumps(played) + "\n")
    found: list[dict[str, float]] = json.loads(job.result.read_text(encoding="utf-8"))
    return found


def play(job: Job) -> list[dict[str, float]]:
    """Play a job's episodes one after the other."""
    torch.set_num_threads(1)
    case = CASES[job.case]
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **ENV).unwrapped
    if case.loaded:
        env.world.apply_fault((Payload("left_hand", LOAD_KG), Payload("right_hand", LOAD_KG)))
    policy = NeonPolicy(NeonVLA.from_pretrained(job.folder / job.head))
    played = [play_episode(env, policy, case, job.guided, seed) for seed in job.seeds]
    env.close()
    return played


def play_episode(env: Any, policy: NeonPolicy, case: Case, guided: bool, seed: int) -> dict[str, float]:
    """One episode; its obstacle is known as soon as the ball is."""
    placed: list[Obstacle] = []

    def before_a_chunk(env: Any) -> None:
        if not placed:
            truth = env.privileged()
            placed.append(obstacle_on_the_way(truth["hand"], truth["target_pos_b"]))
            guide = PhysicsGuide(policy.model.action_space, case.loss(placed[0]), case.config)
            policy.guide = guide if guided else None

    episode = rollout(env, policy, seed=seed, stop_on_success=True, on_chunk=before_a_chunk)
    return measures(episode, env.privileged()["distance"], placed[0])


def case_rows(
    head: str, case: str, off: Sequence[Mapping[str, float]], on: Sequence[Mapping[str, float]]
) -> list[list[str]]:
    """Two rows of the table: the same episodes without and with the guide."""
    measure = CASES[case].measure
    change = mean_interval([b[measure] - a[measure] for a, b in zip(off, on, strict=True)])
    rows = []
    for label, played, last in (("off", off, "-"), ("on", on, _text(change))):
        successes = sum(int(episode["success"]) for episode in played)
        mean = _text(mean_interval([episode[measure] for episode in played]))
        rows.append([head, case, label, format_rate(successes, len(played)), MEASURES[measure], mean, last])
    return rows


def _text(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3g} ± {interval[1]:.2g}"


def train_head(job: TrainingJob) -> None:
    """Train one head unless it is there."""
    if (job.policy / "config.json").exists():
        return
    torch.set_num_threads(1)
    config = NeonConfig(use_lidar=False, use_audio=False, head=HEADS[job.head])
    model = trial_model(NeonVLA.from_pretrained(asset_path("g1/demo_heads")), config, seed=0)
    print(job.head, train_trial(model, Demos.load(list(job.demos)), TrialTraining(updates=job.updates)))
    model.save_pretrained(job.policy)


def train_both(folder: Path, preset: Preset, workers: int) -> None:
    """Both heads into `folder`, side by side."""
    demos = tuple(record_demos(folder / "demos", preset.demos, ENV, workers))
    pairs = zip(HEADS, preset.updates, strict=True)
    jobs = [TrainingJob(name, updates, demos, folder / name) for name, updates in pairs]
    list(parallel_map(train_head, jobs, workers, "training", leave_interrupts_to_the_main_process))


def jobs_of(preset: Preset, folder: Path, size: int = 10) -> list[Job]:
    """Every case of every head off and on, in parts of `size` seeds."""
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + preset.episodes)
    parts = [tuple(seeds[i : i + size]) for i in range(0, len(seeds), size)]
    worlds = itertools.product(HEADS, preset.cases, (False, True))
    return [Job(head, case, guided, folder, part) for head, case, guided in worlds for part in parts]


def play_all(preset: Preset, folder: Path, workers: int) -> dict[tuple[str, str, bool], list[dict[str, float]]]:
    """Train and play what is missing in `folder`: episodes by head, case, and whether they were guided."""
    train_both(folder, preset, workers)
    jobs = jobs_of(preset, folder)
    played = parallel_map(play_or_read, jobs, workers, "playing", leave_interrupts_to_the_main_process)
    found: dict[tuple[str, str, bool], list[dict[str, float]]] = {}
    for job, episodes in zip(jobs, played, strict=True):
        found.setdefault((job.head, job.case, job.guided), []).extend(episodes)
    return found


def main() -> None:
    """Train, play, print, and report what was played in full."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", help=", ".join(PRESETS))
    parser.add_argument("--out", type=Path, help="where the heads are trained (default: runs/guidance_PRESET)")
    parser.add_argument("--workers", type=int, default=cpu_count())
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    preset, out = PRESETS[args.preset], args.out or ROOT / "runs" / f"guidance_{args.preset}"
    settings = {"demos": preset.demos, "updates": preset.updates, "heads": HEADS}
    world = {"load_kg": LOAD_KG, "torque_share": TORQUE_SHARE, "radius_m": RADIUS_M}
    try:
        claim_folder(out, settings | world)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    try:
        found = play_all(preset, out, args.workers)
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what is done is in {out}. The same line goes on.") from None
    cells = itertools.product(HEADS, preset.cases)
    rows = [row for one in cells for row in case_rows(*one, found[(*one, False)], found[(*one, True)])]
    print(table(HEADER, rows))
    if args.preset == "full":
        figures = {f"{head} {case} {'on' if on else 'off'}": played for (head, case, on), played in found.items()}
        write_report("guidance", figures, HEADER, rows, datetime.date.today().isoformat())


if __name__ == "__main__":
    main()

"""Watch a G1 learn online: it reaches for balls, a shoulder breaks, it adapts without labels and keeps what it knew.

    python agents/self_learn.py                      # one seed, about 12 minutes on two cores
    python agents/self_learn.py --preset tiny        # under two minutes
    python agents/self_learn.py --preset full        # three seeds, 100 episodes a cell: the table in RESULTS.md
    python agents/self_learn.py --preset benchmark   # the long life of benchmarks/forgetting.py; goes on where it was
    python agents/self_learn.py --resume             # go on after Ctrl-C; without it a run begins anew, in OUT's place
    python agents/self_learn.py --fault-joint left_elbow_joint --fault-bias 0.3
    python agents/self_learn.py --explain            # and say in words what was learned, protected and rolled back
    python agents/self_learn.py --page               # and show robot, camera, LiDAR and plots on http://127.0.0.1:8080
    python agents/self_learn.py --drift --adoption   # learn only once a change is noticed; check every update
    tensorboard --logdir runs/self_learn

Arms: frozen (never learns), naive (learns, no protection), ewc (learns, protected by EWC), lr0 (the whole cycle with
learning rate 0: must show no gain), and the ceiling (trained with labels on both robots together).
Each life is a row that moves on a terminal, and a line for each phase elsewhere. Writes OUT/table.md,
OUT/results.json, OUT/self_learn.png and OUT/self_learn.mp4; OUT is runs/self_learn, or runs/self_learn_PRESET.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from tqdm import tqdm

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.evaluate import EVALUATION_SEED, EvaluationJob, evaluate
from neon_sim.eval.explain import explain_lives
from neon_sim.eval.learner_watch import LifeRecord
from neon_sim.eval.live_page import PageFeed, Progress, ServedPage, serve_page
from neon_sim.eval.live_table import HEADER, LiveLine, format_row, phase_rows, scalars_of
from neon_sim.eval.self_learning import Cell, pool_cells, record_video, write_report
from neon_sim.eval.watched_life import live_watched, open_life
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.names import nearest
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.shipped import asset_path, walker_fingerprint
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.ceiling import record_both, train_jointly
from neon_sim.training.drift import DriftConfig
from neon_sim.training.online import LifeConfig, LifeEpisode, load_forward_model
from neon_sim.training.protection import NoneConfig, OnlineEWCConfig, ProtectionConfig
from neon_sim.training.run_folder import begin_folder
from neon_sim.training.self_learner import SelfLearnerConfig
from neon_sim.training.workers import cpu_count, parallel_map

ENV = {"task": "reach", "physics_dt": 0.005, "sensors": ("proprio", "camera"), "camera": CameraConfig(rate_hz=12.5)}
FAULT = ActuatorFault("right_shoulder_pitch_joint", strength=0.7, bias=0.25)
LEARNING_ARMS = ("naive", "ewc", "lr0")
ARMS = ("frozen", *LEARNING_ARMS, "ceiling")


@dataclass(frozen=True)
class Preset:
    """How long the run is."""

    seeds: tuple[int, ...] = (0,)
    life: LifeConfig = field(default_factory=lambda: LifeConfig(healthy_episodes=30, faulty_episodes=100, fault=FAULT))
    learner: SelfLearnerConfig = SelfLearnerConfig(practice_noise_m=0.04)
    protection: ProtectionConfig = OnlineEWCConfig()  # of the arm ewc
    drift: DriftConfig = DriftConfig()  # with --drift
    ceiling_episodes: int = 200
    evaluation_episodes: int = 40


PRESETS = {
    "default": Preset(),
    "tiny": Preset(
        life=LifeConfig(healthy_episodes=6, faulty_episodes=10, fault=FAULT),
        learner=SelfLearnerConfig(practice_noise_m=0.04, batch_size=16, updates_per_chunk=2),
        drift=DriftConfig(baseline=4),  # what is usual must be known before the robot breaks
        ceiling_episodes=8,
        evaluation_episodes=4,
    ),
    "full": Preset(seeds=(0, 1, 2), evaluation_episodes=100),
}


BENCHMARK = "benchmark"  # a preset of benchmarks/forgetting.py
FORGETTING = Path(__file__).resolve().parents[1] / "benchmarks" / "forgetting.py"


@dataclass(frozen=True)
class ArmJob:
    """One arm's life with one seed."""

    arm: str
    seed: int
    position: int  # of its row
    preset: Preset
    policy: str
    folder: Path

    @property
    def label(self) -> str:
        """What it is called in tables."""
        return f"{self.arm}, seed {self.seed}"


def learner_config(preset: Preset, arm: str, seed: int) -> SelfLearnerConfig:
    """What makes the arms differ, and nothing else."""
    protection = preset.protection if arm == "ewc" else NoneConfig()
    config = replace(preset.learner, seed=seed, protection=protection)
    return replace(config, learning_rate=0.0) if arm == "lr0" else config


_page: dict[str, Any] = {}  # label of the life that is shown -> queue to its page; set in each worker


def connect_page(label: str, messages: Any) -> None:
    """Tell this worker which life is shown, and where."""
    _page[label] = messages


def run_arm(job: ArmJob) -> list[LifeEpisode]:
    """Live through one arm's episodes, with a row that moves, TensorBoard, and the page if it is the one shown."""
    from torch.utils.tensorboard import SummaryWriter

    torch.set_num_threads(1)
    env = gymnasium.make("NeonG1-v0", disable_env_checker=True, **ENV).unwrapped
    if job.arm == "ceiling":
        return _run_ceiling(job, env)
    life = job.preset.life
    writer = SummaryWriter(str(job.folder / "tensorboard"))
    total = life.healthy_episodes + life.faulty_episodes
    moving = sys.stdout.isatty()
    with tqdm(total=total, bar_format="{desc}", position=job.position, leave=False, disable=not moving) as row:

        def on_episode(lines: list[LiveLine]) -> None:
            row.set_description_str(format_row(job.label, lines, total))
            if len(lines) in (life.healthy_episodes, total) and not moving:
                print(format_row(job.label, lines, total), flush=True)
            for name, value in scalars_of(lines[-1]).items():
                writer.add_scalar(name, value, lines[-1].curve.episode)
            if isinstance(policy, PageFeed):
                policy.send(Progress(job.label, lines[-1]), wait_s=10.0)

        config = learner_config(job.preset, job.arm, job.seed)
        learner, watch = open_life(Path(job.policy), config, job.folder, job.arm)
        policy = shown(env, learner.policy, job)
        record = live_watched(env, watch, life, job.folder, policy, on_episode)
    writer.close()
    env.close()
    return [line.curve for line in record.lines]


def shown(env: Any, policy: Any, job: ArmJob) -> Any:
    """The policy itself, or one that also feeds the page if this life is the one that is shown."""
    if job.label not in _page:
        return policy
    lidar, data = LidarConfig().build(env.world.model), env.world.data
    lidar.reset(np.random.default_rng(job.seed))  # its own: the env's sensors draw what they would have drawn

    def scan() -> np.ndarray:
        points = lidar.capture(data, float(data.time)).reshape(-1, 3)
        torso = data.body(lidar.config.frame_body)
        return (points[np.abs(points).max(axis=1) > 0.0] @ torso.xmat.reshape(3, 3).T + torso.xpos).astype(np.float32)

    return PageFeed(env, policy, _page[job.label], scan)


def _run_ceiling(job: ArmJob, env: Any) -> list[LifeEpisode]:
    if not (job.folder / "policy" / "config.json").exists():
        model = NeonVLA.from_pretrained(job.policy)
        data = record_both(env, model, job.preset.life.fault, job.preset.ceiling_episodes, job.seed)
        train_jointly(model, data, job.seed)
        model.save_pretrained(job.folder / "policy")
    return []


def evaluation_jobs(preset: Preset, policy: str, out: Path) -> list[EvaluationJob]:
    """Every arm on the healthy and on the faulty robot, on seeds that no life has seen."""
    jobs = []
    for seed in preset.seeds:
        first = EVALUATION_SEED + 1_000 * (seed + 1)
        seeds = tuple(range(first, first + preset.evaluation_episodes))
        for arm in ARMS:
            folder = policy if arm == "frozen" else str(out / f"{arm}_{seed}" / "policy")
            for robot, fault in (("healthy", None), ("faulty", preset.life.fault)):
                jobs.append(EvaluationJob(f"{arm}/{seed}/{robot}", folder, seeds, fault=fault, env=ENV))
    return jobs


def benchmark_command(args: argparse.Namespace) -> list[str]:
    """The command that runs the forgetting benchmark with what was asked for.

    Raises:
        SystemExit: something was asked for that the benchmark has no use for.
    """
    if (args.fault_joint, args.fault_strength, args.fault_bias) != (FAULT.joint, FAULT.strength, FAULT.bias):
        raise SystemExit("--preset benchmark brings the regimes of neon_sim/eval/regimes.py: leave --fault-* out.")
    idle = [f"--{name}" for name in ("drift", "adoption", "explain", "page", "resume") if getattr(args, name)]
    if idle:
        raise SystemExit(
            f"--preset benchmark compares its own arms, shows nothing meanwhile and always goes on where it was: leave"
            f" {', '.join(idle)} out."
        )
    policy = [] if args.policy is None else ["--policy", args.policy]  # with it, nothing is written into RESULTS.md
    out = [] if args.out is None else ["--out", str(args.out)]
    flags = ["--preset", BENCHMARK, "--workers", str(args.workers), *policy, *out]
    return [sys.executable, str(FORGETTING), *flags]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join((*PRESETS, BENCHMARK))}")
    parser.add_argument("--policy", help="folder of the checkpoint to begin with; default: the shipped heads")
    parser.add_argument("--out", type=Path, help="default: as above, or as benchmarks/forgetting.py has it")
    parser.add_argument("--fault-joint", default=FAULT.joint)
    parser.add_argument("--fault-strength", type=float, default=FAULT.strength, help="share of the motor that is left")
    parser.add_argument("--fault-bias", type=float, default=FAULT.bias, help="rad beside every target")
    parser.add_argument("--drift", action="store_true", help="learn only while the forward model says that it is due")
    parser.add_argument("--adoption", action="store_true", help="check every update on held-back experience")
    parser.add_argument("--explain", action="store_true", help="say what happened in words at the end")
    parser.add_argument("--page", type=int, nargs="?", const=8080, metavar="PORT", help="show the life of ewc live")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--workers", type=int, default=cpu_count())
    return parser.parse_args()


def chosen_preset(args: argparse.Namespace) -> Preset:
    """The preset with the flags put in.

    Raises:
        SystemExit: no such preset, naming the nearest, or a fault that cannot be.
    """
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, (*PRESETS, BENCHMARK))))
    try:
        fault = ActuatorFault(args.fault_joint, args.fault_strength, args.fault_bias)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    preset = PRESETS[args.preset]
    learner = replace(
        preset.learner,
        drift=preset.drift if args.drift else None,
        adoption=AdoptionConfig() if args.adoption else None,
    )
    return replace(preset, life=replace(preset.life, fault=fault), learner=learner)


def main() -> None:
    """Live, evaluate, report."""
    args = parse()
    if args.preset == BENCHMARK:
        raise SystemExit(subprocess.run(benchmark_command(args), check=False).returncode)
    preset = chosen_preset(args)
    args.policy = args.policy or str(asset_path("g1/demo_heads"))
    args.out = args.out or Path("runs") / ("self_learn" if args.preset == "default" else f"self_learn_{args.preset}")
    settings = {"preset": args.preset, "policy": args.policy, "settings": repr(preset)}
    settings |= {"walker": walker_fingerprint()}
    try:
        model = NeonVLA.from_pretrained(args.policy)
        load_forward_model(model, Path(args.policy))  # now, and not in a worker when an earlier run is gone
        with serve_page(args.page, f"ewc, seed {preset.seeds[0]}") as served:
            begin_folder(args.out, args.resume, json.dumps(settings) + "\n")  # clears nothing if there can be no page
            run(preset, args.policy, args.out, args.workers, served)
            if args.explain:
                print(explain_all(preset, args.out))
            if served is not None and sys.stdin.isatty():
                input(f"The page stays on {served.page.address} until you press Enter. ")
    except (ValueError, OSError, ChildProcessError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was learned is in {args.out}. Go on with --resume.") from None


def explain_all(preset: Preset, out: Path) -> str:
    """Every life in words, then what frozen copies of each arm are worth."""
    cells = json.loads((out / "results.json").read_text())["cells"]
    judged = {arm: (Cell(**cells[f"{arm} healthy"]), Cell(**cells[f"{arm} faulty"])) for arm in ARMS}
    return explain_lives(read_records(preset, out), judged, LEARNING_ARMS)


def read_records(preset: Preset, out: Path) -> list[LifeRecord]:
    """What each life has left."""
    folders = [out / f"{arm}_{seed}" for seed in preset.seeds for arm in LEARNING_ARMS]
    return [LifeRecord.from_json((folder / "life.json").read_text()) for folder in folders]


def run(preset: Preset, policy: str, out: Path, workers: int, served: ServedPage | None = None) -> None:
    """The whole experiment into `out`."""
    work = [(arm, seed) for seed in preset.seeds for arm in (*LEARNING_ARMS, "ceiling")]
    jobs = [ArmJob(arm, seed, i + 1, preset, policy, out / f"{arm}_{seed}") for i, (arm, seed) in enumerate(work)]
    print(HEADER, flush=True)
    connect = (None, ()) if served is None else (connect_page, (served.label, served.messages))
    curves = dict(zip(work, parallel_map(run_arm, jobs, workers, "lives", *connect), strict=True))
    if sys.stdout.isatty():  # the rows that moved are gone
        total = preset.life.healthy_episodes + preset.life.faulty_episodes
        for record in read_records(preset, out):
            print("\n".join(phase_rows(f"{record.arm}, seed {record.seed}", record.lines, total)))
    results = evaluate(evaluation_jobs(preset, policy, out), workers)
    table = write_report(out, pool_cells(results, ARMS, preset.seeds), curves, ARMS, preset)
    pair = (policy, str(out / f"ewc_{preset.seeds[0]}" / "policy"))
    if served is not None:
        served.page.show_report(out / "self_learn.png", table)
    record_video(pair, preset.life.fault, ENV, out / "self_learn.mp4")
    print(f"\n{table}\nWrote table.md, results.json, self_learn.png and self_learn.mp4 to {out}")


if __name__ == "__main__":
    main()

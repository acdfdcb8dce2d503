"""Pretrain the action layer: on scripted reaches that it records itself, or with one of 24 presets on a data soup.

    python agents/pretrain.py                     # the shipped demo heads: about 20 minutes on two cores
    python agents/pretrain.py --preset tiny       # two minutes, prints the same figures
    python agents/pretrain.py --out runs/heads    # stop with Ctrl-C, run the same line to go on
    python agents/pretrain.py --list              # the 24 presets, with their sizes
    python agents/pretrain.py --preset compact_reach   # one of them, 12 minutes on two idle cores;
                                                       # scripts/train_neon.py has more flags
    python agents/pretrain.py --preset multitask_state    # one policy for all tasks without walking: 22 minutes on one
                                                          # core; with the camera (--preset multitask) 84 on two
    python agents/pretrain.py --preset multitask_state --tasks reach   # one for one of them, to compare with: an eighth
                                                                       # of the steps, as that task has in all of them
    python agents/pretrain.py --preset multitask_state --tasks reach --data runs/planned --successes-only  # a planner
    python agents/pretrain.py --preset compact_tasks --soup mixture.json --skip-bad   # other data than the preset's
    python agents/pretrain.py --preset compact_reach --teacher runs/large/best        # distillation

A preset's data set that is no folder here, and whose name is OWNER/NAME, is fetched from the hub.

Writes OUT/policy (a checkpoint for NeonVLA.from_pretrained), OUT/history.json and OUT/loss.png; a preset writes what
`neon_sim.training.train.NeonTrainer` says.
"""

import argparse
import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.neon_vla import NeonConfig, NeonVLA
from neon_sim.model.video_backbone import BackboneConfig
from neon_sim.names import nearest
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.config import MULTITASK
from neon_sim.training.config import PRESETS as TRAINING_PRESETS
from neon_sim.training.demos import DemoConfig, Demos, record_demo, save_rows
from neon_sim.training.flags import add_data_flags, add_teacher_flags, put_in, told_lines, with_data
from neon_sim.training.forward_model import pretrain_forward_model
from neon_sim.training.heads import HeadTrainer, HeadTraining
from neon_sim.training.multitask import STANDING, share_of_steps
from neon_sim.training.online import save_forward_model
from neon_sim.training.preset_table import preset_table
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig
from neon_sim.training.workers import cpu_count, parallel_map


@dataclass(frozen=True)
class Pretraining:
    """How many episodes and how long."""

    episodes: int = 3000
    training: HeadTraining = HeadTraining()
    slack_share: float = 0.5  # episodes in which one arm motor is slightly off
    slack_rad: float = 0.06
    seed: int = 0


PRESETS = {
    "default": Pretraining(),
    "tiny": Pretraining(episodes=60, training=HeadTraining(epochs=6, batch_size=64)),
}
SHARD = 40  # episodes in one file
SELF_LEARNING_SENSES = ("proprio", "eef")  # what agents/self_learn.py looks at beside the camera
_WORKER: dict[str, Any] = {}


def open_worker(backbone_weights: str | None, preset: Pretraining) -> None:
    """One simulator and one pair of eyes a worker."""
    torch.set_num_threads(1)
    _WORKER["preset"] = preset
    _WORKER["env"] = gymnasium.make(
        "NeonG1-v0", task="reach", physics_dt=0.005, camera=CameraConfig(rate_hz=12.5), disable_env_checker=True
    )
    _WORKER["policy"] = NeonPolicy(NeonVLA(NeonConfig(backbone=BackboneConfig(weights=backbone_weights))))


def slack(preset: Pretraining, seed: int) -> ActuatorFault | None:
    """A small bias in one arm motor, in some episodes: no two real motors are alike."""
    rng = np.random.default_rng([seed, 7])
    if rng.random() >= preset.slack_share:
        return None
    names = _WORKER["env"].unwrapped.action_map.names[:14]
    joint = names[int(rng.integers(len(names)))]
    return ActuatorFault(joint, float(rng.uniform(0.9, 1.0)), float(rng.uniform(-1, 1)) * preset.slack_rad)


def record_shard(job: tuple[str, int, int]) -> tuple[int, int]:
    """Record consecutive seeds into one file; returns episodes and successes (0, 0 when the file was there)."""
    path, first, count = job
    if Path(path).exists():
        return 0, 0
    rows, successes = [], 0
    for seed in range(first, first + count):
        _WORKER["env"].unwrapped.world.apply_fault(slack(_WORKER["preset"], seed))
        episode, success = record_demo(_WORKER["env"], _WORKER["policy"], DemoConfig(), seed)
        rows += episode
        successes += success
    save_rows(rows, Path(path))
    return count, successes


def collect(folder: Path, preset: Pretraining, workers: int, backbone_weights: str | None) -> list[Path]:
    """Make sure that a folder holds the preset's episodes."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, preset.episodes, SHARD)
    first = 3_000_000 + preset.seed
    jobs = [(str(folder / f"demos_{i:06d}.npz"), first + i, min(SHARD, preset.episodes - i)) for i in starts]
    initargs = (backbone_weights, preset)
    counts = list(parallel_map(record_shard, jobs, workers, "recording demonstrations", open_worker, initargs))
    recorded, reached = (sum(column) for column in zip(*counts, strict=True))
    if recorded:
        print(f"{recorded} new demonstrations, {reached} reached the ball while being disturbed")
    return [Path(path) for path, *_ in jobs]


def story_of(name: str, preset: Pretraining, training: HeadTraining, history: list[dict[str, float]]) -> dict[str, Any]:
    """What the model card says about how the weights were made."""
    first = 3_000_000 + preset.seed
    return {
        "command": f"python agents/pretrain.py --preset {name}",
        "data": f"{preset.episodes} disturbed expert episodes of reach, seeds {first} on",
        "hours": round(sum(line["seconds"] for line in history) / 3600.0, 3),
        **asdict(training),
    }


def plot_history(history: list[dict[str, float]], path: Path) -> None:
    """Loss and goal error over epochs."""
    from neon_sim.eval.plots import line_plot

    epochs = [h["epoch"] for h in history]
    curves = {
        "chunk MSE, true goal": [h["mse_true_goal"] for h in history],
        "chunk MSE, goal read from the clip": [h["mse_read_goal"] for h in history],
    }
    line_plot(path, epochs, curves, "epoch", "MSE on held-back episodes (action units squared)", log_y=True)


def preset_config(args: argparse.Namespace) -> TrainConfig:
    """One of the 24, or a multi-task one with its tasks and its data, with the given flags put in.

    Raises:
        ValueError: a task that needs walking or does not exist, tasks for a preset that has none, or a soup that makes
            no sense.
        FileNotFoundError: no such soup file.
    """
    chosen = {name: value for name in ("tasks", "data") if (value := getattr(args, name)) is not None}
    if args.preset in MULTITASK:
        config = MULTITASK[args.preset](**chosen)
    elif chosen:
        raise ValueError(f"--tasks and --data go with {' and '.join(MULTITASK)}, not with {args.preset}.")
    else:
        config = TRAINING_PRESETS[args.preset]()
    put_in(config, args)
    config.output_dir = str(args.out or config.output_dir)
    config.epochs = config.epochs if args.epochs is None else args.epochs
    if args.tasks and not args.soup:
        whole = MULTITASK[args.preset](**{name: value for name, value in chosen.items() if name != "tasks"})
        put_in(whole, args)
        config.max_steps = share_of_steps(config, whole, int(os.environ.get("WORLD_SIZE", "1")))
        if config.max_steps is None and len(args.tasks) < len(STANDING):
            print("Trains for epochs of its own data: how long all tasks are trained, their recordings would say.")
    return config


def train_preset(args: argparse.Namespace) -> None:
    """Train one of the 24, or a multi-task one."""
    try:
        config = with_data(preset_config(args))
        trainer = NeonTrainer(config)
        stats = trainer.train()
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("Stopped; the same line goes on.") from None
    if trainer.team.leads:
        print(told_lines(stats, config.folder / "best"))


def main() -> None:
    """Collect, train, save, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}, or of --list")
    parser.add_argument("--list", action="store_true", help="print the 24 presets as a table, and stop")
    parser.add_argument("--out", type=Path, help="default: runs/pretrain, or the preset's own folder")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--backbone-weights", help="folder of a compact backbone (default: the shipped one)")
    parser.add_argument("--epochs", type=int, help="in place of the preset's")
    parser.add_argument("--tasks", nargs="+", help=f"of {' and '.join(MULTITASK)}; default: all without walking")
    parser.add_argument("--data", help="folder of their recordings; default: where the preset says")
    add_data_flags(parser, dataset=False)
    add_teacher_flags(parser)
    args = parser.parse_args()
    if args.list:
        print(preset_table())
        print(f"Beside them: {', '.join(MULTITASK)}, on what agents/collect.py --task standing recorded.")
        return
    if args.preset in (*TRAINING_PRESETS, *MULTITASK):
        train_preset(args)
        return
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, (*PRESETS, *TRAINING_PRESETS, *MULTITASK))))
    theirs = ("soup", "skip_bad", "teacher", "successes_only", "num_workers")
    if given := [f"--{name.replace('_', '-')}" for name in theirs if getattr(args, name)]:
        raise SystemExit(f"{' and '.join(given)} go with the presets of --list, not with {args.preset}.")
    preset = PRESETS[args.preset]
    args.out = args.out or Path("runs/pretrain")
    if args.epochs is not None and args.epochs < 1:
        raise SystemExit(f"--epochs wants at least 1, got {args.epochs}.")
    training = preset.training if args.epochs is None else replace(preset.training, epochs=args.epochs)
    weights = args.backbone_weights or asset_path("g1/compact_backbone")
    backbone_hash = hashlib.sha256((Path(weights) / "backbone.safetensors").read_bytes()).hexdigest()
    try:
        claim_folder(args.out, {"preset": args.preset, "epochs": training.epochs, "backbone": backbone_hash})
    except ValueError as error:
        raise SystemExit(str(error)) from None
    demos = Demos.load(collect(args.out / "demos", preset, args.workers, args.backbone_weights))

    torch.manual_seed(preset.seed)
    model = NeonVLA(NeonConfig(backbone=BackboneConfig(weights=args.backbone_weights)))
    trainer = HeadTrainer(model, demos, training)
    state_path = args.out / "state.pt"
    if state_path.exists():
        trainer.load_state_dict(torch.load(state_path, weights_only=True))

    def after_epoch(figures: dict[str, float]) -> None:
        print("  ".join(f"{name} {value:.5g}" for name, value in figures.items()), flush=True)
        torch.save(trainer.state_dict(), state_path.with_suffix(".partial"))
        state_path.with_suffix(".partial").replace(state_path)

    history = trainer.run(after_epoch)
    model.save_pretrained(args.out / "policy", training=story_of(args.preset, preset, training, history))
    forward_model, share = pretrain_forward_model(model, demos, SELF_LEARNING_SENSES, preset.seed)
    save_forward_model(forward_model, args.out / "policy")
    print(f"forward model: {100 * share:.1f} % of the error of predicting no change")
    (args.out / "history.json").write_text(json.dumps(history, indent=2) + "\n")
    plot_history(history, args.out / "loss.png")
    print(f"Wrote {args.out / 'policy'} and {args.out / 'loss.png'}")


if __name__ == "__main__":
    main()

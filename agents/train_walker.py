"""Train the walker: the base gait's gains by cross-entropy search, then a policy on top of it by PPO.

    python agents/train_walker.py                       # the whole run: about three hours on two cores
    python agents/train_walker.py --preset tiny         # two minutes, shows learning
    python agents/train_walker.py --out runs/walker     # stopped? The same command goes on exactly where it was

Writes OUT/walker.npz (the walker), OUT/checkpoint.pt, OUT/log.jsonl and TensorBoard events.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, by numpy: the cores belong to the physics threads

import numpy as np
import torch
from tqdm import tqdm

from neon_sim.locomotion.network import save_weights
from neon_sim.locomotion.stepper import ACTION_SIZE, CONTROL_DT, OBSERVATION_SIZE
from neon_sim.names import nearest
from neon_sim.training.ppo import PPOConfig
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.walker_run import WalkerRun
from neon_sim.walking.calibration import CalibrationConfig, calibrate
from neon_sim.walking.critic import CRITIC_SIZE
from neon_sim.walking.curriculum import COURSE, Stage, difficulty_at
from neon_sim.walking.gain_search import SearchConfig, search_gains
from neon_sim.walking.world import Tally, WalkConfig, WalkWorld

SIZES = (OBSERVATION_SIZE, CRITIC_SIZE, ACTION_SIZE)


@dataclass(frozen=True)
class Settling:
    """The end of a training: it explores less and steps more carefully, as the walker that is shipped will."""

    from_m: float = 25.0  # million control steps
    to_m: float = 62.0
    std: tuple[float, float] = (0.3, 0.15)  # upper bound of the exploration, before and after
    target_kl: float = 1.0 / 3.0  # of PPO's own, after; the entropy bonus is gone by then


@dataclass(frozen=True)
class TrainConfig:
    """One training."""

    steps_m: float = 75.0  # million control steps of all robots together
    horizon: int = 24
    seed: int = 0
    save_every_s: float = 180.0
    search: SearchConfig = field(default_factory=SearchConfig)
    world: WalkConfig = field(default_factory=WalkConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    course: tuple[Stage, ...] = COURSE
    settling: Settling = field(default_factory=Settling)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)


PRESETS = {
    "default": TrainConfig(),
    "tiny": TrainConfig(
        steps_m=0.4,
        search=SearchConfig(candidates=96, generations=3),
        world=WalkConfig(count=64, models=8),
        course=((0.0, COURSE[0][1]),),
        calibration=CalibrationConfig(commands=3, robots=4, settle_s=1.0, seconds=2.0),
    ),
}


def find_gains(config: TrainConfig, folder: Path) -> np.ndarray:
    """The base gait's gains, from the folder if they were found before."""
    path = folder / "gains.npy"
    if path.exists():
        return np.load(path)
    with tqdm(total=config.search.generations, desc="base gait") as bar:

        def report(generation: int, score: float, upright_s: float) -> None:
            bar.update()
            bar.set_postfix_str(f"score {score:.2f}, upright {upright_s:.1f} s")

        gains = search_gains(config.search, config.world, config.seed, report)
    np.save(path, gains)
    return gains


def ppo_at(config: TrainConfig, steps_m: float) -> PPOConfig:
    """PPO's settings after so many million steps."""
    settling = config.settling
    share = float(np.interp(steps_m, (settling.from_m, settling.to_m), (0.0, 1.0)))
    if share == 0.0:
        return config.ppo
    low, _ = config.ppo.std_range
    high = settling.std[0] * (settling.std[1] / settling.std[0]) ** share
    return replace(
        config.ppo,
        entropy=config.ppo.entropy * (1.0 - share),
        target_kl=config.ppo.target_kl * settling.target_kl**share,
        std_range=(min(low, high), high),
    )


def train(config: TrainConfig, folder: Path) -> WalkerRun:
    """Search, then learn until the steps are done; saves as it goes, and goes on from what the folder holds."""
    from torch.utils.tensorboard import SummaryWriter

    gains = find_gains(config, folder)
    world = WalkWorld(config.world, gains, config.seed)
    run = WalkerRun(world, SIZES, config.ppo, config.horizon, config.seed)
    hours = resume(run, folder)
    world.tally = Tally()  # what is collected anew was counted before
    writer = SummaryWriter(str(folder), purge_step=run.steps)
    total = round(config.steps_m * 1e6)
    began = saved = time.monotonic()
    with tqdm(total=total, initial=run.steps, unit="step", unit_scale=True, desc="policy", smoothing=0.05) as bar:
        while run.steps < total:
            world.difficulty = difficulty_at(config.course, run.steps / 1e6)
            run.configure(ppo_at(config, run.steps / 1e6))
            before = run.steps
            logged = run.iterate() | episode_figures(world)
            bar.update(run.steps - before)
            log(folder, writer, run.steps, logged | {"punch": world.difficulty.punch})
            bar.set_postfix_str(f"falls/min {logged['falls_per_min']:.2f}, reward {logged['reward']:.3f}")
            now = time.monotonic()
            if now - saved > config.save_every_s or run.steps >= total:
                save(run, folder, config, gains, hours + (now - began) / 3600.0)
                saved = now
    writer.close()
    world.close()
    hours = float(json.loads((folder / "hours.json").read_text()))
    finish(run, folder, config, gains, hours)
    return run


def save(run: WalkerRun, folder: Path, config: TrainConfig, gains: np.ndarray, hours: float) -> None:
    """What `resume` needs, and the walker as it is now."""
    (folder / "hours.json").write_text(json.dumps(hours))
    run.save(folder / "checkpoint.pt")
    save_weights(folder / "walker.npz", run.export(gains, provenance(config, run.steps, hours)))


def finish(run: WalkerRun, folder: Path, config: TrainConfig, gains: np.ndarray, hours: float) -> None:
    """Measure how fast the walker goes for each command, and write it with that table."""
    print("measuring how fast it goes for each command")
    weights = run.export(gains, provenance(config, run.steps, hours))
    weights = calibrate(weights, config.calibration, config.world, config.course[-1][1], config.seed)
    save_weights(folder / "walker.npz", weights)


def resume(run: WalkerRun, folder: Path) -> float:
    """Go on from the folder's checkpoint if it has one; returns the hours spent so far. What was logged later goes."""
    if not (folder / "checkpoint.pt").exists():
        return 0.0
    run.load(folder / "checkpoint.pt")
    path = folder / "log.jsonl"
    kept = [line for line in path.read_text().splitlines(keepends=True) if json.loads(line)["steps"] <= run.steps]
    path.write_text("".join(kept))
    return float(json.loads((folder / "hours.json").read_text()))


def episode_figures(world: WalkWorld) -> dict[str, float]:
    """Falls per robot-minute and the mean of each reward term since the last call."""
    tally, world.tally = world.tally, Tally()
    terms = {f"term/{name}": total / tally.steps for name, total in tally.terms.items()}
    falls = tally.falls / (world.config.count * tally.steps * CONTROL_DT / 60.0)
    return terms | {"falls_per_min": falls, "falls_per_punch": tally.punched_falls / max(tally.punches, 1)}


def log(folder: Path, writer: Any, steps: int, figures: dict[str, float]) -> None:
    """One line in log.jsonl, and one point per figure with TensorBoard's SummaryWriter."""
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps({"steps": steps, **{name: round(value, 6) for name, value in figures.items()}}) + "\n")
    for name, value in figures.items():
        writer.add_scalar(name, value, steps)


def provenance(config: TrainConfig, steps: int, hours: float) -> str:
    """What the weights' file says of itself."""
    machine = f"{platform.machine()}, {config.world.threads} physics threads, torch {torch.__version__} on the CPU"
    return f"agents/train_walker.py, seed {config.seed}, {steps / 1e6:.1f} M control steps, {hours:.2f} h, {machine}"


def main() -> None:
    """Parse, claim the folder, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--out", type=Path, default=None, help="default: runs/walker, runs/walker_tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps-m", type=float, default=None, help="million control steps")
    args = parser.parse_args()
    if args.preset not in PRESETS:
        raise SystemExit(str(nearest("preset", args.preset, PRESETS)))
    config = replace(PRESETS[args.preset], seed=args.seed)
    if args.steps_m is not None:
        config = replace(config, steps_m=args.steps_m)
    folder = args.out or Path("runs") / ("walker" if args.preset == "default" else f"walker_{args.preset}")
    settings = asdict(config)
    settings.pop("steps_m")  # a longer run of the same kind may go on
    try:
        claim_folder(folder, settings)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    torch.set_num_threads(1)
    train(config, folder)


if __name__ == "__main__":
    main()

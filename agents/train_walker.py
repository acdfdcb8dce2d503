"""Train the walker: the base gait's gains by cross-entropy search, then a policy on top of it by PPO.

    python agents/train_walker.py                       # the whole run: two and a half to four hours on two cores
    python agents/train_walker.py --preset tiny         # two minutes, shows learning
    python agents/train_walker.py --out runs/walker     # stopped? The same command goes on exactly where it was

Ctrl-C ends the iteration, saves and stops. Writes OUT/walker.npz (the walker), OUT/checkpoint.pt, OUT/hours.json (what
all of it took so far), OUT/log.jsonl and TensorBoard events.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import closing
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
from neon_sim.training.interrupt import Interrupt, deferred_interrupt
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
    """The end of a training: it explores less and steps more carefully, as the walker that is shipped will.

    It begins late, as in the run whose walker is shipped: falls after a punch were 0.11 at 65 million steps there, and
    0.09 at 88. What else was tried, and with which rewards, is in assets/g1/PROVENANCE.md.
    """

    from_m: float = 65.0  # million control steps
    to_m: float = 85.0
    std: tuple[float, float] = (0.3, 0.15)  # upper bound of the exploration, before and after
    target_kl: float = 1.0 / 3.0  # of PPO's own, after; the entropy bonus is gone by then


@dataclass(frozen=True)
class TrainConfig:
    """One training."""

    steps_m: float = 90.0  # million control steps of all robots together
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
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.save(file, gains)
    os.replace(partial, path)
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


class Hours:
    """How long a folder's training took so far: this command, and what the folder says of those before it."""

    def __init__(self, folder: Path) -> None:
        self._path, self._began = folder / "hours.json", time.monotonic()
        self._before = float(json.loads(self._path.read_text())) if self._path.exists() else 0.0

    def now(self) -> float:
        """Hours up to this moment."""
        return self._before + (time.monotonic() - self._began) / 3600.0

    def write(self) -> None:
        """Keep them for the command that goes on."""
        write_whole(self._path, json.dumps(self.now()))


def train(config: TrainConfig, folder: Path) -> bool:
    """Search, then learn until the steps are done; saves as it goes, and goes on from what the folder holds.

    Returns False after Ctrl-C or SIGTERM, with everything saved.
    """
    hours = Hours(folder)
    gains = find_gains(config, folder)
    if not (folder / "checkpoint.pt").exists():
        hours.write()  # of the search
    with closing(WalkWorld(config.world, gains, config.seed)) as world, deferred_interrupt() as interrupt:
        run = WalkerRun(world, SIZES, config.ppo, config.horizon, config.seed)
        resume(run, folder)
        world.tally = Tally()  # what is collected anew was counted before
        learn(run, world, config, folder, lambda: save(run, folder, config, gains, hours), interrupt)
    if interrupt.asked:
        return False
    finish(run, folder, config, gains, hours)
    return True


def learn(
    run: WalkerRun,
    world: WalkWorld,
    config: TrainConfig,
    folder: Path,
    keep: Callable[[], None],
    interrupt: Interrupt,
) -> None:
    """Iterate until the steps are done or somebody asks for the end; calls `keep` as it goes and when it ends."""
    from torch.utils.tensorboard import SummaryWriter

    total, kept_steps, kept_s = round(config.steps_m * 1e6), run.steps, time.monotonic()
    bar = tqdm(total=total, initial=run.steps, unit="step", unit_scale=True, desc="policy", smoothing=0.05)
    with bar, closing(SummaryWriter(str(folder), purge_step=run.steps)) as writer:
        while run.steps < total and not interrupt.asked:
            world.difficulty = difficulty_at(config.course, run.steps / 1e6)
            run.configure(ppo_at(config, run.steps / 1e6))
            before = run.steps
            logged = run.iterate() | episode_figures(world)
            bar.update(run.steps - before)
            log(folder, writer, run.steps, logged | {"punch": world.difficulty.punch})
            bar.set_postfix_str(f"falls/min {logged['falls_per_min']:.2f}, reward {logged['reward']:.3f}")
            if time.monotonic() - kept_s > config.save_every_s:
                keep()
                kept_steps, kept_s = run.steps, time.monotonic()
    if run.steps > kept_steps:
        keep()


def save(run: WalkerRun, folder: Path, config: TrainConfig, gains: np.ndarray, hours: Hours) -> None:
    """What `resume` needs, and the walker as it is now."""
    hours.write()
    run.save(folder / "checkpoint.pt")
    save_weights(folder / "walker.npz", run.export(gains, provenance(config, run.steps, hours.now())))


def finish(run: WalkerRun, folder: Path, config: TrainConfig, gains: np.ndarray, hours: Hours) -> None:
    """Measure how fast the walker goes for each command, and write it with that table."""
    print("measuring how fast it goes for each command")
    weights = calibrate(run.export(gains, ""), config.calibration, config.world, config.course[-1][1], config.seed)
    weights = replace(weights, note=provenance(config, run.steps, hours.now()))
    save_weights(folder / "walker.npz", weights)


def resume(run: WalkerRun, folder: Path) -> None:
    """Go on from the folder's checkpoint if it has one. What was logged later goes, and a line that was cut short."""
    if not (folder / "checkpoint.pt").exists():
        return
    run.load(folder / "checkpoint.pt")
    path = folder / "log.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["steps"] <= run.steps]
    write_whole(path, "".join(kept))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that who is killed meanwhile leaves the old text or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


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
    try:
        done = train(config, folder)
    except KeyboardInterrupt:  # of the search for gains, which begins anew, or of the measurement at the end
        done = False
    if not done:
        raise SystemExit(f"\nStopped; what was learned is in {folder}. The same command goes on.")


if __name__ == "__main__":
    main()

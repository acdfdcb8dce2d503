"""Training: samples/s of NeonTrainer by preset, beside the same updates without any data work, in one process and two.

    python benchmarks/training.py                       # about six minutes on two idle cores
    python benchmarks/training.py --presets compact_reach --steps 2 --episodes 2

Episodes are made up, at the sizes of recorded ones, in mp4 files and more than memory is given for, so that nothing has
to be recorded first. "reading" is reading alone, out of the videos as a run's first visits are, and "kept" from the
samples that it then keeps on disk; "encoding" looks at every clip anew, as the first epoch does; "cached" has every
clip's features in the cache, as later epochs do; "updates alone" repeats one batch that is in memory. Two processes
have one thread each, one process all cores. RESULTS.md is written for all presets together, and by nothing smaller
than the usual number of steps and episodes; else the figures are only printed.
"""

import argparse
import datetime
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from report import write_report

from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.data.source import DataSourceConfig
from neon_sim.episode import NeonEpisode
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.names import nearest
from neon_sim.training.config import PRESETS
from neon_sim.training.train import NeonTrainer
from neon_sim.training.train_config import TrainConfig

COMPACT: Final = ("compact_reach", "compact_tasks", "compact_flow", "compact_wholebody")
STEPS: Final = 20  # optimiser steps of each measurement
EPISODES: Final = 24  # made-up ones, 8 samples each
WARM_UP: Final = 2  # steps that are not counted
STEPS_OF_EPISODE: Final = 128  # 8 samples
MEMORY_MB: Final = 16.0  # one episode and a half: nearly every visit reads one


def write_data(folder: Path, control_mode: str, episodes: int) -> Path:
    """Made-up episodes with what `agents/collect.py --sensors proprio camera lidar audio` records."""
    width = G1ActionSpace(control_mode).dim
    with LeRobotWriter(folder) as writer:
        for number in range(episodes):
            rng = np.random.default_rng(number)
            seen: dict[str, np.ndarray] = {
                "camera": moving_picture(number),
                **{
                    name: rng.normal(0.0, 0.1, (STEPS_OF_EPISODE, size)).astype(np.float32)
                    for name, size in (("proprio", 125), ("eef", 14), ("lidar", 3072), ("audio", 5120))
                },
            }
            actions = rng.uniform(-1.0, 1.0, (STEPS_OF_EPISODE, width)).astype(np.float32)
            writer.add(NeonEpisode(seen, actions, instruction=f"made up {number}", control_mode=control_mode))
    return folder


def moving_picture(number: int) -> np.ndarray:
    """(T, 128, 128, 3) uint8: waves that wander, as different in every episode as its number."""
    x, y = np.meshgrid(np.linspace(0.0, 6.0, 128), np.linspace(0.0, 6.0, 128))
    time_s = np.arange(STEPS_OF_EPISODE)[:, None, None] / 50.0
    waves = [np.sin(x * (1 + colour) + number + time_s) * np.cos(y + colour * time_s) for colour in range(3)]
    return np.round(127.5 * (1.0 + np.stack(waves, axis=-1))).astype(np.uint8)


def config_of(preset: str, folder: Path, episodes: int, name: str, cached: bool) -> TrainConfig:
    """A preset on made-up data in `folder`, which are written there if they are missing."""
    config = PRESETS[preset]()
    data = folder / str(config.model.control_mode)
    if not data.exists():
        write_data(data, str(config.model.control_mode), episodes)
    return replace(
        config,
        data=DataSoupConfig([DataSourceConfig("made up", "neon_sim", str(data))], 0.0, memory_mb=MEMORY_MB),
        output_dir=str(folder / preset / name),
        feature_cache=str(folder / "features") if cached else None,
        max_steps=100_000,
    )


def rate_of(trainer: NeonTrainer, steps: int, alone: bool = False) -> float:
    """Samples/s of all processes over so many steps. alone: of the updates, with one batch again and again."""
    stream = trainer._micro_batches()
    batch = next(stream)
    for _ in range(WARM_UP):
        trainer.update(batch if alone else next(stream))
    trainer.team.wait()
    start_s = time.perf_counter()
    for _ in range(steps):
        trainer.update(batch if alone else next(stream))
    trainer.team.wait()
    config = trainer.config
    samples = steps * config.batch_size * config.gradient_accumulation * trainer.team.size
    return samples / (time.perf_counter() - start_s)


def reading_rate(soup: DataSoup, samples: int) -> float:
    """Samples/s of a soup by itself."""
    start_s = time.perf_counter()
    for number in range(samples):
        soup[number]
    return samples / (time.perf_counter() - start_s)


def figures_of(preset: str, folder: Path, episodes: int, steps: int) -> dict[str, float]:
    """Samples/s of one process, in turn: reading, reading what is kept, encoding, cached, and the updates alone."""
    encoding = NeonTrainer(config_of(preset, folder, episodes, "encoding", cached=False), progress=False)
    cached = NeonTrainer(config_of(preset, folder, episodes, "cached", cached=True), progress=False)
    for batch in (cached.soup.each()[first : first + 64] for first in range(0, len(cached.soup), 64)):
        windows = cached.soup.readable(batch)
        frames = [window.frames for window in windows if window.frames is not None]
        cached.encode(torch.from_numpy(np.stack(frames)), [window.instruction for window in windows])
    assert cached.config.data is not None
    videos = DataSoup(cached.config.data, cached.model.action_space, cached.windows)
    return {
        "reading_samples_per_s": reading_rate(videos, 8 * steps),
        "kept_samples_per_s": reading_rate(cached.soup, 8 * steps),  # the cache was filled above
        "encoding_samples_per_s": rate_of(encoding, steps),
        "cached_samples_per_s": rate_of(cached, steps),
        "updates_alone_samples_per_s": rate_of(cached, steps, alone=True),
    }


def pair_rate(preset: str, folder: Path, episodes: int, steps: int) -> float:
    """Samples/s of two processes together, from the cache.

    Raises RuntimeError if one of them fails.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, __file__, "--share", str(folder), "--presets", preset]
    line += ["--episodes", str(episodes), "--steps", str(steps)]
    both = [
        subprocess.Popen(line, env={**os.environ, **team, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    if any(process.returncode for process in both):
        raise RuntimeError(f"One of two training processes ended with {[process.returncode for process in both]}.")
    return float(json.loads(said[0].splitlines()[-1]))


def share(preset: str, folder: Path, episodes: int, steps: int) -> None:
    """One of two processes; the leading one prints the rate of both."""
    torch.set_num_threads(1)
    trainer = NeonTrainer(config_of(preset, folder, episodes, "pair", cached=True), progress=False)
    rate = rate_of(trainer, steps)
    if trainer.team.leads:
        print(json.dumps(rate), flush=True)


def main() -> None:
    """Measure, print and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=list(COMPACT), help=f"some of {', '.join(COMPACT)}")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimiser steps of each measurement")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="made-up ones, 8 samples each")
    parser.add_argument("--share", type=Path, help=argparse.SUPPRESS)  # one of two processes of this very script
    args = parser.parse_args()
    for preset in args.presets:
        if preset not in COMPACT:
            raise SystemExit(str(nearest("compact preset", preset, COMPACT)))
    if args.steps < 1 or args.episodes < 2:
        parser.error(f"--steps wants at least 1 and --episodes 2, got {args.steps} and {args.episodes}.")
    if args.share:
        share(args.presets[0], args.share, args.episodes, args.steps)
        return
    figures: dict[str, dict[str, float]] = {}
    header = ["preset", "samples/s, reading", "kept", "encoding", "cached"]
    header += ["of updates alone", "two processes", "of one"]
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for preset in args.presets:
            found = figures_of(preset, Path(place), args.episodes, args.steps)
            found["two_processes_samples_per_s"] = pair_rate(preset, Path(place), args.episodes, args.steps)
            figures[preset] = found
            rows.append([preset, *cells(found)])
            print("  ".join(f"{title}: {cell}" for title, cell in zip(header, rows[-1], strict=True)), flush=True)
    if why := too_small(args.presets, args.steps, args.episodes):
        print(why)
    else:
        settings = {"steps": args.steps, "episodes": args.episodes, "threads": torch.get_num_threads()}
        write_report("training", {**figures, "settings": settings}, header, rows, datetime.date.today().isoformat())


def too_small(presets: Sequence[str], steps: int, episodes: int) -> str:
    """Why RESULTS.md is left as it is; empty where it is to be written."""
    if tuple(presets) == COMPACT and steps >= STEPS and episodes >= EPISODES:
        return ""
    return f"RESULTS.md is as it was: it wants all presets, --steps {STEPS} and --episodes {EPISODES}, or more."


def cells(found: dict[str, float]) -> list[str]:
    """One row of the table, as text."""
    cached = found["cached_samples_per_s"]
    return [
        f"{found['reading_samples_per_s']:.0f}",
        f"{found['kept_samples_per_s']:.0f}",
        f"{found['encoding_samples_per_s']:.0f}",
        f"{cached:.0f}",
        f"{cached / found['updates_alone_samples_per_s']:.2f}",
        f"{found['two_processes_samples_per_s']:.0f}",
        f"{found['two_processes_samples_per_s'] / cached:.2f}",
    ]


if __name__ == "__main__":
    main()

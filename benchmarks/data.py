"""Data: samples/s of one worker beside bare parquet and PyAV decoding, and episodes/minute beside bare env stepping.

    python benchmarks/data.py                 # about two minutes
    python benchmarks/data.py --episodes 2 --rounds 1 --print-only

Everything is CPU time of one process. What is compared takes turns, so that a busy moment hits both sides alike, and
each side counts at its best round. A sample is one control step with all that was recorded of it. Fewer episodes or
rounds than usual are only printed: RESULTS.md stays as it is.
"""

import argparse
import datetime
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import pyarrow.parquet as pq
from av.video.reformatter import VideoReformatter
from report import write_report

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.data.lerobot import LeRobotReader, LeRobotWriter, merge
from neon_sim.episode import NeonEpisode
from neon_sim.training.recording import Collecting, Recorder

Result = TypeVar("Result")
EPISODES, ROUNDS = 4, 3
SETS = {
    "stand, proprio": Collecting(task="stand"),
    "reach, proprio": Collecting(task="reach"),
    "reach, proprio + camera": Collecting(task="reach", sensors=("proprio", "camera")),
    "reach, all senses": Collecting(task="reach", sensors=("proprio", "camera", "lidar", "audio")),
}
# Ten-second episodes a minute and core that are wanted: without video, and with a camera that is encoded.
LEAST = {"stand, proprio": 150.0, "reach, proprio": 150.0, "reach, proprio + camera": 20.0}


def timed(work: Callable[..., Result], *arguments: Any) -> tuple[float, Result]:
    """CPU seconds that a call takes, and what it returns."""
    start_s = time.process_time()
    result = work(*arguments)
    return time.process_time() - start_s, result


def bare_read(folder: Path) -> None:
    """The floor of reading: every data file decoded by pyarrow, every video by PyAV, and nothing made of it."""
    for path in sorted((folder / "data").rglob("*.parquet")):
        pq.read_table(path, use_threads=False)
    for path in sorted((folder / "videos").rglob("*.mp4")):
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "NONE"
            to_rgb = VideoReformatter()
            for frame in container.decode(container.streams.video[0]):
                to_rgb.reformat(frame, format="rgb24").to_ndarray()


def read_all(folder: Path) -> None:
    """Every episode through the reader."""
    for _ in LeRobotReader(folder).episodes():
        pass


def replay(recorder: Recorder, seed: int, episode: NeonEpisode) -> None:
    """The floor of collecting: the same env takes the same actions, and nothing is kept."""
    recorder.env.reset(seed=seed)
    for action in episode.actions:
        recorder.env.step(action)


def measure_collecting(config: Collecting, episodes: int, rounds: int, folder: Path) -> tuple[float, float, float]:
    """Best CPU seconds for all episodes: bare stepping, recording to disk, and the part of it that is writing."""
    recorder = Recorder(config)
    recorder.episode(0)  # the first one also starts renderers
    best = np.full((episodes, 3), np.inf)
    with LeRobotWriter(folder) as writer:
        for _ in range(rounds):
            for seed in range(episodes):
                play_s, episode = timed(recorder.episode, seed)
                write_s, _ = timed(writer.add, episode)
                bare_s, _ = timed(replay, recorder, seed, episode)
                best[seed] = np.minimum(best[seed], (bare_s, play_s + write_s, write_s))
    recorder.env.close()
    bare, recorded, writing = best.sum(axis=0)
    return float(bare), float(recorded), float(writing)


def measure_reading(folder: Path, rounds: int) -> tuple[float, float]:
    """Best CPU seconds to read a data set: bare decoding, and the reader."""
    pairs = [(timed(bare_read, folder)[0], timed(read_all, folder)[0]) for _ in range(rounds)]
    bare, read = np.min(pairs, axis=0)
    return float(bare), float(read)


def figures_of(config: Collecting, episodes: int, rounds: int) -> dict[str, float]:
    """All figures of one kind of data set."""
    with tempfile.TemporaryDirectory() as place:
        shard, packed = Path(place) / "shard", Path(place) / "packed"
        bare_step_s, recorded_s, writing_s = measure_collecting(config, episodes, rounds, shard)
        merge([shard], packed)
        bare_read_s, read_s = measure_reading(packed, rounds)
        samples = LeRobotReader(packed).info.total_frames
        size = sum(path.stat().st_size for path in packed.rglob("*") if path.is_file())
    return {
        "episodes_per_minute": 60.0 * episodes / recorded_s,
        "bare_stepping_episodes_per_minute": 60.0 * episodes / bare_step_s,
        "of_bare_stepping": bare_step_s / recorded_s,
        "writing_share": writing_s / recorded_s,
        "samples_per_s": samples / read_s,
        "bare_decoding_samples_per_s": samples / bare_read_s,
        "of_bare_decoding": bare_read_s / read_s,
        "megabytes_per_episode": size / 1e6 / (episodes * rounds),
    }


def main() -> None:
    """Measure, print and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=EPISODES, help="ten-second episodes of each kind")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="each counts at its best of these")
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md and the JSON file as they are")
    args = parser.parse_args()
    if args.episodes < 1 or args.rounds < 1:
        parser.error(f"--episodes and --rounds must be at least 1, got {args.episodes} and {args.rounds}")
    figures: dict[str, dict[str, float]] = {}
    for name, config in SETS.items():
        figures[name] = figures_of(config, args.episodes, args.rounds)
    header = ["data set, 5 ms physics", "episodes/min and core", "target", "of bare stepping", "writing", "samples/s",
              "of bare decoding", "MB/episode"]  # fmt: skip
    rows = [[name, *cells(name, found)] for name, found in figures.items()]
    for row in rows:
        print("  ".join(f"{title}: {cell}" for title, cell in zip(header, row, strict=True)))
    figures["settings"] = {"episodes": args.episodes, "rounds": args.rounds, "seconds": 10.0}
    if args.episodes < EPISODES or args.rounds < ROUNDS:
        print(f"RESULTS.md is as it was: it wants --episodes {EPISODES} and --rounds {ROUNDS}, or more.")
    elif not args.print_only:
        write_report("data", figures, header, rows, datetime.date.today().isoformat())


def cells(name: str, found: dict[str, float]) -> list[str]:
    """One row of the table, as text."""
    rate, least = found["episodes_per_minute"], LEAST.get(name)
    return [
        f"{rate:.0f}",
        "-" if least is None else f"{least:g}: {'met' if rate >= least else 'missed'}",
        f"{found['of_bare_stepping']:.2f}",
        f"{100 * found['writing_share']:.0f} %",
        f"{found['samples_per_s']:.0f}",
        f"{found['of_bare_decoding']:.2f}",
        f"{found['megabytes_per_episode']:.2f}",
    ]


if __name__ == "__main__":
    main()

"""Record episodes of NeonG1 as a LeRobot data set, with parallel workers.

    python agents/collect.py --task reach --policy expert --episodes 500
    python agents/collect.py --policy noisy_expert --sensors proprio camera lidar audio --out runs/all_senses
    python agents/collect.py --sensors proprio lidar --full-lidar   # info.lidar_full: x, y, z, reflectivity, 8 MB/s
    python agents/collect.py --policy runs/pretrain/policy --sensors proprio camera --version v2.1
    python agents/collect.py --preset tiny --out runs/tiny          # a few seconds
    python agents/collect.py --task standing --as-judged --policy noisy_expert --stand-share 0.125 \
        --sensors state proprio --episodes 570 --out runs/multitask/state   # what multitask_state learns from
    python agents/collect.py --task standing --as-judged --policy noisy_expert --stand-share 0.125 \
        --sensors proprio camera audio --microphones 2 --episodes 570 --out runs/multitask/camera   # and multitask
    python agents/collect.py --policy teleop --task walk --sensors proprio camera --episodes 5 --seconds 30
    python agents/collect.py --ray auto --episodes 100000 --out /shared/reach   # needs pip install 'neon-sim[cluster]'
    python agents/collect.py --task stand --control-mode whole_body --sensors proprio camera \
        --episodes 500 --out runs/data/stand_whole_body             # what compact_wholebody learns from
    python agents/collect.py --task reach --policy cem --as-judged --sensors state proprio camera --episodes 300 \
        --out runs/planned/reach        # a planner, distilled by pretrain.py --preset multitask_state --tasks reach

Policies: expert, noisy_expert (its own wish is kept as info.expert_action), random, zero, a checkpoint's folder, or a
planner (cem, icem, mppi, gradient) in the task's world model: runs/world_model_TASK, or else the shipped one.
Stop with Ctrl-C, or lose the machine: the same line goes on, and a larger --episodes adds to what is there. An episode
depends on its seed alone, so the data set is the same for any number of workers. In whole_body, where no walker keeps
the robot up, the expert balances as well. With --ray, OUT is on a disk that every machine of the cluster sees.

With --policy teleop you drive, in real time and in one process, by the keys of agents/play.py --teleop or with
--gamepad; arms stay at home. An episode ends with --seconds, a fall, or --stop-on-success; x or Ctrl-C stops, and the
episode in flight is not kept. --window shows the robot where there is a display.

Several tasks may be named: "standing" is all that need no walking, "all" is all. --as-judged makes episodes like those
of NeonBench: of the task's own length, ended by success, and a noisy expert disturbed by as much as the task bears.
--stand-share: so many of a task's episodes are told to stand instead, in the words of the task stand, and last two
seconds of standing; which ones follows from their seeds. A policy that learns from them has to mind the words.

Writes OUT/shards (what the workers recorded), OUT/dataset (all of it, ready to be read) and OUT/collected.json (the
seconds that it took); of several tasks, each into OUT/TASK.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.data.lerobot import LeRobotReader, merge
from neon_sim.data.lerobot.info import VERSIONS
from neon_sim.data.lerobot.shards import discard, is_all_there
from neon_sim.data.lerobot.whole_file import write_text
from neon_sim.env_config import ALL_SENSORS, NeonG1Config
from neon_sim.eval.statistics import format_rate
from neon_sim.inference.planner_policy import world_model_of
from neon_sim.inference.references import REFERENCES
from neon_sim.inference.teleop import TeleopPolicy, gamepad, key_by_key, keyboard, typed_keys, velocity_limit
from neon_sim.names import nearest
from neon_sim.tasks import TASKS
from neon_sim.training.multitask import STANDING
from neon_sim.training.recording import (
    RATE_HZ,
    TELEOP,
    Collecting,
    Recorder,
    Shard,
    as_judged,
    check_lidar,
    check_whole_body,
    check_words,
)
from neon_sim.training.recording_work import (
    check_recorded,
    check_seeds,
    missing,
    open_worker,
    ray_map,
    record_shard,
    shards_of,
)
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import cpu_count, parallel_map
from neon_sim.walker import HEIGHT_RANGE
from neon_sim.world_model.controllers import PLANNERS
from neon_sim.world_model.played import fingerprint

LONGEST = 10**6  # frames of an episode
MANY = {"standing": STANDING, "all": tuple(TASKS)}  # words for several tasks
Driver = Callable[[Any], TeleopPolicy]  # who follows a person in an env


PRESETS = {"default": (Collecting(), 100), "tiny": (Collecting(seconds=2.0), 6)}


@contextmanager
def person(args: argparse.Namespace) -> Iterator[Driver | None]:
    """Whoever drives: None for a policy that needs nobody. The terminal hands over single keys meanwhile.

    Raises:
        ValueError: keys are to come from something that is no terminal, or no gamepad is connected.
        ImportError: a gamepad without pygame.
    """
    if args.policy != TELEOP:
        yield None
    elif args.gamepad:
        gamepad(np.zeros(3), HEIGHT_RANGE)  # now, and not after a folder was made
        yield lambda env: TeleopPolicy(env, gamepad(velocity_limit(env), HEIGHT_RANGE))
    elif not sys.stdin.isatty():
        raise ValueError("--policy teleop reads keys from a terminal, and stdin is none. Use ssh -t, or --gamepad.")
    else:
        fd = sys.stdin.fileno()
        with key_by_key(fd):
            yield lambda env: TeleopPolicy(env, keyboard(typed_keys(fd), velocity_limit(env), HEIGHT_RANGE))


def collect(
    config: Collecting, episodes: int, out: Path, args: argparse.Namespace, driver: Driver | None = None
) -> Path:
    """Record what is missing, merge everything, and print what there is. Returns the data set's folder."""
    shards = shards_of(config, episodes, out.resolve() / "shards")
    check_recorded(shards, out.resolve() / "shards")
    work, start_s = missing(shards), time.monotonic()
    if driver is not None:
        new = record_driven(config, work, driver, args.window)
    elif args.ray is not None:
        new = sum(ray_map(config, work, args.ray, args.workers))
    else:
        workers = min(args.workers, max(1, len(work)))
        new = sum(parallel_map(record_shard, work, workers, "shards", open_worker, (config,)))
    elapsed_s = time.monotonic() - start_s
    dataset = merge([shard.folder for shard in shards], out / "dataset", args.version)
    print(f"{new} new episodes in {elapsed_s:.1f} s ({60.0 * new / max(elapsed_s, 1e-9):.0f} a minute)")
    return dataset


def record_driven(config: Collecting, work: list[Shard], driver: Driver, window: bool) -> int:
    """What a person drives, one episode after the other; returns how many were new."""
    if not work:
        return 0
    recorder = Recorder(config, driver, window)
    try:
        return sum(recorder.record(shard) for shard in work)
    finally:
        recorder.env.close()


@contextmanager
def timed(path: Path) -> Iterator[None]:
    """Add the seconds that a block takes, to its end or to a Ctrl-C, to those that a file says already."""
    before = float(json.loads(path.read_text())["seconds"]) if path.exists() else 0.0
    start_s = time.monotonic()
    try:
        yield
    finally:
        write_text(path, json.dumps({"seconds": before + time.monotonic() - start_s}) + "\n")


def success_line(dataset: Path) -> str:
    """How many episodes ended well."""
    reader = LeRobotReader(dataset, cameras=False)
    successes = sum(episode.success for episode in reader.episodes())
    return f"{len(reader)} episodes, {reader.info.total_frames} frames, success {format_rate(successes, len(reader))}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--task", nargs="+", help=f"some of {', '.join(TASKS)}, or one of {', '.join(MANY)}")
    parser.add_argument("--policy", help="expert, noisy_expert, random, zero, teleop, cem (or icem ...), or a folder")
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--seconds", type=float, help="of an episode at most")
    parser.add_argument("--sensors", nargs="+", help=f"some of {', '.join(ALL_SENSORS)}")
    parser.add_argument("--full-lidar", action="store_true", default=None, help="all 20,000 points, with reflectivity")
    parser.add_argument("--microphones", type=int, help="2: at the left and right of the head, not one in front")
    parser.add_argument("--stand-share", type=float, help="of the episodes, told to stand there, and standing")
    parser.add_argument("--control-mode")
    parser.add_argument("--physics-dt", type=float, help="s")
    parser.add_argument("--stop-on-success", action="store_true", default=None)
    parser.add_argument("--as-judged", action="store_true", help="in place of --seconds and --stop-on-success")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--version", default="v3.0", help=f"of the data set: {' or '.join(VERSIONS)}")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--gamepad", action="store_true", help="with --policy teleop: instead of the keyboard")
    parser.add_argument("--window", action="store_true", help="with --policy teleop: show the robot live")
    parser.add_argument("--ray", metavar="ADDRESS", help='of a Ray cluster, "auto", or "local"')
    parser.add_argument("--discard-shards", action="store_true", help="when the data set is whole; ends resuming")
    parser.add_argument("--out", type=Path, default=Path("runs/collect"))
    return parser.parse_args()


def settings(args: argparse.Namespace) -> tuple[list[Collecting], int]:
    """The preset with the given flags put in, for each task.

    Raises:
        ValueError: a name that does not exist, with the nearest that does, or a number that makes no sense.
    """
    if args.preset not in PRESETS:
        raise nearest("preset", args.preset, PRESETS)
    config, episodes = PRESETS[args.preset]
    given = {name: value for name, value in vars(args).items() if name in asdict(config) and value is not None}
    tasks = tasks_of(given.pop("task", [config.task]))
    config = replace(config, **given | {"sensors": tuple(given.get("sensors", config.sensors))})
    episodes = episodes if args.episodes is None else args.episodes
    if args.version not in VERSIONS:
        raise nearest("version", args.version, VERSIONS)
    known = [*REFERENCES, "noisy_expert", TELEOP, *PLANNERS]
    if config.policy not in known:
        if not Path(config.policy).is_dir():
            raise nearest("policy (nor is it a folder)", config.policy, known)
        config = replace(config, policy=str(Path(config.policy).resolve()))  # workers may run in another folder
    check_driving(args, config)
    check_lidar(config)
    check_whole_body(config)
    check_words(config)
    check_seeds(config.seed, episodes)
    if episodes < 1 or not 1 <= config.seconds * RATE_HZ < LONGEST or args.workers < 1:
        raise ValueError(f"Episodes, seconds and workers must be positive, got {episodes}, {config.seconds}, "
                         f"{args.workers}.")  # fmt: skip
    configs = [replace(config, task=task) for task in tasks]
    for one in configs:  # now, and not in a worker when a folder has been claimed
        NeonG1Config(one.task, sensors=one.sensors, control_mode=one.control_mode, physics_dt=one.physics_dt)
    return [as_judged(one) for one in configs] if args.as_judged else configs, episodes


def check_driving(args: argparse.Namespace, config: Collecting) -> None:
    """Raise ValueError for flags that do not go with each other where a person drives, or does not."""
    driven = config.policy == TELEOP
    if not driven and (args.gamepad or args.window):
        raise ValueError(f"--gamepad and --window go with --policy {TELEOP}, not with {config.policy}.")
    if driven and (args.ray is not None or config.control_mode == "whole_body"):
        raise ValueError("A person drives on this machine and by velocities: leave out --ray, and use arms_only.")


def tasks_of(names: list[str]) -> tuple[str, ...]:
    """Tasks by name, a word for several replaced by them, each task once.

    Raises:
        ValueError: no such task, naming the nearest.
    """
    for name in names:
        if name not in (*TASKS, *MANY):
            raise nearest("task", name, (*TASKS, *MANY))
    return tuple(dict.fromkeys(task for name in names for task in MANY.get(name, (name,))))


def record_task(config: Collecting, episodes: int, out: Path, args: argparse.Namespace, driver: Driver | None) -> None:
    """Record, merge and report one task.

    Raises:
        ValueError: the folder belongs to other settings, or holds episodes that this would replace.
    """
    chosen = asdict(config)
    for name in ("full_lidar", "microphones", "stand_share", "paused_share"):
        if chosen[name] == getattr(Collecting, name):
            del chosen[name]  # so that runs begun before there was this choice go on
    if config.policy in PLANNERS:
        chosen["world_model"] = fingerprint(world_model_of(config.task))
    claim_folder(out, chosen)
    if is_all_there(out, episodes, args.version):
        print(f"{config.task}: {success_line(out / 'dataset')}")
        print(f"All of it is in {out / 'dataset'} already: nothing was recorded.")
        if args.discard_shards:  # what a kill left of them
            discard(out / "shards")
        return
    with timed(out / "collected.json"):
        dataset = collect(config, episodes, out, args, driver)
    print(f"{config.task}: {success_line(dataset)}")
    if args.discard_shards:
        discard(out / "shards")
    print(f"Wrote {os.fspath(dataset)}")


def main() -> None:
    """Every task in turn."""
    args = parse()
    try:
        configs, episodes = settings(args)
        with person(args) as driver:
            for config in configs:
                record_task(config, episodes, args.out / config.task if len(configs) > 1 else args.out, args, driver)
    except (ValueError, ImportError, ChildProcessError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was recorded is in {args.out}. The same line goes on.") from None


if __name__ == "__main__":
    main()

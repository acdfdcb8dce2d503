"""NeonBench: what a policy can do in eight cells, one thing changed at a time and all at once.

    python -m neon_sim.eval.neonbench                                  # the references on all tasks, 20 episodes a cell
    python -m neon_sim.eval.neonbench --policy runs/pretrain/policy --tasks reach --episodes 200 --out runs/reach_bench
    python -m neon_sim.eval.neonbench --policy expert --tasks reach press --cells nominal unseen_objects

A policy is expert, zero, random, or the folder of a checkpoint or of agents/train_ppo.py, which plays the task that it
was trained on. Beside a folder the three references play too, unless --no-references is given. Episode i of every task
and cell has one fixed seed, and a larger --episodes adds to what is there; 20 are a smoke run, a figure that counts has
200. Sensors that a policy does not read are not rendered, and cells that are alike for it are played once.
Stop with Ctrl-C, or lose the machine: the same line goes on.

Writes OUT/neonbench.json, OUT/neonbench.md, OUT/neonbench.png, and OUT/episodes (every episode, for going on); with
--card also into the README.md of each checkpoint that played.
"""

import argparse
import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from neon_sim.cells import CELLS, TASKS, first_alike
from neon_sim.eval.neonbench_card import write_cards
from neon_sim.eval.neonbench_play import (
    Player,
    Shard,
    find_player,
    leave_interrupts_to_the_main_process,
    play_shard,
    read_shard,
    shards_of,
    told_apart,
)
from neon_sim.eval.neonbench_report import BenchResults, as_dict, as_markdown, plot
from neon_sim.inference.references import REFERENCES
from neon_sim.names import nearest
from neon_sim.training.workers import cpu_count, parallel_map

ALL = "all"


@dataclass(frozen=True)
class BenchConfig:
    """What is played: by whom, which tasks and cells, how many episodes of each.

    Raises ValueError for an unknown task or cell, two players with one label, a task that a player was not trained on,
    and less than one episode.
    """

    players: tuple[Player, ...]
    tasks: tuple[str, ...]
    cells: tuple[str, ...] = tuple(CELLS)
    episodes: int = 20

    def __post_init__(self) -> None:
        _check_names("task", self.tasks, TASKS)
        _check_names("cell", self.cells, CELLS)
        labels = [player.label for player in self.players]
        if len(set(labels)) < len(labels) or not labels:
            raise ValueError(f"Players need different names, got {labels or 'none'}. Rename a folder.")
        for player in self.players:
            if player.task is not None and self.tasks != (player.task,):
                asked = f"{player.label} was trained on {player.task!r} alone, and is to play {', '.join(self.tasks)}"
                raise ValueError(f"{asked}. Ask for --tasks {player.task}, one such folder at a time.")
        if self.episodes < 1:
            raise ValueError(f"episodes must be at least 1, got {self.episodes}.")


def _check_names(kind: str, given: Sequence[str], valid: Iterable[str]) -> None:
    for name in given:
        if name not in valid:
            raise nearest(kind, name, (*valid, ALL))
    if not given:
        raise ValueError(f"Name at least one {kind}, or {ALL!r}.")


def plan(config: BenchConfig, folder: Path) -> dict[tuple[str, str, str], list[Shard]]:
    """The work by (player's label, task, cell); a cell that is like an earlier one for a player is not there."""
    work = {}
    for player in config.players:
        cells = dict.fromkeys(first_alike(cell, player.reads) for cell in config.cells)
        for task in config.tasks:
            for cell in cells:
                work[player.label, task, cell] = shards_of(player, task, cell, config.episodes, folder)
    return work


def run(config: BenchConfig, folder: Path, workers: int) -> BenchResults:
    """Play what is missing in a folder, with a bar that tells the time left, and read all of it."""
    work = plan(config, folder)
    missing = [shard for shards in work.values() for shard in shards if read_shard(shard) is None]
    Random(0).shuffle(missing)  # long and short tasks mixed: the time left is then a fair guess
    count = min(workers, max(1, len(missing)))
    for _ in parallel_map(play_shard, missing, count, "neonbench", leave_interrupts_to_the_main_process):
        pass
    played = {key: [episode for shard in shards for episode in read_shard(shard) or ()] for key, shards in work.items()}
    return BenchResults(config.players, config.tasks, config.cells, config.episodes, played)


def write_report(results: BenchResults, folder: Path) -> None:
    """neonbench.json, neonbench.md and neonbench.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "neonbench.json").write_text(json.dumps(as_dict(results), indent=1) + "\n", encoding="utf-8")
    (folder / "neonbench.md").write_text(as_markdown(results), encoding="utf-8")
    plot(results, folder / "neonbench.png")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", nargs="+", default=list(REFERENCES), help="expert, zero, random, or folders")
    parser.add_argument("--tasks", nargs="+", default=[ALL], help=f"{ALL}, or some of {', '.join(TASKS)}")
    parser.add_argument("--cells", nargs="+", default=[ALL], help=f"{ALL}, or some of {', '.join(CELLS)}")
    parser.add_argument("--episodes", type=int, default=20, help="of each task and cell")
    parser.add_argument("--sensors", nargs="+", help="that checkpoints are given, instead of all that they can read")
    parser.add_argument("--no-references", action="store_true", help="let nobody play beside a checkpoint")
    parser.add_argument("--card", action="store_true", help="put the rows into the model card of each checkpoint")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/neonbench"))
    return parser.parse_args(arguments)


def settings(args: argparse.Namespace) -> BenchConfig:
    """The command line as a config.

    Raises:
        ValueError: a name that does not exist, with the nearest that does, or a number that makes no sense.
    """
    names = list(dict.fromkeys(args.policy))
    if not args.no_references and not set(names) <= set(REFERENCES):
        names += [name for name in REFERENCES if name not in names]
    tasks = tuple(TASKS) if ALL in args.tasks else tuple(dict.fromkeys(args.tasks))
    cells = tuple(CELLS) if ALL in args.cells else tuple(dict.fromkeys(args.cells))
    if args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}.")
    _check_names("task", tasks, TASKS)  # before a checkpoint is read
    sensors = None if args.sensors is None else tuple(args.sensors)
    players = told_apart(find_player(name, sensors) for name in names)
    own = tuple(dict.fromkeys(player.task for player in players if player.task is not None))
    if ALL in args.tasks and len(own) == 1:
        tasks = own
    return BenchConfig(players, tasks, cells, args.episodes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Play, report, and print the page."""
    args = parse(arguments)
    try:
        results = run(settings(args), args.out / "episodes", args.workers)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was played is in {args.out}. The same line goes on.") from None
    write_report(results, args.out)
    print((args.out / "neonbench.md").read_text(encoding="utf-8"))
    print(f"Wrote {args.out / 'neonbench.json'}, .md and .png")
    try:
        cards = write_cards(results, datetime.date.today().isoformat()) if args.card else []
    except ValueError as error:  # what was played is written
        raise SystemExit(str(error)) from None
    print("".join(f"Wrote {card}\n" for card in cards), end="")


if __name__ == "__main__":
    main()

"""One policy for all tasks that need no walking: by task, in seen and unseen wordings, beside expert and specialists.

    python benchmarks/multitask.py --policy runs/multitask/state_all/best --alone runs/multitask/state_{task}/best
    python benchmarks/multitask.py --name multitask --policy runs/multitask/camera_all/best \
        --alone runs/multitask/camera_{task}/best
    python benchmarks/multitask.py --policy runs/multitask/probe/best --tasks reach wave --episodes 20

At full size 9,400 episodes; the 6,200 of them without --alone took 21 minutes on two cores from the camera.
--alone is the folder of each task's own policy, {task} standing for its name; a table with a task that has none says in
its first line that it is incomplete. Beside NeonBench's cells the policy is told to stand, in held-out wordings, in the
scene of every other task: the state names the task's target, so only that says whether it listens. Stop with Ctrl-C;
the same line goes on. Every episode is kept below --out, in the name of --name. RESULTS.md and docs/NAME.png are
written for all tasks with 200 episodes each, and by nothing smaller; the picture of a smaller one is in --out.
"""

import argparse
import datetime
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import gymnasium
from report import ROOT, table, write_report

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.cells import cell_options
from neon_sim.eval.evaluate import EvaluationJob, build_policy
from neon_sim.eval.neonbench import BenchConfig, run
from neon_sim.eval.neonbench_play import (
    FIRST_SEED,
    VERSION,
    Player,
    find_player,
    leave_interrupts_to_the_main_process,
)
from neon_sim.eval.neonbench_report import BenchResults, Score
from neon_sim.eval.plots import bar_plot
from neon_sim.eval.statistics import format_rate
from neon_sim.rollout import rollout
from neon_sim.shipped import walker_fingerprint
from neon_sim.training.multitask import STANDING
from neon_sim.training.told_to_stand import STAND, ToldToStand
from neon_sim.training.workers import cpu_count, parallel_map

FULL: Final = 200  # episodes of each task that a figure counts with
CELLS: Final = ("nominal", "unseen_wordings")
COLUMNS: Final = ("seen", "unseen", "told_to_stand", "alone_seen", "alone_unseen", "expert")
HEADER: Final = (
    "task", "seen wordings", "unseen wordings", "told to stand there", "own policy, seen", "own, unseen", "expert"
)  # fmt: skip
EXPERT: Final = Player("expert", "expert", mark="expert")
TOLD_STEPS: Final = 150  # s * 50: longer than it stands in a recording, and long enough to reach for what is there
_SHARD: Final = 20  # episodes in one file


@dataclass(frozen=True)
class Told:
    """Episodes `first` to `first + count` of a task in which the robot is told to stand; the file for its successes."""

    player: Player
    task: str
    first: int
    count: int
    path: str

    @property
    def world(self) -> dict[str, Any]:
        """Options of the env that they are played in."""
        player = self.player
        layout = {"control_mode": player.control_mode, "action_center": player.action_center}
        return {**cell_options("nominal", player.reads, microphones=player.microphones), "task": self.task, **layout}

    @property
    def mark(self) -> str:
        """Changes with anything that is played: the policy, its world and walker, and which seed they begin with."""
        who = (self.player.mark, self.player.reads)
        played = (VERSION, walker_fingerprint(), who, sorted(self.world.items()), self.first)
        return hashlib.sha256(repr(played).encode()).hexdigest()[:16]

    def read(self) -> list[bool] | None:
        """What the file says, if it is of this very policy and world, and has all of them."""
        path = Path(self.path)
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        whole = stored.get("mark") == self.mark and len(stored["successes"]) >= self.count
        return stored["successes"][: self.count] if whole else None


def play_told(job: Told) -> int:
    """Play them and write the file in one step. Returns how many there were."""
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **job.world).unwrapped
    policy = build_policy(EvaluationJob("multitask", job.player.policy, ()), env)
    told, successes = ToldToStand(env, "test"), []
    for seed in range(FIRST_SEED + job.first, FIRST_SEED + job.first + job.count):
        words = {"instruction": told.words(seed)}
        rollout(env, policy, steps=TOLD_STEPS, seed=seed, keep=(), on_chunk=told.watch, options=words)
        successes.append(told.done())
    env.close()
    path = Path(job.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"mark": job.mark, "successes": successes}) + "\n", encoding="utf-8")
    partial.replace(path)
    return len(successes)


def told_to_stand(player: Player, tasks: Sequence[str], episodes: int, folder: Path, workers: int) -> dict[str, Score]:
    """By task, but for `stand` itself: how often it stands where it is told to."""
    tasks = [task for task in tasks if task != STAND]
    jobs = [
        Told(player, task, first, min(_SHARD, episodes - first), str(folder / f"{task}-{first:05d}.json"))
        for task in tasks
        for first in range(0, episodes, _SHARD)
    ]
    missing = [job for job in jobs if job.read() is None]
    count = min(workers, max(1, len(missing)))
    for _ in parallel_map(play_told, missing, count, "told to stand", leave_interrupts_to_the_main_process):
        pass
    wins = {task: [win for job in jobs if job.task == task for win in job.read() or ()] for task in tasks}
    return {task: Score(sum(found), len(found)) for task, found in wins.items()}


def player_of(folder: str, label: str) -> Player:
    """A checkpoint as a player; one that reads the privileged state is shown no pictures.

    Raises:
        ValueError: no such folder, or no whole checkpoint in it.
    """
    player = find_player(folder)
    if "state" in player.reads:
        player = replace(player, reads=tuple(name for name in player.reads if name != "camera"))
    return replace(player, label=label)


def alone_results(
    template: str | None, tasks: Sequence[str], episodes: int, args: argparse.Namespace
) -> dict[str, Any]:
    """By task: the results of its own policy; a task whose folder is not there is left out, and said."""
    found = {}
    for task in tasks if template else ():
        folder = str(template).format(task=task)
        if not Path(folder).is_dir():
            print(f"{task}: no policy of its own in {folder}")
            continue
        config = BenchConfig((player_of(folder, f"{args.name}_{task}_alone"),), (task,), CELLS, episodes)
        found[task] = run(config, args.out / "episodes", args.workers)
    return found


def figures_of(
    results: BenchResults, told: Mapping[str, Score], alone: Mapping[str, BenchResults]
) -> dict[str, dict[str, Any]]:
    """By task, and for all of them together: successes and episodes of every column that was played."""
    policy, expert = results.players
    rows: dict[str, dict[str, Score]] = {}
    for task in results.tasks:
        row = {name: results.score(policy, [task], cell) for name, cell in zip(("seen", "unseen"), CELLS, strict=True)}
        row |= {"told_to_stand": told[task]} if task in told else {}
        row["expert"] = results.score(expert, [task], "nominal")
        if task in alone:
            own = alone[task]
            cells = zip(("alone_seen", "alone_unseen"), CELLS, strict=True)
            row |= {name: own.score(own.players[0], [task], cell) for name, cell in cells}
        rows[task] = row
    rows["all"] = {
        name: together([row[name] for row in rows.values() if name in row]) for name in COLUMNS if has_all(rows, name)
    }
    return {task: {name: asdict(score) for name, score in row.items()} for task, row in rows.items()}


def has_all(rows: Mapping[str, Mapping[str, Score]], name: str) -> bool:
    """Whether every task has this column, `stand` but for the one about the others."""
    return all(name in row for task, row in rows.items() if name != "told_to_stand" or task != STAND)


def together(scores: Sequence[Score]) -> Score:
    """All episodes of several tasks: with equally many of each, their mean."""
    return Score(sum(score.successes for score in scores), sum(score.episodes for score in scores))


def rows_of(figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The table for people."""
    return [
        [task.replace("_", " "), *(format_rate(*row[name].values()) if name in row else "-" for name in COLUMNS)]
        for task, row in figures.items()
    ]


def header_of(figures: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The table's first line; it says so where tasks have no policy of their own to be compared with."""
    missing = [task.replace("_", " ") for task, row in figures.items() if task != "all" and "alone_seen" not in row]
    return (f"incomplete, no own policy: {', '.join(missing)}", *HEADER[1:]) if missing else HEADER


def picture(figures: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A PNG: expert, seen and unseen wordings and the task's own policy, as bars with intervals by task."""
    shown = {"expert": "expert", "seen": "seen wordings", "unseen": "unseen wordings", "alone_seen": "own policy"}
    nothing = (math.nan,) * 3
    bars = {
        label: [Score(*row[name].values()).percent if name in row else nothing for row in figures.values()]
        for name, label in shown.items()
    }
    episodes = next(iter(figures.values()))["seen"]["episodes"]
    title = f"one policy for all, {episodes} episodes a task and wording, 95 % intervals"
    bar_plot(path, [task.replace("_", " ") for task in figures], bars, "success, %", title)


def main() -> None:
    """Play what is missing, print the table, and write it down at full size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", required=True, help="folder of the policy for all tasks")
    parser.add_argument("--alone", help="folder of a task's own policy, with {task} in it")
    parser.add_argument("--name", default="multitask_state", help="of the report; the preset's")
    parser.add_argument("--tasks", nargs="+", default=list(STANDING))
    parser.add_argument("--episodes", type=int, default=FULL, help="of each task and wording")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--out", type=Path, help="default: runs/multitask/bench/NAME")
    args = parser.parse_args()
    args.out = args.out or Path("runs/multitask/bench") / args.name
    try:
        player = player_of(args.policy, args.name)
        config = BenchConfig((player, EXPERT), tuple(args.tasks), CELLS, args.episodes)
        results = run(config, args.out / "episodes", args.workers)
        told = told_to_stand(player, args.tasks, args.episodes, args.out / "told" / args.name, args.workers)
        figures = figures_of(results, told, alone_results(args.alone, args.tasks, args.episodes, args))
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped; what was played is in {args.out}. The same line goes on.") from None
    header = header_of(figures)
    print(table(header, rows_of(figures)))
    full = tuple(args.tasks) == STANDING and args.episodes >= FULL
    path = (ROOT / "docs" if full else args.out) / f"{args.name}.png"
    picture(figures, path)
    if full:
        date = datetime.date.today().isoformat()
        print(f"Wrote {write_report(args.name, figures, header, rows_of(figures), date)}, RESULTS.md and {path}")
    else:
        print(f"Not written down: that takes all of {', '.join(STANDING)}, and {FULL} episodes.")


if __name__ == "__main__":
    main()

"""NeonBench's work: who plays, which episodes there are, and playing some of them into a file of their own."""

import hashlib
import json
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import gymnasium

from neon_sim.cells import CELLS, LASTING, WORDS, cell_options
from neon_sim.eval.evaluate import EvaluationJob, build_policy
from neon_sim.inference.references import REFERENCES
from neon_sim.inference.sb3_policy import POLICY_FILE, find_run, load_model
from neon_sim.model.backbones.trained import TRAINED_FILES
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.shipped import walker_fingerprint
from neon_sim.training.run_folder import MARKER

VERSION: Final = 3  # of the episodes: another one wherever what is played changes, so that old files are not taken up
FIRST_SEED: Final = 30_000_000  # episode i of every task and cell has the seed FIRST_SEED + i; no script trains on them
SHARD_EPISODES: Final = 20  # in one file
ROOM_EPISODES: Final = 5  # in a row that share an unseen room
_PARENTS: Final = 4  # folders above a checkpoint's that its name may take in


@dataclass(frozen=True)
class Player:
    """Somebody who is judged.

    label: its name in the report. policy: one of `REFERENCES`, or a checkpoint's folder. reads: sensors, and `WORDS` if
    it reads the instruction; references see the simulation's truth or nothing. mark: tells the same weights again.
    """

    label: str
    policy: str
    reads: tuple[str, ...] = ()
    control_mode: str = "arms_only"
    action_center: str = "home"
    mark: str = ""
    task: str | None = None  # the only one that it can do; None = any
    microphones: int = 1  # that it hears with


def find_player(policy: str, sensors: tuple[str, ...] | None = None) -> Player:
    """A reference by its name, or a checkpoint or a run of agents/train_ppo.py by its folder.

    sensors: what a checkpoint is given; None = all that it has encoders for, and the camera unless one of
    them is for the privileged state.

    Raises:
        ValueError: no such reference or folder, naming the nearest; a folder without a whole checkpoint.
    """
    if policy in REFERENCES:
        return Player(policy, policy, mark=policy)
    folder = Path(policy)
    if not folder.is_dir():
        raise nearest("policy (nor is it a folder)", policy, REFERENCES)
    run = find_run(folder)
    if run is not None:
        load_model(run)  # now, and not when all others have played: it may have no checkpoint yet
        name, mark = folder.resolve().name, _fingerprint((folder / MARKER, folder / POLICY_FILE))
        return Player(name, policy, run.sensors, run.control_mode, run.action_center, mark, run.task)
    model = _checkpoint(policy).model
    known = tuple(name for name in model.senses if name != "eef")  # it comes with proprio
    if "state" not in known:  # who knows the truth needs no eyes
        known = ("camera", *known)
    space = model.action_space
    return Player(
        label=folder.resolve().name,
        policy=policy,
        reads=(WORDS, *(known if sensors is None else sensors)),
        control_mode=str(space.control_mode),
        action_center=space.action_center,
        mark=_fingerprint(_played_files(folder)),
        microphones=model.config.microphones,
    )


def told_apart(players: Iterable[Player]) -> tuple[Player, ...]:
    """Players of whom no two folders have one name: of those that do, each gets its parent's name before its own.

    runs/a/policy and runs/b/policy play as a-policy and b-policy; as many parents are told as it takes.
    """
    players = tuple(players)
    shared = {name for name, count in Counter(player.label for player in players).items() if count > 1}
    for level in range(1, _PARENTS + 1):
        named = [_with_parents(player, level) if player.label in shared else player for player in players]
        if len({player.label for player in named}) == len(named):
            return tuple(named)
    return players


def _with_parents(player: Player, level: int) -> Player:
    """A player by the last `level` + 1 parts of its folder; a reference has none and stays."""
    if player.policy in REFERENCES:
        return player
    return replace(player, label="-".join(Path(player.policy).resolve().parts[-level - 1 :]))


@lru_cache(maxsize=2)
def _checkpoint(folder: str) -> Any:
    """A folder's policy, read once in each process; it remembers nothing from one episode to the next."""
    return build_policy(EvaluationJob("neonbench", folder, ()), None)


def _policy(player: Player, env: Any) -> Any:
    """What plays in this env: who looks at the env's truth is made for it."""
    if player.policy in REFERENCES or player.task is not None:
        return build_policy(EvaluationJob("neonbench", player.policy, ()), env)
    return _checkpoint(player.policy)


def _played_files(folder: Path) -> list[Path]:
    """A checkpoint's files but for its card, which changes nothing that is played."""
    beside = [folder / name for name in TRAINED_FILES]
    return [path for path in (*folder.iterdir(), *beside) if path.is_file() and path.name != "README.md"]


def _fingerprint(files: Iterable[Path]) -> str:
    """Changes when one of the files does."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Shard:
    """Episodes `first` to `first + count` of one player, task and cell, and the file that holds their results."""

    player: Player
    task: str
    cell: str
    first: int
    count: int
    path: str

    @property
    def mark(self) -> str:
        """Equal for two shards whose episodes begin alike: what is played, without how much of it."""
        player = self.player
        who = (player.mark, player.reads, player.control_mode, player.action_center)
        world = sorted(cell_options(self.cell, player.reads, microphones=player.microphones).items())
        played = (VERSION, walker_fingerprint(), who, self.task, world, self.first)
        return hashlib.sha256(repr(played).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class BenchEpisode:
    """How one episode ended. terminated: by a fall, or by a failure that the task does not forgive."""

    seed: int
    success: bool
    terminated: bool
    steps: int
    cpu_s: float  # of this process, without making the world


def shards_of(player: Player, task: str, cell: str, episodes: int, folder: Path) -> list[Shard]:
    """All of one player's work on a task and cell. More episodes are added at the end: the first ones stay the same."""
    stem = folder / player.label / f"{task}-{cell}"
    return [
        Shard(player, task, cell, first, min(SHARD_EPISODES, episodes - first), f"{stem}-{first:05d}.json")
        for first in range(0, episodes, SHARD_EPISODES)
    ]


def read_shard(shard: Shard) -> list[BenchEpisode] | None:
    """The shard's episodes if its file has them: all of them, of this very player and world. None = to be played."""
    path = Path(shard.path)
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored["mark"] != shard.mark or len(stored["episodes"]) < shard.count:
        return None
    return [BenchEpisode(**row) for row in stored["episodes"][: shard.count]]


def play_shard(shard: Shard) -> int:
    """Play a shard's episodes one after the other and write its file in one step. Returns how many there were."""
    results: list[BenchEpisode] = []
    episodes = range(shard.first, shard.first + shard.count)
    for room, group in groupby(episodes, key=lambda episode: _room(shard.cell, episode)):
        results += _play(shard, room, [FIRST_SEED + episode for episode in group])
    path = Path(shard.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    text = json.dumps({"mark": shard.mark, "episodes": [asdict(result) for result in results]}, indent=1)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    return len(results)


def _room(cell: str, episode: int) -> int:
    """The seed of the unseen room that an episode happens in; 0 where there is none."""
    return episode // ROOM_EPISODES if "scene" in CELLS[cell] else 0


def _play(shard: Shard, room: int, seeds: list[int]) -> list[BenchEpisode]:
    """Episodes in one world."""
    player = shard.player
    options = {**cell_options(shard.cell, player.reads, room, player.microphones), "task": shard.task}
    options |= {"control_mode": player.control_mode, "action_center": player.action_center}
    env: Any = gymnasium.make("NeonG1-v0", disable_env_checker=True, **options).unwrapped
    policy = _policy(player, env)
    results = []
    for seed in seeds:
        start_s = time.process_time()
        episode = rollout(env, policy, seed=seed, keep=(), stop_on_success=shard.task not in LASTING)
        spent_s = round(time.process_time() - start_s, 4)
        results.append(BenchEpisode(seed, episode.success, bool(episode.terminated[-1]), len(episode), spent_s))
    env.close()
    return results


def leave_interrupts_to_the_main_process() -> None:
    """Prepare a worker: Ctrl-C is for the main process to act on."""
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

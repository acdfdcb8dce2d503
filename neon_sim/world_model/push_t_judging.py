"""How often Push-T is solved: the published protocol, with the planner that is used everywhere here.

A goal is a picture of where recorded behaviour was 25 control steps later; 50 control steps to get there; five commands
of 0.5 s are planned at once, all of them carried out, then it is planned again. All problems are played side by side.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.eval.statistics import format_rate
from neon_sim.names import nearest
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.workers import parallel_map
from neon_sim.world_model.dataset import Rollouts, encode_rollouts
from neon_sim.world_model.lewm import WEIGHTS_FILE, LeWM, distance_to, latent_cost, load_world_model
from neon_sim.world_model.plan import Box
from neon_sim.world_model.planner import CEM
from neon_sim.world_model.probe import fit_linear_probe, score_probe
from neon_sim.world_model.push_t import PushT, picture, solved, turn
from neon_sim.world_model.push_t_data import BLOCK, COMMAND, PushTData, PushTProblem, find_problems
from neon_sim.world_model.push_t_pusher import ARM_PX, push_action

PLAYERS: Final = ("lewm", "oracle", "script", "recorded", "random")
FIRST_SEED: Final = 12_000_000  # of problems
_PER_SEED: Final = 100_000  # episodes that one seed has room for
# Problems, states so far (B, t + 1, 7) and actions so far (B, t, 2) -> the next actions (B, n, 2), n >= 1.
Player = Callable[[Sequence[PushTProblem], np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PushTJudging:
    """How it is planned; all but sigma as published."""

    samples: int = 300
    elites: int = 30
    iterations: int = 30
    sigma: float = 0.5  # of the first iteration, in actions of [-1, 1]; published 1 in actions of unit variance
    horizon: int = 5  # model steps
    budget: int = 50  # control steps
    image_size: int = 64

    def planner(self) -> CEM:
        """The planner with this budget."""
        return CEM(self.samples, self.iterations, self.elites, self.sigma)


_WHERE: Final = ("path", "model")  # of a job: where things lie says nothing about how it was played


@dataclass(frozen=True)
class PushTJob:
    """Some episodes of one player, and the file that keeps how they went."""

    path: str
    player: str
    model: str  # folder of a world model; only `lewm` opens it
    data: PushTData = PushTData()
    judging: PushTJudging = PushTJudging()
    seed: int = 0
    first: int = 0  # episode
    count: int = 20


def play(problems: Sequence[PushTProblem], player: Player, budget: int) -> list[dict[str, Any]]:
    """Let a player try all problems; one row each: whether and when it was solved, and what was missing at the end."""
    worlds = [PushT(problem.start) for problem in problems]
    states = np.stack([world.state for world in worlds])[:, None]
    actions = np.empty((len(problems), 0, 2))
    while actions.shape[1] < budget:
        for action in player(problems, states, actions).swapaxes(0, 1)[: budget - actions.shape[1]]:
            new = np.stack([world.step(a) for world, a in zip(worlds, action, strict=True)])
            states = np.concatenate([states, new[:, None]], axis=1)
            actions = np.concatenate([actions, action[:, None]], axis=1)
    return [row_of(problem, path) for problem, path in zip(problems, states, strict=True)]


def row_of(problem: PushTProblem, path: np.ndarray) -> dict[str, Any]:
    """What is kept of an episode: `path` (t + 1, 7) are its states. It counts as soon as it is solved once."""
    there = [solved(state, problem.goal) for state in path]
    return {
        "success": any(there),
        "steps": there.index(True) if any(there) else None,
        "pushes": problem.pushes,
        "off_px": float(np.linalg.norm(path[-1, :4] - problem.goal[:4])),
        "turn_deg": float(np.degrees(abs(turn(path[-1, 4], problem.goal[4])))),
    }


def latent_player(model: LeWM, judging: PushTJudging, seed: int) -> Player:
    """Plans in imagination. Of states it looks at pictures of them, a model step apart, and at nothing else."""

    @torch.no_grad()
    def player(problems: Sequence[PushTProblem], states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        size, history = judging.image_size, model.config.history
        seen = states[:, ::BLOCK][:, -history:]
        latents = model.encode(torch.from_numpy(np.stack([[picture(s, size) for s in path] for path in seen])))
        goals = model.encode(torch.from_numpy(np.stack([picture(p.goal, size) for p in problems]))[:, None])[:, 0]
        commands = torch.from_numpy(actions).float().unflatten(1, (-1, BLOCK)).flatten(2)
        past = commands[:, commands.shape[1] - (latents.shape[1] - 1) :]
        generator = torch.Generator().manual_seed(seed + actions.shape[1])
        box = Box.unit(COMMAND)
        start = box.center(len(problems), judging.horizon)
        cost = latent_cost(model, latents, past, distance_to(goals))
        plan = judging.planner().plan(cost, box, start, generator)
        return plan.actions.reshape(len(problems), -1, 2).numpy().astype(np.float64)

    return player


def oracle_player(judging: PushTJudging, seed: int) -> Player:
    """The same planner with the physics itself as the model and the true distance as the cost."""

    def player(problems: Sequence[PushTProblem], states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        box = Box.unit(COMMAND)
        generator = torch.Generator().manual_seed(seed + actions.shape[1])
        start = box.center(len(problems), judging.horizon)

        def cost(candidates: Tensor) -> Tensor:
            plans = candidates.reshape(*candidates.shape[:2], -1, 2).numpy().astype(np.float64)
            rows = zip(problems, states[:, -1], plans, strict=True)
            return torch.tensor([[_true_cost(now, plan, p.goal) for plan in tried] for p, now, tried in rows])

        plan = judging.planner().plan(cost, box, start, generator)
        return plan.actions.reshape(len(problems), -1, 2).numpy().astype(np.float64)

    return player


def _true_cost(state: np.ndarray, plan: np.ndarray, goal: np.ndarray) -> float:
    world = PushT(state)
    for action in plan:
        end = world.step(action)
    return float(np.square(end[:4] - goal[:4]).sum() + (ARM_PX * turn(end[4], goal[4])) ** 2)


def script_player(problems: Sequence[PushTProblem], states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """The script that knows the truth, without noise."""
    return np.stack([[push_action(now, p.goal)] for p, now in zip(problems, states[:, -1], strict=True)])


def recorded_player(problems: Sequence[PushTProblem], states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """What was done when the goal was recorded, then nothing: whether goals can be reached at all."""
    done = np.stack([p.actions for p in problems])[:, actions.shape[1] :]
    return done if done.shape[1] else np.zeros((len(problems), 1, 2))


def random_player(seed: int) -> Player:
    """Actions by chance, each held for half a second."""

    def player(problems: Sequence[PushTProblem], states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng([seed, actions.shape[1]])
        return rng.uniform(-1.0, 1.0, (len(problems), 1, 2)).repeat(BLOCK, axis=1)

    return player


def make_player(name: str, folder: Path, judging: PushTJudging, seed: int) -> Player:
    """A player by name, see PLAYERS. Raises ValueError for another name or a folder without a world model."""
    made: dict[str, Callable[[], Player]] = {
        "lewm": lambda: latent_player(load_world_model(folder), judging, seed),
        "oracle": lambda: oracle_player(judging, seed),
        "script": lambda: script_player,
        "recorded": lambda: recorded_player,
        "random": lambda: random_player(seed),
    }
    if name not in made:
        raise nearest("player", name, made)
    return made[name]()


def run_job(job: PushTJob) -> list[dict[str, Any]]:
    """Play a job's episodes, or read them if they were played; one row for each.

    A file belongs to settings and weights, not to a place: it may be moved, and so may the weights. Raises ValueError
    for one that was played with others.
    """
    settings = {name: value for name, value in asdict(job).items() if name not in _WHERE}
    path, described = Path(job.path), json.loads(json.dumps(settings))
    if job.player == "lewm":
        described["weights"] = hashlib.sha256((Path(job.model) / WEIGHTS_FILE).read_bytes()).hexdigest()[:12]
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["job"] != described:
            raise ValueError(f"{path} was played with other settings or weights. Remove it, or choose another --out.")
        return list(saved["rows"])
    torch.set_num_threads(1)
    first = FIRST_SEED + _PER_SEED * job.seed + job.first
    player = make_player(job.player, Path(job.model), job.judging, first)
    rows = play(find_problems(job.data, range(first, first + job.count)), player, job.judging.budget)
    replace_bytes(path, (json.dumps({"job": described, "rows": rows}) + "\n").encode())
    return rows


def judge(jobs: Sequence[PushTJob], workers: int) -> dict[str, dict[str, Any]]:
    """Play what is missing; figures by player."""
    rows = list(parallel_map(run_job, jobs, workers, "episodes"))
    names = list(dict.fromkeys(job.player for job in jobs))
    return {
        name: summary([row for job, part in zip(jobs, rows, strict=True) if job.player == name for row in part])
        for name in names
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plain numbers of episodes: success with its interval, of all and of those in which the block has to move."""
    pushed = [row for row in rows if row["pushes"]]
    successes, pushed_successes = (sum(row["success"] for row in part) for part in (rows, pushed))
    return {
        "episodes": len(rows),
        "successes": successes,
        "rate": successes / len(rows),
        "success": format_rate(successes, len(rows)),
        "success_where_the_block_moves": format_rate(pushed_successes, len(pushed)) if pushed else "no such episode",
        "off_px_median": float(np.median([row["off_px"] for row in rows])),
        "turn_deg_median": float(np.median([row["turn_deg"] for row in rows])),
    }


def player_jobs(
    player: str, model: Path, folder: Path, job: PushTJob, seeds: Sequence[int], each: int
) -> list[PushTJob]:
    """A player's work, `each` episodes for each seed; `job` has the settings. The same for any number of workers."""
    made = []
    for seed in seeds:
        for first in range(0, each, job.count):
            path = folder / player / f"seed{seed}_{first:04d}.json"
            count = min(job.count, each - first)
            made.append(
                replace(job, path=str(path), player=player, model=str(model), seed=seed, first=first, count=count)
            )
    return made


def probe_correlations(model: LeWM, train: Rollouts, test: Rollouts) -> dict[str, float]:
    """Pearson's r of linear probes on held-out episodes, as published: disc and block place, block angle."""
    z, labels = _labelled(model, train)
    z_test, labels_test = _labelled(model, test)
    found = score_probe(fit_linear_probe(z, labels), z_test, labels_test).pearson
    parts = {"agent": slice(0, 2), "block": slice(2, 4), "angle": slice(4, 6)}
    return {name: float(found[at].mean()) for name, at in parts.items()}


def probe_of_training(model: LeWM, train: Rollouts, test: Rollouts) -> dict[str, float]:
    """`probe_correlations` on some episodes: what a training prints on its way, a few seconds on a CPU."""
    some, others = (part.part(np.arange(min(most, len(part)))) for part, most in ((train, 100), (test, 50)))
    return {f"r_{name}": r for name, r in probe_correlations(model, some, others).items()}


def _labelled(model: LeWM, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
    states = torch.from_numpy(rollouts["states"]).flatten(0, 1)
    angle = states[:, 4:5]
    return encode_rollouts(model, rollouts).flatten(0, 1), torch.cat([states[:, :4], angle.cos(), angle.sin()], dim=1)

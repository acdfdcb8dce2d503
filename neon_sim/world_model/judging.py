"""Many trials: which seeds, what is counted, and whether the model orders plans as the world does."""

import datetime
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.eval.statistics import format_rate
from neon_sim.names import nearest
from neon_sim.shipped import asset_path, code_digest, walker_fingerprint
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.world_model.bundle import DESCRIPTION_FILE, PARTS_FILE, Bundle, load_bundle
from neon_sim.world_model.controllers import LatentController, PlanningConfig, Search, make_planners
from neon_sim.world_model.lewm import WEIGHTS_FILE
from neon_sim.world_model.plan import held
from neon_sim.world_model.probe import rank_correlation
from neon_sim.world_model.problems import NoProblemError, Problem, find_problem
from neon_sim.world_model.references import OracleController, make_controller
from neon_sim.world_model.report import commit
from neon_sim.world_model.trial import Trial, run_trial
from neon_sim.world_model.worlds import open_world

FIRST_SEED: Final = 11_000_000  # of problems, see `find_problem`
_PER_SEED: Final = 100_000  # episodes that one --seed has room for
_SHORT: Final = ("success", "passed", "steps", "start_distance", "nearest", "final", "fell", "decide_ms")
_WHERE: Final = ("path", "model")  # of a job: where things lie says nothing about how it was played
DRAWN_BY: Final = ("random", "cem")  # whose plans are put in order: chance's, or those that CEM asks about
# What an episode follows from besides settings, weights and walker: how problems are found, trials judged, tasks made,
# what a picture becomes, and how it is planned.
_TASKS: Final = ("navigate", "reach", "push_box", "boxes", "objects", "path", "arms", "palms")
_WORLD: Final = ("trial", "problems", "worlds", "rollouts", "command_space", "references")
_PLANS: Final = ("controllers", "planner", "plan", "lewm", "encoder", "predictor", "readout", "sight", "amortised")
_CODE: Final = (
    *(f"tasks/{name}.py" for name in _TASKS),
    *(f"world_model/{name}.py" for name in (*_WORLD, *_PLANS)),
    "vector_env/forks.py",
)
NO_PROBLEM: Final = "no_problem"  # key of a row that says why an episode was not played


@dataclass(frozen=True)
class TrialJob:
    """Some episodes of one cell, and the file that keeps how they went."""

    path: str
    model: str  # folder of a bundle
    controller: str
    planning: PlanningConfig = field(default_factory=PlanningConfig)
    world: str = "nominal"
    seed: int = 0
    first: int = 0  # episode
    count: int = 10

    @property
    def episodes(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True)
class RankJob:
    """Some problems at whose start plans are put in order, and the file that keeps the correlations."""

    path: str
    model: str
    planning: PlanningConfig = field(default_factory=PlanningConfig)
    plans: int = 64
    drawn_by: str = "random"  # one of DRAWN_BY
    seed: int = 0
    first: int = 0  # episode
    count: int = 5

    @property
    def episodes(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + self.count)


def model_folder(task: str, given: Path | None = None) -> Path:
    """The given folder, else one that was trained here, else the shipped one.

    Raises FileNotFoundError if there is none.
    """
    here = Path("runs") / f"world_model_{task}" / "world_model"
    if given is not None or here.exists():
        return given or here
    return asset_path(f"g1/world_models/{task}")


def problem_of(env: Any, bundle: Bundle, config: PlanningConfig, seed: int, episode: int) -> Problem:
    """The episode's problem for this kind of goal, the same for every controller.

    Raises NoProblemError if it has none, and ValueError for an episode that a seed has no room for.
    """
    if not 0 <= episode < _PER_SEED:
        raise ValueError(f"A seed has episodes 0 to {_PER_SEED - 1}, got {episode}. Take another seed.")
    number = FIRST_SEED + _PER_SEED * seed + episode
    return find_problem(env, bundle.space, number, config.goal_steps, told=config.goal == "instruction")


def run_job(job: TrialJob) -> list[dict[str, Any]]:
    """Play a job's episodes, or read them if they were played; returns one row for each.

    A row has `seed`, `episode` and what `row_of` keeps of a trial, or `no_problem`, the reason why there is none.
    """

    def play(bundle: Bundle) -> list[dict[str, Any]]:
        room = job.seed if job.world == "unseen_scenes" else 0  # in the other worlds a room is not drawn
        env = _opened(bundle.task, bundle.model.config.image_size, job.world, room)
        controller = make_controller(job.controller, env, bundle, job.planning, job.seed)

        def trial(problem: Problem) -> dict[str, Any]:
            return row_of(run_trial(env, bundle.space, problem, controller, job.planning))

        def found(*asked: Any) -> Problem:  # cells of the same problems follow each other
            key = (bundle.task, bundle.model.config.image_size, job.world, room, job.planning.goal_steps)
            key += (job.planning.goal == "instruction", *asked[3:])
            if key not in _FOUND:
                if len(_FOUND) >= _KEPT:
                    _FOUND.pop(next(iter(_FOUND)))
                _FOUND[key] = problem_of(*asked)
            return _FOUND[key]

        return each_problem(env, bundle, job.planning, job.seed, job.episodes, trial, found)

    return played_once(job, play)


_KEPT: Final = 32
_FOUND: dict[tuple[Any, ...], Problem] = {}  # the last problems of this process


def run_rank_job(job: RankJob) -> list[dict[str, Any]]:
    """`rank_of_plans` for a job's problems, or what is in its file: rows as of `run_job`, with `rho` or None."""

    def play(bundle: Bundle) -> list[dict[str, Any]]:
        env = _opened(bundle.task, bundle.model.config.image_size, "nominal", 0)

        def rank(problem: Problem) -> dict[str, Any]:
            rho = rank_of_plans(env, bundle, problem, job.planning, job.plans, problem.seed, job.drawn_by)
            return {"rho": rho if np.isfinite(rho) else None}

        return each_problem(env, bundle, job.planning, job.seed, job.episodes, rank)

    return played_once(job, play)


def each_problem(
    env: Any,
    bundle: Bundle,
    planning: PlanningConfig,
    seed: int,
    episodes: range,
    play: Callable[[Problem], dict[str, Any]],
    find: Callable[..., Problem] = problem_of,
) -> list[dict[str, Any]]:
    """A seed's episodes: what `play` gives for each, or why it has no problem, with `seed` and `episode` beside it.

    find: `problem_of`, or who has its problems already.
    """
    rows = []
    for episode in episodes:
        row: dict[str, Any] = {"seed": seed, "episode": episode}
        try:
            problem = find(env, bundle, planning, seed, episode)
        except NoProblemError as error:
            rows.append(row | {NO_PROBLEM: str(error)})
            continue
        rows.append(row | play(problem))
    return rows


def played_once(job: Any, play: Callable[[Bundle], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows in the job's file; if there is none, those that `play` makes with its world model, which are kept there.

    job: a dataclass with `path` and `model`. A file belongs to settings, weights, walker and the code that poses and
    judges problems, not to a place: it may be moved, and so may the weights. Raises ValueError for a file of others:
    what it says is not about this model in this world.
    """
    path, folder = Path(job.path), Path(job.model)
    settings = {name: value for name, value in asdict(job).items() if name not in _WHERE}
    described = json.loads(json.dumps(settings)) | {"weights": fingerprint(folder)}
    described |= {"walker": walker_fingerprint(), "code": code_digest(*_CODE)}
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["job"] != described:
            other = [name for name, value in described.items() if saved["job"].get(name) != value]
            raise ValueError(
                f"{path} was played with other settings or weights ({', '.join(other)}): {saved['job']}. Remove it, or "
                "keep what is to come in another folder."
            )
        return list(saved["rows"])
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = play(load_bundle(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"job": described, "seconds": round(time.perf_counter() - began, 2), "played": _now(), "rows": rows}
    replace_bytes(path, (json.dumps(kept) + "\n").encode())
    return rows


def stamp_of(path: Path) -> str:
    """The day on which a job's file was made, and the commit of the code: "2026-01-31, commit 1234567"."""
    return str(json.loads(path.read_text(encoding="utf-8"))["played"])


def _now() -> str:
    return f"{datetime.date.today().isoformat()}, commit {_begun_at()}"


@lru_cache
def _begun_at() -> str | None:
    """The commit of the code that this process runs: what is committed meanwhile it does not know."""
    return commit(Path(__file__).resolve().parent)


def seconds_of(path: Path) -> float | None:
    """How long the job took whose file this is; None if it was not played yet."""
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) if path.exists() else None


def fingerprint(folder: Path) -> str:
    """Of a bundle's weights and of what is written beside them: twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for name in (WEIGHTS_FILE, "config.json", PARTS_FILE, DESCRIPTION_FILE):
        path = folder / name
        digest.update(_file_digest(path, path.stat().st_mtime_ns))
    return digest.hexdigest()[:12]


@lru_cache(maxsize=64)
def _file_digest(path: Path, changed_ns: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


_OPEN: dict[tuple[str, int, str, int], Any] = {}  # the last env of this process


def _opened(task: str, size: int, world: str, room: int) -> Any:
    """An env like that of `open_world`, kept for the next job: an episode depends on its seed alone."""
    key = (task, size, world, room)
    if key not in _OPEN:
        for env in _OPEN.values():
            env.close()
        _OPEN.clear()
        _OPEN[key] = open_world(task, size, world, room)
    return _OPEN[key]


def row_of(trial: Trial) -> dict[str, Any]:
    """What is kept of a trial."""
    return {name: getattr(trial, name) for name in _SHORT}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plain numbers of some trials, given as `run_job` does: success with its interval, cm, ms.

    Rows without a problem are counted and left out. Raises ValueError if nothing was played.
    """
    played = [row for row in rows if NO_PROBLEM not in row]
    if not played:
        raise ValueError(" ".join([f"Of {len(rows)} episodes none had a problem.", *(r[NO_PROBLEM] for r in rows[:1])]))

    def centimetres(name: str) -> float:
        return 100.0 * float(np.median([row[name] for row in played]))

    decide_ms = np.concatenate([row["decide_ms"] for row in played])
    successes = sum(row["success"] for row in played)
    return {
        "episodes": len(played),
        "without_a_problem": len(rows) - len(played),
        "successes": successes,
        "rate": successes / len(played),
        "success": format_rate(successes, len(played)),
        "passed": sum(row["passed"] for row in played),
        "start_cm_median": centimetres("start_distance"),
        "nearest_cm_median": centimetres("nearest"),
        "final_cm_median": centimetres("final"),
        "falls": sum(row["fell"] for row in played),
        "decide_ms_p50": float(np.median(decide_ms)),
        "decide_ms_p99": float(np.quantile(decide_ms, 0.99)),
    }


def rank_of_plans(
    env: Any,
    bundle: Bundle,
    problem: Problem,
    config: PlanningConfig,
    plans: int,
    seed: int,
    drawn_by: str = "random",
) -> float:
    """Spearman's rho between what the world model and the world say that plans cost, at the problem's start.

    Costs the world `plans` rollouts. NaN if all cost the same. The env is left at the start. Raises ValueError for
    plans of nobody (DRAWN_BY).
    """
    if drawn_by not in DRAWN_BY:
        raise nearest("source of plans", drawn_by, DRAWN_BY)
    latent = LatentController(bundle, config)
    oracle = OracleController(env, bundle.space, config)
    for controller in (latent, oracle):
        controller.begin(problem)
        controller.see(problem.start, None)
    env.set_state(problem.state)
    if drawn_by == "cem":
        drawn = asked_plans(latent, config, plans, seed)
    else:
        generator = torch.Generator().manual_seed(seed)
        drawn = 2.0 * torch.rand(1, plans, config.horizon, bundle.space.dim, generator=generator) - 1.0
    with torch.no_grad():
        predicted = held(latent.cost(), config.hold)(drawn)
    truth = held(oracle.cost(), config.hold)(drawn)
    env.set_state(problem.state)
    return float(rank_correlation(predicted.numpy().astype(np.float64), truth.numpy().astype(np.float64))[0])


def asked_plans(latent: LatentController, config: PlanningConfig, plans: int, seed: int) -> Tensor:
    """Plans (1, `plans`, H, A) of those that CEM asks the world model about from here, evenly out of all iterations: so
    the late ones, which differ by little, are among them.
    """
    cost = latent.cost()
    asked: list[Tensor] = []

    def noted(candidates: Tensor) -> Tensor:
        asked.append(candidates[:, :, :: config.hold])
        return cost(candidates)

    Search(make_planners("cem", config), latent.bundle.space.dim, config, seed).find(noted)
    every = torch.cat(asked, dim=1)
    return every[:, torch.linspace(0, every.shape[1] - 1, plans).round().long()]

"""Many trials: which seeds, what is counted, and whether the model orders plans as the world does."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from neon_sim.eval.statistics import format_rate
from neon_sim.shipped import asset_path
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.world_model.bundle import PARTS_FILE, Bundle, load_bundle
from neon_sim.world_model.controllers import LatentController, OracleController, PlanningConfig, make_controller
from neon_sim.world_model.lewm import WEIGHTS_FILE
from neon_sim.world_model.plan import held
from neon_sim.world_model.probe import rank_correlation
from neon_sim.world_model.problems import Problem, find_problem
from neon_sim.world_model.trial import Trial, run_trial
from neon_sim.world_model.worlds import open_world

FIRST_SEED: Final = 11_000_000  # of problems, see `find_problem`
_PER_SEED: Final = 100_000  # episodes that one --seed has room for
_SHORT: Final = ("success", "steps", "start_distance", "nearest", "final", "fell", "decide_ms")


@dataclass(frozen=True)
class TrialJob:
    """Some episodes of one cell, and the file that keeps how they went."""

    path: str
    model: str  # folder of a bundle
    controller: str
    config: PlanningConfig = field(default_factory=PlanningConfig)
    world: str = "nominal"
    seed: int = 0
    first: int = 0  # episode
    count: int = 10


@dataclass(frozen=True)
class RankJob:
    """Some problems at whose start random plans are put in order, and the file that keeps the correlations."""

    path: str
    model: str
    config: PlanningConfig = field(default_factory=PlanningConfig)
    plans: int = 64
    seed: int = 0
    first: int = 0  # episode
    count: int = 5


def model_folder(task: str, given: Path | None = None) -> Path:
    """The given folder, else one that was trained here, else the shipped one.

    Raises FileNotFoundError if there is none.
    """
    here = Path("runs") / f"world_model_{task}" / "world_model"
    if given is not None or here.exists():
        return given or here
    return asset_path(f"g1/world_models/{task}")


def problem_of(env: Any, bundle: Bundle, config: PlanningConfig, seed: int, episode: int) -> Problem:
    """The episode's problem for this kind of goal; the same for every controller."""
    if not 0 <= episode < _PER_SEED:
        raise ValueError(f"A seed has episodes 0 to {_PER_SEED - 1}, got {episode}. Take another seed.")
    number = FIRST_SEED + _PER_SEED * seed + episode
    return find_problem(env, bundle.space, number, config.goal_steps, told=config.goal == "instruction")


def run_job(job: TrialJob) -> list[dict[str, Any]]:
    """Play a job's episodes, or read them if they were played; returns one row for each."""

    def play(bundle: Bundle) -> list[dict[str, Any]]:
        env = open_world(bundle.task, bundle.model.config.image_size, job.world, room=job.seed)
        try:
            controller = make_controller(job.controller, env, bundle, job.config, job.seed)
            problems = (
                problem_of(env, bundle, job.config, job.seed, job.first + episode) for episode in range(job.count)
            )
            return [row_of(run_trial(env, bundle.space, problem, controller, job.config)) for problem in problems]
        finally:
            env.close()

    return played_once(job, play)


def run_rank_job(job: RankJob) -> list[dict[str, Any]]:
    """`rank_of_plans` for a job's problems, or what is in its file; for each one row, {"rho": number or None}."""

    def play(bundle: Bundle) -> list[dict[str, Any]]:
        env, rows = open_world(bundle.task, bundle.model.config.image_size), []
        try:
            for episode in range(job.first, job.first + job.count):
                problem = problem_of(env, bundle, job.config, job.seed, episode)
                rho = rank_of_plans(env, bundle, problem, job.config, job.plans, problem.seed)
                rows.append({"rho": rho if np.isfinite(rho) else None})
        finally:
            env.close()
        return rows

    return played_once(job, play)


def played_once(job: Any, play: Callable[[Bundle], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows in the job's file; if there is none, those that `play` makes with its world model, which are kept there.

    job: a dataclass with `path` and `model`. Raises ValueError for a file of other settings or of another training's
    weights: what it says is not about this model.
    """
    path, folder = Path(job.path), Path(job.model)
    described = json.loads(json.dumps(asdict(job))) | {"weights": fingerprint(folder)}
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["job"] != described:
            raise ValueError(f"{path} was played with other settings or weights: {saved['job']}. Remove it.")
        return list(saved["rows"])
    torch.set_num_threads(1)
    rows = play(load_bundle(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(path, (json.dumps({"job": described, "rows": rows}) + "\n").encode())
    return rows


def fingerprint(folder: Path) -> str:
    """Of a bundle's weights: twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for name in (WEIGHTS_FILE, PARTS_FILE):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


def row_of(trial: Trial) -> dict[str, Any]:
    """What is kept of a trial."""
    return {name: getattr(trial, name) for name in _SHORT}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plain numbers of some trials, given as `run_job` does: success with its interval, cm, ms."""

    def centimetres(name: str) -> float:
        return 100.0 * float(np.median([row[name] for row in rows]))

    decide_ms = np.concatenate([row["decide_ms"] for row in rows])
    successes = sum(row["success"] for row in rows)
    return {
        "episodes": len(rows),
        "successes": successes,
        "rate": successes / len(rows),
        "success": format_rate(successes, len(rows)),
        "start_cm_median": centimetres("start_distance"),
        "nearest_cm_median": centimetres("nearest"),
        "final_cm_median": centimetres("final"),
        "falls": sum(row["fell"] for row in rows),
        "decide_ms_p50": float(np.median(decide_ms)),
        "decide_ms_p99": float(np.quantile(decide_ms, 0.99)),
    }


def summary_of_trials(trials: Sequence[Trial]) -> dict[str, Any]:
    """`summary` of trials."""
    return summary([row_of(trial) for trial in trials])


def rank_of_plans(env: Any, bundle: Bundle, problem: Problem, config: PlanningConfig, plans: int, seed: int) -> float:
    """Spearman's rho between what the world model and the world say that random plans cost, at the problem's start.

    Costs the world `plans` rollouts. NaN if all cost the same. The env is left at the start.
    """
    latent = LatentController(bundle, config)
    oracle = OracleController(env, bundle.space, config)
    for controller in (latent, oracle):
        controller.begin(problem)
        controller.see(problem.start, None)
    env.set_state(problem.state)
    generator = torch.Generator().manual_seed(seed)
    drawn = 2.0 * torch.rand(1, plans, config.horizon, bundle.space.dim, generator=generator) - 1.0
    with torch.no_grad():
        predicted = held(latent.cost(), config.hold)(drawn)
    truth = held(oracle.cost(), config.hold)(drawn)
    env.set_state(problem.state)
    return float(rank_correlation(predicted.numpy().astype(np.float64), truth.numpy().astype(np.float64))[0])

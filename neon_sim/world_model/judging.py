"""Many trials: which seeds, what is counted, and whether the model orders plans as the world does."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from neon_sim.eval.statistics import format_rate
from neon_sim.shipped import asset_path
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.world_model.bundle import Bundle, load_bundle
from neon_sim.world_model.controllers import LatentController, OracleController, PlanningConfig, make_controller
from neon_sim.world_model.plan import held
from neon_sim.world_model.probe import rank_correlation
from neon_sim.world_model.problems import Problem, find_problem, worded
from neon_sim.world_model.trial import Trial, run_trial
from neon_sim.world_model.worlds import open_world

FIRST_SEED: Final = 11_000_000  # no world model is trained on seeds from here on
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
    problem = find_problem(env, bundle.space, FIRST_SEED + _PER_SEED * seed + episode, config.goal_steps)
    return worded(env, bundle.space, problem) if config.goal == "instruction" else problem


def run_job(job: TrialJob) -> list[dict[str, Any]]:
    """Play a job's episodes, or read them if they were played; returns one row for each."""
    path = Path(job.path)
    described = asdict(job)
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["job"] != json.loads(json.dumps(described)):
            raise ValueError(f"{path} was played with other settings: {saved['job']}. Choose another folder.")
        return list(saved["rows"])
    torch.set_num_threads(1)
    bundle = load_bundle(Path(job.model))
    env = open_world(bundle.task, bundle.model.config.image_size, job.world, room=job.seed)
    controller = make_controller(job.controller, env, bundle, job.config, job.seed)
    try:
        rows = []
        for episode in range(job.first, job.first + job.count):
            problem = problem_of(env, bundle, job.config, job.seed, episode)
            rows.append(_row(run_trial(env, bundle.space, problem, controller, job.config)))
    finally:
        env.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(path, (json.dumps({"job": described, "rows": rows}) + "\n").encode())
    return rows


def _row(trial: Trial) -> dict[str, Any]:
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
    return summary([_row(trial) for trial in trials])


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

"""Many trials: which seeds, and what is counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from neon_sim.eval.statistics import format_rate
from neon_sim.shipped import asset_path
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.controllers import PlanningConfig
from neon_sim.world_model.played import played_once
from neon_sim.world_model.problems import NoProblemError, Problem, find_problem
from neon_sim.world_model.references import make_controller
from neon_sim.world_model.trial import Trial, run_trial
from neon_sim.world_model.worlds import open_world

FIRST_SEED: Final = 11_000_000  # of problems, see `find_problem`
_PER_SEED: Final = 100_000  # episodes that one --seed has room for
_SHORT: Final = ("success", "passed", "steps", "start_distance", "nearest", "final", "fell", "decide_ms")
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


_OPEN: dict[tuple[str, int, str, int], Any] = {}  # the last env of this process


def opened(task: str, size: int, world: str, room: int) -> Any:
    """An env like that of `open_world`, kept for the next job: an episode depends on its seed alone."""
    key = (task, size, world, room)
    if key not in _OPEN:
        for env in _OPEN.values():
            env.close()
        _OPEN.clear()
        _OPEN[key] = open_world(task, size, world, room)
    return _OPEN[key]


def run_job(job: TrialJob) -> list[dict[str, Any]]:
    """Play a job's episodes, or read them if they were played; returns one row for each.

    A row has `seed`, `episode` and what `row_of` keeps of a trial, or `no_problem`, the reason why there is none.
    """

    def play(bundle: Bundle) -> list[dict[str, Any]]:
        room = job.seed if job.world == "unseen_scenes" else 0  # in the other worlds a room is not drawn
        env = opened(bundle.task, bundle.model.config.image_size, job.world, room)
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

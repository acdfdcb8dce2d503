"""What a world model that learns while it plans gains and forgets: one life a seed in a broken body, arm beside arm.

Every arm meets the same problems in the same order and begins with the same weights, which then go on from episode to
episode. `frozen` does not adapt; `none` is not held; l2 and ewc are. (Online EWC is EWC as long as only one world has
been left behind.) Afterwards the body is made whole and the model that is left plans at home, without learning: what
was forgotten shows in success there, beside the error of its predictions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from forgetting_world import fault_of
from planning_time import time_left

from neon_sim.eval.regimes import regimes_by_name
from neon_sim.training.workers import parallel_map
from neon_sim.world_model.adapting import Life, LifeConfig, NoLifeError
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.controllers import LatentController, PlanningConfig
from neon_sim.world_model.judging import NO_PROBLEM, each_problem, row_of, summary
from neon_sim.world_model.played import played_once
from neon_sim.world_model.problems import Problem
from neon_sim.world_model.trial import run_trial
from neon_sim.world_model.worlds import open_world

ARMS: Final = ("frozen", "none", "l2", "ewc")
# Of `eval.regimes`: a bias of the arm that reaches, a rucksack for who walks, which is not calibrated for these tasks.
TROUBLE: Final = {"reach": "actuator_bias", "navigate": "payload", "push_box": "payload"}
EPISODE_S: Final = 6.0  # of one core, before any was played
HOME_FROM: Final = 50_000  # episodes of a seed that are played at home begin here: others than were lived through
LEARNED_BY: Final = (
    "world_model/adapt.py", "world_model/adapting.py", "training/protection/*.py", "training/ewc.py",
    "training/fisher.py", "eval/regimes.py",
)  # fmt: skip
NO_STRENGTHS: Final[Mapping[str, float]] = {}


@dataclass(frozen=True)
class LifeJob:
    """One arm's life with one seed, and the file that keeps how it went."""

    path: str
    model: str  # folder of a bundle
    arm: str
    regime: str
    planning: PlanningConfig = field(default_factory=lambda: PlanningConfig(execute=2))
    life: LifeConfig = field(default_factory=LifeConfig)  # its protection is the arm's
    seed: int = 0
    episodes: int = 10  # from 0
    home: int = 10  # episodes at home afterwards


def run_life(job: LifeJob) -> list[dict[str, Any]]:
    """Live it, or read it if it was lived: one row, {"trials", "home": rows as of `run_job`, "learned": figures}; or
    {"no_problem": why} if the robot falls too fast for a life.
    """

    def play(bundle: Bundle) -> list[dict[str, Any]]:
        env = open_world(bundle.task, bundle.model.config.image_size)
        try:
            return [_lived(env, bundle, job)]
        except NoLifeError as error:
            return [{NO_PROBLEM: str(error)}]
        finally:
            env.close()

    return played_once(job, play, LEARNED_BY)


def _lived(env: Any, bundle: Bundle, job: LifeJob) -> dict[str, Any]:
    life = Life(env, bundle, job.life)
    env.world.apply_fault(fault_of(regimes_by_name(bundle.task)[job.regime]))
    life.arrive(env)
    controller = LatentController(bundle, job.planning, seed=job.seed)
    if job.arm != "frozen":
        controller = life.controller(job.planning, seed=job.seed)

    def played_by(player: LatentController, episodes: range) -> list[dict[str, Any]]:
        def trial(problem: Problem) -> dict[str, Any]:
            return row_of(run_trial(env, bundle.space, problem, player, job.planning))

        return each_problem(env, bundle, job.planning, job.seed, episodes, trial)

    trials = played_by(controller, range(job.episodes))
    learned = life.learned(controller).as_figures()
    env.world.apply_fault(None)
    at_home = LatentController(controller.bundle, job.planning, seed=job.seed)  # what is left, and it learns no more
    home = played_by(at_home, range(HOME_FROM, HOME_FROM + job.home))
    return {"trials": trials, "home": home, "learned": learned}


def lives(
    task: str,
    model: Path,
    folder: Path,
    seeds: Sequence[int],
    episodes: int,
    strengths: Mapping[str, float] = NO_STRENGTHS,
) -> list[LifeJob]:
    """A task's work, arm by arm. episodes: of each seed, lived and at home alike. strengths: of springs, by arm."""
    jobs = []
    for arm in ARMS:
        life = LifeConfig("none" if arm == "frozen" else arm, strengths.get(arm))
        label = f"{arm}{life.strength:g}" if life.strength is not None else arm
        for seed in seeds:
            path = folder / f"{task}-life-{TROUBLE[task]}-{label}" / f"seed{seed}_{episodes}.json"
            jobs.append(
                LifeJob(
                    str(path), str(model), arm, TROUBLE[task], life=life, seed=seed, episodes=episodes, home=episodes
                )
            )
    return jobs


def measure_adaptation(
    models: Mapping[str, Path],
    folder: Path,
    seeds: Sequence[int],
    episodes: int,
    workers: int,
    strengths: Mapping[str, float] = NO_STRENGTHS,
) -> tuple[dict[str, Any], list[list[str]]]:
    """Figures by task and arm, and rows for people. episodes: of each seed. strengths: of springs, by arm; an arm that
    is not named has its strategy's own, which nobody tuned for a world model.
    """
    jobs = [job for task, model in models.items() for job in lives(task, model, folder, seeds, episodes, strengths)]
    # An episode plans 25 times, learns before each of these, and has its home and the recordings for its springs.
    work = [(EPISODE_S, [(Path(job.path), job.episodes + job.home) for job in jobs if job.arm == arm]) for arm in ARMS]
    print(time_left(work, workers), flush=True)
    played = list(zip(jobs, parallel_map(run_life, jobs, workers, "lives"), strict=True))
    figures: dict[str, Any] = {}
    rows = []
    for task in models:
        for arm in ARMS:
            mine = [found[0] for job, found in played if (job.model, job.arm) == (str(models[task]), arm)]
            label = f"{task}, cem in {TROUBLE[task]}, world model {_said(arm, strengths)}"
            if all(NO_PROBLEM in life for life in mine):
                rows.append([label, "no life: it falls at once", "", "", ""])
                continue
            figures[f"{task}-{arm}"] = row = arm_figures(mine) | {"strength": strengths.get(arm)}
            learned = f"error here {-100 * row['gain']:+.1f} %, at home {100 * row['forgetting']:+.1f} %"
            distance = f"{row['start_cm_median']:.0f} to {row['final_cm_median']:.1f} cm"
            rows.append([label, row["success"], learned, distance, f"{row['decide_ms_p50']:.0f} ms"])
            rows.append([f"{label}: at home after that", row["home"]["success"], "", "", ""])
    return {"adaptation": figures}, rows


def _said(arm: str, strengths: Mapping[str, float]) -> str:
    if arm == "frozen":
        return "frozen"
    if arm == "none":
        return "adapts, none"
    strength = f"strength {strengths[arm]:g}" if arm in strengths else "strength not tuned"
    return f"adapts, {arm}, {strength}"


def arm_figures(mine: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of `run_life`, one a seed, taken together: success over all episodes, then and at home, mean and worst of
    what was learned. Seeds without a life are counted and left out.
    """
    lived = [life for life in mine if NO_PROBLEM not in life]
    found = summary([row for life in lived for row in life["trials"]])
    forgetting = [life["learned"]["forgetting"] for life in lived]
    return found | {
        "home": summary([row for life in lived for row in life["home"]]),
        "lives": len(lived),
        "without_a_life": len(mine) - len(lived),
        "gain": float(np.mean([life["learned"]["gain"] for life in lived])),
        "forgetting": float(np.mean(forgetting)),
        "forgetting_worst": float(np.max(forgetting)),
        "updates": int(sum(life["learned"]["updates"] for life in lived)),
    }

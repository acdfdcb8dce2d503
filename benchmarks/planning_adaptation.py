"""What a world model that learns while it plans gains and forgets: one life a seed in a broken body, arm beside arm.

Every arm meets the same problems in the same order and begins with the same weights, which then go on from episode to
episode. `frozen` does not adapt; `none` is not held; l2 and ewc are. (Online EWC is EWC as long as only one world has
been left behind.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from forgetting_world import fault_of

from neon_sim.eval.regimes import REGIMES
from neon_sim.training.workers import parallel_map
from neon_sim.world_model.adapting import Life, LifeConfig
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.controllers import LatentController, PlanningConfig
from neon_sim.world_model.judging import played_once, problem_of, row_of, summary
from neon_sim.world_model.trial import run_trial
from neon_sim.world_model.worlds import open_world

ARMS: Final = ("frozen", "none", "l2", "ewc")
TROUBLE: Final = {"reach": "actuator_bias", "navigate": "payload", "push_box": "payload"}  # of `eval.regimes`
_REGIMES: Final = {regime.name: regime for regime in REGIMES["reach"]}


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
    episodes: int = 10


def run_life(job: LifeJob) -> list[dict[str, Any]]:
    """Live it, or read it if it was lived: one row, {"trials": rows as of `run_job`, "learned": figures}."""

    def play(bundle: Bundle) -> list[dict[str, Any]]:
        env = open_world(bundle.task, bundle.model.config.image_size)
        try:
            life = Life(env, bundle, job.life)
            env.world.apply_fault(fault_of(_REGIMES[job.regime]))
            life.arrive(env)
            controller = LatentController(bundle, job.planning, seed=job.seed)
            if job.arm != "frozen":
                controller = life.controller(job.planning, seed=job.seed)
            trials = []
            for episode in range(job.episodes):
                problem = problem_of(env, bundle, job.planning, job.seed, episode)
                trials.append(row_of(run_trial(env, bundle.space, problem, controller, job.planning)))
            return [{"trials": trials, "learned": life.learned(controller).as_figures()}]
        finally:
            env.close()

    return played_once(job, play)


def lives(task: str, model: Path, folder: Path, seeds: Sequence[int], episodes: int) -> list[LifeJob]:
    """A task's work, arm by arm."""
    return [
        LifeJob(
            str(folder / f"{task}-life-{TROUBLE[task]}-{arm}" / f"seed{seed}.json"),
            str(model),
            arm,
            TROUBLE[task],
            life=LifeConfig("none" if arm == "frozen" else arm),
            seed=seed,
            episodes=episodes,
        )
        for arm in ARMS
        for seed in seeds
    ]


def measure_adaptation(
    models: Mapping[str, Path], folder: Path, seeds: Sequence[int], episodes: int, workers: int
) -> tuple[dict[str, Any], list[list[str]]]:
    """Figures by task and arm, and rows for people. episodes: of each seed."""
    jobs = [job for task, model in models.items() for job in lives(task, model, folder, seeds, episodes)]
    played = list(zip(jobs, parallel_map(run_life, jobs, workers, "lives"), strict=True))
    figures: dict[str, Any] = {}
    rows = []
    for task in models:
        for arm in ARMS:
            mine = [found[0] for job, found in played if (job.model, job.arm) == (str(models[task]), arm)]
            figures[f"{task}-{arm}"] = row = arm_figures(mine)
            label = f"{task}, cem in {TROUBLE[task]}, world model {'frozen' if arm == 'frozen' else f'adapts, {arm}'}"
            learned = f"error here {-100 * row['gain']:+.1f} %, at home {100 * row['forgetting']:+.1f} %"
            distance = f"{row['start_cm_median']:.0f} to {row['final_cm_median']:.1f} cm"
            rows.append([label, row["success"], learned, distance, f"{row['decide_ms_p50']:.0f} ms"])
    return {"adaptation": figures}, rows


def arm_figures(mine: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of `run_life`, one a seed, taken together: success over all episodes, mean and worst of what was learned."""
    found = summary([row for life in mine for row in life["trials"]])
    forgetting = [life["learned"]["forgetting"] for life in mine]
    return found | {
        "lives": len(mine),
        "gain": float(np.mean([life["learned"]["gain"] for life in mine])),
        "forgetting": float(np.mean(forgetting)),
        "forgetting_worst": float(np.max(forgetting)),
        "updates": int(sum(life["learned"]["updates"] for life in mine)),
    }

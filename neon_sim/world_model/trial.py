"""One problem, one controller, the live env: how it went."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neon_sim.world_model.command_space import CommandSpace
from neon_sim.world_model.controllers import Controller, PlanningConfig
from neon_sim.world_model.problems import HELD_STEPS, Problem
from neon_sim.world_model.worlds import Moment, apart, moment, outcome, step_world


@dataclass(frozen=True)
class Trial:
    """What happened."""

    success: bool  # within the task's `goal_near` of the goal for 0.3 s, in the budget
    steps: int  # model steps until then, or until the end
    start_distance: float  # m
    nearest: float  # m, the smallest distance on the way
    final: float  # m
    fell: bool
    decide_ms: list[float] = field(default_factory=list)  # of each decision, with the look that it rests on
    frames: list[np.ndarray] = field(default_factory=list)  # what was seen, if it was asked for
    imagined: list[np.ndarray | None] = field(default_factory=list)  # (D,) latent that was imagined for each frame


def run_trial(
    env: Any, space: CommandSpace, problem: Problem, controller: Controller, config: PlanningConfig, film: bool = False
) -> Trial:
    """Try to reach the problem's goal within the budget. The env is set to the problem's start first."""
    env.set_state(problem.state)
    obs, seen = dict(problem.obs), problem.start
    controller.begin(problem)
    looked_ms = _timed_see(controller, seen, None)
    distances, decide_ms, frames = [_off(space, seen, problem)], [], [seen.frame]
    imagined: list[np.ndarray | None] = [None]
    held, steps, fell = 0, 0, False
    queue: list[np.ndarray] = []
    told: list[np.ndarray | None] = []
    while steps < config.budget_steps and held < HELD_STEPS and not fell:
        if not queue:
            began = time.perf_counter()
            queue = list(controller.decide())
            decide_ms.append(looked_ms + 1e3 * (time.perf_counter() - began))
            told = _told(controller, len(queue))
        command, told_now = queue.pop(0), told.pop(0)
        obs, fell = step_world(env, space, command, obs)
        seen = moment(env, obs)
        steps += 1
        distances.append(_off(space, seen, problem))
        held = held + 1 if distances[-1] <= space.goal_near and not fell else 0
        looked_ms = _timed_see(controller, seen, command)
        if film:
            frames.append(seen.frame)
            imagined.append(told_now)
    return Trial(
        success=held >= HELD_STEPS,
        steps=steps,
        start_distance=distances[0],
        nearest=min(distances),
        final=distances[-1],
        fell=fell,
        decide_ms=decide_ms,
        frames=frames if film else [],
        imagined=imagined if film else [],
    )


def _timed_see(controller: Controller, seen: Moment, command: np.ndarray | None) -> float:
    began = time.perf_counter()
    controller.see(seen, command)
    return 1e3 * (time.perf_counter() - began)


def _off(space: CommandSpace, seen: Moment, problem: Problem) -> float:
    return apart(outcome(space, seen), problem.wanted)


def _told(controller: Controller, steps: int) -> list[np.ndarray | None]:
    """What the controller imagined for each of the next steps, if it imagines."""
    latents = getattr(controller, "imagined", None)
    if latents is None:
        return [None] * steps
    return list(latents[:steps].float().numpy())

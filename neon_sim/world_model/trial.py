"""One problem, one controller, the live env: how it went.

A goal is reached when, for three model steps on end (0.3 s), what the task is about (`worlds.outcome`: both palms, the
pelvis over the floor, the box) is within the task's `goal_near` of it (reach 5 cm, navigate 20 cm, push_box 8 cm) and,
over these 0.3 s, has moved at 0.15 m/s at most: who only passes through has not arrived. Falling ends a trial. The
tasks' own success (`info["success"]`) is another one: it asks for their marker, ball or zone, which a goal is not.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neon_sim.world_model.command_space import STEP_S, CommandSpace
from neon_sim.world_model.controllers import Controller, PlanningConfig
from neon_sim.world_model.problems import HELD_STEPS, STILL, Problem
from neon_sim.world_model.worlds import Moment, apart, moment, outcome, step_world

Imagined = tuple[np.ndarray | None, np.ndarray | None]  # latents (D,): of one moment, and of the end of its plan


@dataclass(frozen=True)
class Trial:
    """What happened."""

    success: bool  # near the goal and still for 0.3 s, within the budget: see above
    passed: bool  # near it for 0.3 s, however fast
    steps: int  # model steps until then, or until the end
    start_distance: float  # m
    nearest: float  # m, the smallest distance on the way
    final: float  # m
    fell: bool
    decide_ms: list[float] = field(default_factory=list)  # of each decision, with the look that it rests on
    frames: list[np.ndarray] = field(default_factory=list)  # what was seen, if it was asked for
    imagined: list[np.ndarray | None] = field(default_factory=list)  # (D,) latent that was imagined for each frame
    foreseen: list[np.ndarray | None] = field(default_factory=list)  # (D,) where the plan of then was to end


def run_trial(
    env: Any, space: CommandSpace, problem: Problem, controller: Controller, config: PlanningConfig, film: bool = False
) -> Trial:
    """Try to reach the problem's goal within the budget. The env is set to the problem's start first."""
    env.set_state(problem.state)
    obs, seen = dict(problem.obs), problem.start
    controller.begin(problem)
    looked_ms = _timed_see(controller, seen, None)
    way, decide_ms = Way(space, problem), []
    queue: list[np.ndarray] = []
    frames: list[np.ndarray] = [seen.frame]
    imagined: list[Imagined] = [(None, None)]
    told: list[Imagined] = []
    while way.steps < config.budget_steps and not way.arrived and not way.fell:
        if not queue:
            began = time.perf_counter()
            queue = list(controller.decide())
            decide_ms.append(looked_ms + 1e3 * (time.perf_counter() - began))
            told = _told(controller, len(queue)) if film else []
        command = queue.pop(0)
        obs, fell = step_world(env, space, command, obs)
        seen = moment(env, obs)
        way.go(seen, fell)
        looked_ms = _timed_see(controller, seen, command)
        if film:
            frames.append(seen.frame)
            imagined.append(told.pop(0))
    filmed: dict[str, Any] = {}
    if film:
        filmed = {"frames": frames, "imagined": [now for now, _ in imagined], "foreseen": [end for _, end in imagined]}
    return Trial(**way.as_fields(), decide_ms=decide_ms, **filmed)


class Way:
    """Where what the task is about has been, and what counts of that.

    Attributes:
        distances: m from the goal at the start and after each step.
        fell: whether the last step ended in a fall.
    """

    def __init__(self, space: CommandSpace, problem: Problem) -> None:
        self._space, self._wanted = space, problem.wanted
        self._places = [outcome(space, problem.start)]
        self.distances = [apart(self._places[0], problem.wanted)]
        self.fell, self._near = False, 0  # model steps on end near the goal
        self._passed = False

    def go(self, seen: Moment, fell: bool) -> None:
        """One model step was made."""
        self._places.append(outcome(self._space, seen))
        self.distances.append(apart(self._places[-1], self._wanted))
        self.fell = fell
        self._near = self._near + 1 if self.distances[-1] <= self._space.goal_near and not fell else 0
        self._passed = self._passed or self._near >= HELD_STEPS

    @property
    def steps(self) -> int:
        """Model steps made."""
        return len(self._places) - 1

    @property
    def arrived(self) -> bool:
        """Near for 0.3 s, and still."""
        if self._near < HELD_STEPS:
            return False
        return apart(self._places[-1], self._places[-1 - HELD_STEPS]) <= STILL * HELD_STEPS * STEP_S

    def as_fields(self) -> dict[str, Any]:
        """What a `Trial` says of it."""
        return {
            "success": self.arrived,
            "passed": self._passed,
            "steps": self.steps,
            "start_distance": self.distances[0],
            "nearest": min(self.distances),
            "final": self.distances[-1],
            "fell": self.fell,
        }


def _timed_see(controller: Controller, seen: Moment, command: np.ndarray | None) -> float:
    began = time.perf_counter()
    controller.see(seen, command)
    return 1e3 * (time.perf_counter() - began)


def _told(controller: Controller, steps: int) -> list[Imagined]:
    """What the controller imagined for each of the next steps, and for the end of its plan, if it imagines."""
    latents = getattr(controller, "imagined", None)
    if latents is None:
        return [(None, None)] * steps
    found = latents.float().numpy()
    return [(latent, found[-1]) for latent in found[:steps]]

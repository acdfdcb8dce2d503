"""Goals that can be reached: some way into an episode the world is saved, played on, and taken back.

Where it got to is the goal. Starts that already solve it, goals that are too near and falls are thrown away. The
protocol is the published one (a goal so many steps ahead in recorded behaviour), with a start that is the live env's,
and with behaviour that comes to rest at its end: who is asked to stand at a goal is shown somebody who stands there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from neon_sim.world_model.command_space import CommandSpace, at_rest, expert_command, palm_command
from neon_sim.world_model.rollouts import JUDGED_FROM, Behaviour, RolloutConfig
from neon_sim.world_model.worlds import Moment, apart, from_base, in_world, moment, outcome, step_world

TRUE_POSE: Final = "state_true_pose"  # a state, with the base pose told at every replan: no robot has that
GOALS: Final = ("state", TRUE_POSE, "image", "observation", "instruction")
HELD_STEPS: Final = 3  # model steps that a goal has to be held: 0.3 s
STILL: Final = 0.15  # m/s: what moves no faster stands; the task navigate's own limit, on the mean over the hold
REST_STEPS: Final = 8  # model steps of coming to rest before a goal: after 0.5 s one walker in four still goes
_ATTEMPTS: Final = 60
_LEAD_IN: Final = (5, 25)  # model steps before the start: from, below


class NoProblemError(ValueError):
    """Nothing moved far enough, or every attempt ended in a fall: this number has no problem."""


@dataclass(frozen=True)
class Problem:
    """Where it begins, and what is wanted."""

    seed: int
    state: Mapping[str, Any]  # of the env at the start
    obs: Mapping[str, np.ndarray]  # what is observed there
    start: Moment
    goal: Moment
    wanted: np.ndarray  # (K, d) the goal's outcome
    instruction: str


def find_problem(env: Any, space: CommandSpace, seed: int, goal_steps: int, told: bool = False) -> Problem:
    """A start and a goal `goal_steps` model steps of behaviour away; the env is left at the start.

    told: the goal is what the instruction names instead (`worded`), at least as far from the start as any other goal.
    The same env options and seed give the same problem. Raises NoProblemError if nothing moves far enough.
    """
    for attempt in range(_ATTEMPTS):
        found = _drawn(env, space, seed, attempt, goal_steps)
        if found is None:
            continue
        problem = worded(env, space, found) if told else found
        if apart(outcome(space, problem.start), problem.wanted) >= space.goal_move:
            env.set_state(problem.state)
            return problem
    raise NoProblemError(
        f"No goal of {space.task} {goal_steps} steps away is {space.goal_move} m off. Look further ahead."
    )


def _drawn(env: Any, space: CommandSpace, seed: int, attempt: int, goal_steps: int) -> Problem | None:
    """A start and where behaviour got to from there; None if it fell."""
    rng = np.random.default_rng([seed, 29, attempt])
    obs, info = env.reset(seed=int(rng.integers(JUDGED_FROM, 2 * JUDGED_FROM)))
    behaviour = Behaviour(RolloutConfig(space.task), rng, "noisy")
    obs, ended = _play(env, space, behaviour, obs, int(rng.integers(*_LEAD_IN)))
    if ended:
        return None
    state, start, first = env.get_state(), moment(env, obs), obs
    obs, ended = _play(env, space, behaviour, obs, goal_steps, min(REST_STEPS, goal_steps // 2))
    if ended:
        return None
    goal = moment(env, obs)
    return Problem(seed, state, first, start, goal, outcome(space, goal), info["instruction"])


def _play(
    env: Any, space: CommandSpace, behaviour: Behaviour, obs: dict[str, np.ndarray], steps: int, rest: int = 0
) -> tuple[dict[str, np.ndarray], bool]:
    """So many steps, the last `rest` of them at rest."""
    command = np.zeros(space.dim)
    for step in range(steps):
        command = behaviour.command(env) if step < steps - rest else at_rest(space, command)
        obs, ended = step_world(env, space, command, obs)
        if ended:
            return obs, True
    return obs, False


def worded(env: Any, space: CommandSpace, problem: Problem) -> Problem:
    """The same start with the goal that the instruction names: the truth, to judge by. The env is left at the start."""
    env.set_state(problem.state)
    truth, start = env.privileged(), problem.start
    if space.task == "reach":
        wanted = space.to_units(palm_command(space, int(truth["hand"]), start.target)).reshape(2, 3)
    else:
        wanted = in_world(start.base, start.target[None, :2])
    return replace(problem, wanted=wanted)


def seen_from_base(space: CommandSpace, base: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A wanted outcome (K, d) as it is seen from a base pose (3,) of the same frame: that of reach is in the robot's
    frame already.
    """
    return wanted if space.task == "reach" else from_base(base, wanted)


def scripted_command(space: CommandSpace, env: Any, wanted: np.ndarray) -> np.ndarray:
    """What a script that knows the truth tells to get to `wanted` (K, d): the task's expert, its target put there."""
    if space.task == "reach":
        return space.from_units(wanted.ravel())
    color = env.privileged()["color"]
    body = f"{'marker' if space.task == 'navigate' else 'zone'}_{color}"
    height = env.world.object_pose(body)[0][2]
    env.world.place_object(body, np.array([*wanted[0], height]))
    return expert_command(space, env)

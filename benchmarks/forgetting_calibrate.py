"""How bad each regime is: raised within its limits until the frozen policy loses enough. Nothing is learned here.

Beside it stands what an expert attains that knows of the trouble and makes up for it: nobody can win back more than
the body allows. The numbers that come out are written into `neon_sim/eval/regimes.py` by hand, where they stand beside
their limits.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from forgetting_judge import TOGETHER, Judge
from forgetting_legs import residual_policy
from forgetting_tasks import subject_of
from forgetting_world import HeldLook, fault_of, look, open_env
from tqdm import tqdm

from neon_sim.eval.evaluate import EVALUATION_SEED
from neon_sim.eval.regimes import Regime, raise_severity, regimes_of
from neon_sim.eval.statistics import format_rate
from neon_sim.inference.references import ExpertPolicy
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout

CHOOSING_SEEDS = (100, 101, 102, 103, 104)  # settings are chosen on these and reported on others
ROOM = 1_000  # evaluation seeds that belong to each of them


def judging_seeds(seed: int, episodes: int) -> tuple[int, ...]:
    """Episodes that a life of this seed is judged by; no life plays them.

    Raises:
        ValueError: more than there are.
    """
    if not 1 <= episodes <= ROOM:
        raise ValueError(f"A seed has {ROOM} episodes to be judged by, got {episodes}.")
    first = EVALUATION_SEED + ROOM * (seed + 1)
    return tuple(range(first, first + episodes))


def calibrate(task: str, policy: Path, episodes: int) -> list[Regime]:
    """Raise every regime of a task; prints what was tried, and returns the regimes as they are settled.

    episodes: of each level, spread over the choosing seeds.
    """
    torch.set_num_threads(1)
    each = max(1, episodes // len(CHOOSING_SEEDS))
    seeds = [number for seed in CHOOSING_SEEDS for number in judging_seeds(seed, each)]
    actors = _frozen(task, policy, seeds)
    judge = Judge(task, actors, min(TOGETHER, len(seeds)))
    nominal, *troubles = regimes_of(task)

    def successes(regime: Regime) -> int:
        (found,) = judge.judge([regime], seeds)
        where = f"{regime.name}, {regime.knob} {regime.chosen:g}" if regime.fault else regime.name
        tqdm.write(f"{where}: {format_rate(found.successes, found.episodes)}, {found.falls} falls")
        return found.successes

    healthy, settled = successes(nominal), []
    for regime in tqdm(troubles, "regimes"):
        found = raise_severity(regime, lambda regime: (healthy - successes(regime)) / len(seeds))
        found = replace(found, episodes=len(seeds), attainable=attained(task, found, seeds[: len(seeds) // 3]))
        settled.append(found)
        losses = tuple((level, round(loss, 4)) for level, loss in found.losses)
        tqdm.write(f"  -> chosen={found.chosen:g}, counts={found.counts}, losses={losses}, episodes={len(seeds)},")
        tqdm.write(f"     attainable={found.attainable}")
    judge.close()
    return settled


def attained(task: str, regime: Regime, seeds: Sequence[int]) -> float | None:
    """Success (0-1) of the task's expert, told of the regime's faults; None where it cannot be told."""
    env = open_env(task)
    if not hasattr(env.task, "known_fault"):
        env.close()
        return None
    env.task.known_fault = fault_of(regime)
    env.world.apply_fault(env.task.known_fault)
    expert = ExpertPolicy(env)
    won = sum(rollout(env, expert, seed=seed, keep=(), stop_on_success=True).success for seed in seeds)
    env.close()
    return won / len(seeds)


def _frozen(task: str, policy: Path, seeds: Sequence[int]) -> Callable[[], Any]:
    if subject_of(task).legs:
        return lambda: residual_policy(policy)
    model = NeonVLA.from_pretrained(policy)
    looks = look(model, task, seeds)
    return lambda: HeldLook(model, looks)

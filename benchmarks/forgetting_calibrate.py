"""How bad each regime is: raised within its limits until the frozen policy loses enough. Nothing is learned here.

The numbers that come out are written into `neon_sim/eval/regimes.py` by hand, where they stand beside their limits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from forgetting_legs import residual_policy
from forgetting_tasks import subject_of
from forgetting_world import HeldLook, Judged, judge, look, open_env
from tqdm import tqdm

from neon_sim.eval.evaluate import EVALUATION_SEED
from neon_sim.eval.regimes import LEAST_LOSS, Regime, raise_severity, regimes_of
from neon_sim.eval.statistics import format_rate
from neon_sim.model.neon_vla import NeonVLA

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


def calibrate(task: str, policy: Path, episodes: int) -> list[dict[str, Any]]:
    """Raise every regime of a task; prints what was tried and returns one record per regime.

    episodes: of each level, spread over the choosing seeds.
    """
    torch.set_num_threads(1)
    each = max(1, episodes // len(CHOOSING_SEEDS))
    seeds = [number for seed in CHOOSING_SEEDS for number in judging_seeds(seed, each)]
    env, eyes = open_env(task), _frozen(task, policy, seeds)
    nominal = judge(env, eyes, regimes_of(task)[0], seeds)
    tqdm.write(f"nominal: {_rate(nominal)}")

    def lost(regime: Regime) -> float:
        found = judge(env, eyes, regime, seeds)
        tqdm.write(f"{regime.name}, {regime.knob} {regime.chosen:g}: {_rate(found)}, {found.falls} falls")
        return (nominal.successes - found.successes) / len(seeds)

    records = []
    for regime in regimes_of(task)[1:]:
        settled, tried = raise_severity(regime, lost)
        counts = tried[-1][1] >= LEAST_LOSS - 1e-9
        verdict = f"{'counts' if counts else 'no loss'} ({100 * tried[-1][1]:.0f} points)"
        tqdm.write(f"  -> chosen={settled.chosen:g}: {verdict}")
        records.append({"regime": regime.name, "chosen": settled.chosen, "counts": counts, "tried": tried})
    env.close()
    return records


def _frozen(task: str, policy: Path, seeds: Sequence[int]) -> Any:
    if subject_of(task).legs:
        return residual_policy(policy)
    model = NeonVLA.from_pretrained(policy)
    return HeldLook(model, look(model, task, seeds))


def _rate(judged: Judged) -> str:
    return format_rate(judged.successes, judged.episodes)

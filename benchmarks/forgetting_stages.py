"""The life of each arm of the forgetting benchmark: its stages, and the seed of each of their episodes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from forgetting_arms import Preset
from forgetting_calibrate import judging_seeds

from neon_sim.eval.regimes import Regime, life_order

LIFE_SEED: Final = 5_000_000  # demonstrations have 3 million and on, judged episodes 10 million and on
LIFE_ROOM: Final = 10_000  # episodes between two lives' first seeds


@dataclass(frozen=True)
class Stage:
    """A piece of a life between two judgements."""

    name: str
    regimes: tuple[int, ...]  # of each episode
    first_episode: int  # in the life: its seed follows from it
    anew: bool = False  # whether a learner that knows nothing of the stages before begins here
    taught: int | None = None  # the regime that an expert teaches here, where no episode is lived

    @property
    def regime(self) -> int | None:
        """The only one of the stage; None where several are mixed."""
        return self.taught if len(set(self.regimes)) != 1 else self.regimes[0]


def stages_of(plan: str, regimes: Sequence[Regime], preset: Preset, seed: int) -> list[Stage]:
    """What an arm lives through.

    plan: "sequence" = one unbroken life; "joint" = its episodes in one stage, the regimes mixed up; "fresh" = a new
    learner for the first visit to each trouble; "taught" = new heads for each trouble that may count, which an expert
    teaches; "short" = up to the second visit to nominal, to choose settings on.
    """
    life = _sequence(regimes, preset)
    if plan == "sequence":
        return life
    if plan == "short":
        return life[: len(regimes) + 1]
    if plan == "fresh":
        firsts = {stage.regimes[0]: stage for stage in reversed(life) if stage.regimes[0] != 0}
        return [replace(firsts[regime], anew=True) for regime in sorted(firsts)]
    if plan == "taught":
        counting = [j for j in range(1, len(regimes)) if regimes[j].counts is not False]
        return [Stage(regimes[j].name, (), 0, anew=True, taught=j) for j in counting]
    everything = np.concatenate([stage.regimes for stage in life])
    mixed = np.random.default_rng([seed, 3]).permutation(everything)
    return [Stage("all, mixed", tuple(int(regime) for regime in mixed), 0)]


def _sequence(regimes: Sequence[Regime], preset: Preset) -> list[Stage]:
    stages: list[Stage] = []
    begun = 0
    for regime in life_order(regimes):
        seen = any(stage.regimes[0] == regime for stage in stages)
        count = preset.again if seen else preset.first_visit
        name = f"{regimes[regime].name} again" if seen else regimes[regime].name
        stages.append(Stage(name, (regime,) * count, begun))
        begun += count
    return stages


def episodes_of_life(regimes: Sequence[Regime], preset: Preset) -> int:
    """Episodes of one unbroken life.

    Raises:
        ValueError: more than there are seeds between two lives.
    """
    count = sum(len(stage.regimes) for stage in _sequence(regimes, preset))
    if count > LIFE_ROOM:
        raise ValueError(f"A life may have {LIFE_ROOM} episodes, this preset's has {count}. Shorten its visits.")
    return count


def life_seed(seed: int, episode: int) -> int:
    """Of `env.reset`, for an episode of a life."""
    return LIFE_SEED + LIFE_ROOM * seed + episode


def all_seeds(regimes: Sequence[Regime], preset: Preset) -> list[int]:
    """Every episode that any arm lives or is judged by: what has to be looked at once."""
    count = episodes_of_life(regimes, preset)
    lived = [life_seed(seed, episode) for seed in preset.seeds for episode in range(count)]
    return lived + [number for seed in preset.seeds for number in judging_seeds(seed, preset.judged)]

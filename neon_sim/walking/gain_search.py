"""The base gait's gains by the cross-entropy method (Rubinstein 1999): try many, keep the best, look near them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from neon_sim.locomotion import gait
from neon_sim.locomotion.stepper import ACTION_SIZE, CONTROL_DT
from neon_sim.sim.randomize import NOMINAL
from neon_sim.walking.curriculum import EASY
from neon_sim.walking.world import WalkConfig, WalkWorld

_SMALL_COMMANDS: Final = replace(EASY, speed=(-0.2, 0.5, 0.2, 0.4), arm_speed=0.5, push=0.0)


@dataclass(frozen=True)
class SearchConfig:
    """Size of the search."""

    candidates: int = 384
    generations: int = 14
    elite: float = 0.125
    first_steps: int = 150  # length of a trial in the first generation
    more_steps: int = 25  # and how much it grows in each


def search_gains(
    config: SearchConfig, world: WalkConfig, seed: int, report: Callable[[int, float, float], None]
) -> np.ndarray:
    """Gains (18,) with which the base gait, all by itself, walks longest and nearest to small commands.

    `report` is called after each generation with its number, the elite's mean score and its mean time upright, s.
    """
    rng = np.random.default_rng(seed)
    trial = replace(
        world, count=config.candidates, models=0, randomization=NOMINAL, slopes=0.0, long_delays=0.0,
        delay_s=(0.0, 0.0), free_waist=1.0, standing=0.0, episode_s=1e6,
    )  # fmt: skip
    mean, spread = gait.START.copy(), gait.SPREAD.copy()
    kept = max(2, round(config.elite * config.candidates))
    for generation in range(config.generations):
        gains = rng.normal(mean, spread, (config.candidates, len(mean)))
        gains[0] = mean
        steps = config.first_steps + config.more_steps * generation
        score, upright = try_gains(trial, gains, steps, seed * 1000 + generation)
        best = np.argsort(score)[::-1][:kept]
        mean, spread = gains[best].mean(axis=0), gains[best].std(axis=0) + 0.03 * gait.SPREAD
        report(generation, float(score[best].mean()), float(upright[best].mean()) * CONTROL_DT)
    return mean


def try_gains(config: WalkConfig, gains: np.ndarray, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Score (B,) and steps upright (B,) of each row of gains (B, 18): one life each, of `steps` at most."""
    world = WalkWorld(config, gains, seed)
    world.follow_none()
    world.difficulty = _SMALL_COMMANDS
    alive = np.ones(config.count, dtype=bool)
    score, upright = np.zeros(config.count), np.zeros(config.count)
    nothing = np.zeros((config.count, ACTION_SIZE))
    for _ in range(steps):
        outcome = world.step(nothing)
        alive &= ~outcome.fell
        score += alive * (0.3 + outcome.reward)
        upright += alive
    world.close()
    return score / steps, upright

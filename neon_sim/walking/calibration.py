"""What to ask of a trained walker so that it goes as fast as it is told: measured on many robots, then turned round.

A policy that is rewarded for a commanded velocity, and for a few other things, ends a little below it. How much depends
on the command alone, so a table per axis takes it out.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from neon_sim.locomotion.network import WalkerWeights
from neon_sim.locomotion.posture import HEIGHT_RANGE
from neon_sim.locomotion.stepper import CONTROL_DT
from neon_sim.walking.curriculum import Difficulty
from neon_sim.walking.world import WalkConfig, WalkWorld

_ALONE: Final = Difficulty(push=0.0, punch=0.0, punched=0.0, arm_speed=2.0)
_LEAST_STEP: Final = 1e-3  # of a reached speed from one command to the next: a table must rise to be turned round


@dataclass(frozen=True)
class CalibrationConfig:
    """Size of the measurement."""

    commands: int = 11  # along each axis; odd, so that zero is one of them
    robots: int = 16  # for each
    settle_s: float = 4.0
    seconds: float = 8.0

    def __post_init__(self) -> None:
        if self.commands < 3 or self.commands % 2 == 0:
            raise ValueError(f"CalibrationConfig.commands wants an odd number of at least 3, got {self.commands}.")


def calibrate(
    weights: WalkerWeights, config: CalibrationConfig, world: WalkConfig, most: Difficulty, seed: int
) -> WalkerWeights:
    """The same walker, with the table of what it reaches.

    Args:
        weights: a walker whose own table is not used.
        config: how much is measured.
        world: of the training; without slopes and loads here.
        most: whose `speed` is the range of commands.
        seed: of the robots and their arms.
    """
    back, forward, side, turn = most.speed
    ranges = ((back, forward), (-side, side), (-turn, turn))
    asked = np.stack([_axis(low, high, config.commands) for low, high in ranges])
    reached = _reached(weights, asked, config, world, seed)
    reached[:, config.commands // 2] = 0.0  # told to stand it stands
    for axis in range(3):
        for index in range(1, config.commands):
            reached[axis, index] = max(reached[axis, index], reached[axis, index - 1] + _LEAST_STEP)
    return replace(weights, asked=asked, reached=reached)


def _axis(low: float, high: float, count: int) -> np.ndarray:
    """(count,) with zero in the middle, evenly spaced on either side of it."""
    half = count // 2 + 1
    return np.concatenate([np.linspace(low, 0.0, half), np.linspace(0.0, high, half)[1:]])


def _reached(
    weights: WalkerWeights, asked: np.ndarray, config: CalibrationConfig, world: WalkConfig, seed: int
) -> np.ndarray:
    """Mean speed (3, commands) of the robots that stayed up, along the axis that each command is about."""
    axes, count = np.arange(3).repeat(asked.shape[1] * config.robots), asked.size * config.robots
    command = np.zeros((count, 4))
    command[np.arange(count), axes] = asked.ravel().repeat(config.robots)
    command[:, 3] = np.tile(np.linspace(*HEIGHT_RANGE, config.robots), asked.size)
    lone = WalkWorld(
        replace(world, count=count, loaded=0.0, slopes=0.0, long_delays=0.0, episode_s=1e6), weights.gains, seed
    )
    lone.difficulty = _ALONE
    lone.follow_none()
    up, total = np.ones(count, dtype=bool), np.zeros(count)
    settle, steps = (round(s / CONTROL_DT) for s in (config.settle_s, config.seconds))
    for step in range(settle + steps):
        lone.orders.command[:], lone.orders.until[:] = command, np.inf
        up &= ~lone.step(weights.act(lone.observe()[0])).fell
        if step >= settle:
            total += lone.velocity()[np.arange(count), axes]
    lone.close()
    mean = np.where(up, total / steps, np.nan).reshape(3, -1, config.robots)
    lasted = np.isfinite(mean).sum(axis=2)
    return np.where(lasted > 0, np.nansum(mean, axis=2) / np.maximum(lasted, 1), asked)

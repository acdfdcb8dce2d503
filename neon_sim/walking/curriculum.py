"""The training's course: how life gets harder with the number of control steps lived."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np


@dataclass(frozen=True)
class Difficulty:
    """How hard life is."""

    speed: tuple[float, float, float, float] = (-0.7, 1.2, 0.5, 1.2)  # m/s back, forward, sideways; rad/s
    arm_speed: float = 2.5  # rad/s at most
    push: float = 0.4  # m/s at most, every 2 to 6 s
    punch: float = 0.0  # N, the ceiling; each is 0.4 to 1 of it
    punched: float = 0.75  # share of the robots that are
    gentle: float = 1.0  # how much of the penalties on speed and force counts
    strict: float = 1.0  # how much of the penalties on a wrong velocity counts


Stage = tuple[float, Difficulty]  # million control steps of all robots together, how hard life is then

BLOWS: Final = Difficulty(push=0.5, punch=520.0)
STRICT: Final = replace(BLOWS, punch=180.0)
TOUCH: Final = replace(BLOWS, punch=100.0, strict=0.6)
WALK: Final = Difficulty(punch=0.0, punched=0.0, gentle=0.5, strict=0.4)
EASY: Final = replace(WALK, speed=(-0.2, 0.4, 0.15, 0.4), arm_speed=1.0, push=0.1, gentle=0.1)

COURSE: Final[tuple[Stage, ...]] = (
    (0.0, EASY), (1.0, EASY), (6.0, WALK), (8.0, WALK), (10.0, TOUCH), (14.0, STRICT), (32.0, BLOWS)
)  # fmt: skip


def difficulty_at(course: Sequence[Stage], steps_m: float) -> Difficulty:
    """Linear between the course's stages; the last one stays."""
    at = [point for point, _ in course]
    return Difficulty(
        speed=tuple(float(np.interp(steps_m, at, [d.speed[i] for _, d in course])) for i in range(4)),  # type: ignore[arg-type]
        **{
            entry.name: float(np.interp(steps_m, at, [getattr(d, entry.name) for _, d in course]))
            for entry in fields(Difficulty)
            if entry.name != "speed"
        },
    )

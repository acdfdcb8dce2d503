"""The worlds of benchmarks/walking.py beside the nominal one: other physics, other robots, harder ground and senses."""

import math
from dataclasses import fields, replace
from typing import Final

from walking_episode import Condition

from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.randomize import NOMINAL, UNSEEN

UNSEEN_ROBOTS: Final = 16
SLOPE_DEGREES: Final = 10.0
NOISE_FACTORS: Final = (0.0, 2.0, 3.0)  # of the noise that every other row and the walker's training have
ENCODER_OFFSET: Final = 0.015  # rad; the end of the range that mjlab's velocity task draws from
RISES: Final = {  # where a slope rises: degrees to the left of where the robot faces at the start
    "ahead": 0.0,
    "ahead and to the left": 45.0,
    "to the left": 90.0,
    "behind": 180.0,
    "behind and to the right": 225.0,
    "to the right": 270.0,
}


def other_physics() -> list[Condition]:
    """Physics steps, friction cones and friction losses in all combinations; the nominal one comes first."""
    return [
        Condition(
            f"{1000 * physics_dt:g} ms, {'elliptic' if elliptic else 'pyramidal'}, friction loss {loss:g}",
            physics_dt=physics_dt,
            elliptic=elliptic,
            robot=replace(NOMINAL, friction_loss=(loss, loss)),
        )
        for physics_dt in (0.002, 0.005)
        for elliptic in (False, True)
        for loss in (0.0, 0.3)
    ]


def unseen_robots() -> list[Condition]:
    """Robots out of wider ranges than those of training."""
    return [Condition(f"unseen robot {i}", robot=UNSEEN, seed=i) for i in range(UNSEEN_ROBOTS)]


def hard_worlds(seed: int) -> list[Condition]:
    """The nominal world, then one thing changed at a time; `seed` draws the ground and the encoders' errors."""
    changed = {
        "friction 0.3": replace(NOMINAL, friction=(0.3, 0.3)),
        "friction 1.2": replace(NOMINAL, friction=(1.2, 1.2)),
        "8 kg on the torso": replace(NOMINAL, torso_payload=(8.0, 8.0)),
        "3 kg in each hand": replace(NOMINAL, hand_payload=(3.0, 3.0)),
        "motors 10 % weaker": replace(NOMINAL, motor_strength=(0.9, 0.9)),
    }
    slopes = [
        Condition(
            f"{SLOPE_DEGREES:g} degrees, rising {where}",
            ground="slope",
            slope_degrees=SLOPE_DEGREES,
            slope_heading=math.radians(angle),
        )
        for where, angle in RISES.items()
    ]
    return [
        Condition("nominal"),
        *slopes,
        Condition("steps of up to 4 cm", ground="steps", seed=seed),
        Condition("rough ground, 4 cm", ground="rough", seed=seed),
        *(Condition(label, robot=robot) for label, robot in changed.items()),
        Condition("targets 40 ms late", latency_steps=2),
        Condition("readings 20 ms late", sensing_s=0.02),
        *(Condition(f"sensor noise x {factor:g}", noise=factor) for factor in NOISE_FACTORS),
        Condition(f"encoders {ENCODER_OFFSET:g} rad off", encoder_offset=ENCODER_OFFSET, seed=seed),
    ]


def noise_text() -> str:
    """For below a table: the errors of the sensors."""
    sizes = ", ".join(f"{field.name} {getattr(SensorNoise(), field.name):g}" for field in fields(SensorNoise))
    return (
        f"Sensor noise of every control period, standard deviations, as in the walker's training: {sizes} (rad, rad/s)."
    )

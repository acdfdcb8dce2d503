"""Domain randomisation: every episode another robot on another floor, drawn with the episode's rng.

env = gymnasium.make("NeonG1-v0", task="stand", randomization=DomainRandomization())
_, info = env.reset(seed=0)
info["randomization"]["friction"], info["randomization"]["action_latency_s"]
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.names import require_kinds, require_spans
from neon_sim.sim.faults import LONGEST_LATENCY_S
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.randomize import TRAINING, ModelRandomization, Range, draw_model, draw_uniform

# Drawn in this order, after the model's own: how many numbers, and the range in which a range must lie.
_EXTRAS: Final[dict[str, tuple[int | None, float, float]]] = {
    "actuator_bias": (joints.NUM_JOINTS, -0.5, 0.5),
    "encoder_offset": (joints.NUM_JOINTS, -0.5, 0.5),
    "action_latency_s": (None, 0.0, LONGEST_LATENCY_S),
    "sensing_latency_s": (None, 0.0, LONGEST_LATENCY_S),
    "push_speed": (None, 0.0, 5.0),
    "push_interval_s": (None, 0.1, 1000.0),
    "floor_time_constant_s": (None, 0.002, 0.2),
    "noise_scale": (None, 0.0, 10.0),
}


@dataclass(frozen=True)
class DomainRandomization:
    """Ranges (low, high) of what differs from episode to episode; each is drawn uniformly, ends included.

    `replace(DomainRandomization(), push_speed=(0.0, 0.0))` switches one of them off. Where no source is given the range
    is a choice, not a measurement.

    Raises:
        ValueError: a range the wrong way round or out of bounds, naming the field, the value and what it may be.
    """

    model: ModelRandomization = TRAINING  # friction, masses, centre of mass, payloads, gains, strength, armature
    actuator_bias: Range = (-0.02, 0.02)  # rad, each joint: added to the target at the motor
    encoder_offset: Range = (-0.015, 0.015)  # rad, each joint: mjlab's velocity task, "encoder_bias"
    action_latency_s: Range = (0.0, 0.04)  # from the computer to the motors
    sensing_latency_s: Range = (0.0, 0.04)  # from encoders, motors and IMU to the computer; others have `latency_s`
    push_speed: Range = (0.0, 0.5)  # m/s; legged_gym pushes with up to 1.0, and unitree_rl_gym its G1 with up to 1.5
    push_interval_s: Range = (5.0, 10.0)  # unitree_rl_gym's G1: 5
    floor_time_constant_s: Range = (0.01, 0.04)  # of contacts under the soles; MuJoCo's default is 0.02
    # Of encoders and IMU, the key `imu` included; cameras, LiDAR and microphones have noise in configs of their own.
    # None = whatever noise the robot has anyway.
    noise: SensorNoise | None = field(default_factory=SensorNoise)
    noise_scale: Range = (0.5, 1.5)  # of the standard deviations of `noise`

    def __post_init__(self) -> None:
        require_kinds(self, model=ModelRandomization, noise=(SensorNoise, type(None)))
        require_spans(self, **{name: (least, most) for name, (_, least, most) in _EXTRAS.items()})


def draw_domain(rng: np.random.Generator, config: DomainRandomization) -> dict[str, np.ndarray]:
    """One episode's numbers by name: those of `draw_model`, then the config's other ranges, () or per joint (29,)."""
    values = draw_model(rng, config.model)
    for name, (size, _, _) in _EXTRAS.items():
        values[name] = draw_uniform(rng, getattr(config, name), size)
    return values


def as_info(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The same for `info["randomization"]`: plain floats, and copies of the arrays."""
    return {name: value.item() if value.ndim == 0 else value.copy() for name, value in values.items()}

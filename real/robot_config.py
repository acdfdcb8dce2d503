"""All settings of one robot: where it is, how it is commanded, when it stops."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from neon_sim.names import nearest
from neon_sim.real.control_config import SELF_DISTANCE, ControlConfig
from neon_sim.real.safety_stop import StopConfig
from neon_sim.real.senses import SenseSources, simulated_senses
from neon_sim.real.sport import LONGEST_VELOCITY_S
from neon_sim.real.state_faults import StateLimits
from neon_sim.real.transport import LinkConfig
from neon_sim.safety import SafetyConfig

CLOCKS: Final = ("real_time", "lock_step")
ABSENT: Final = ("refuse", "mask")
_SHORTEST_RAMP_S: Final = 1.0  # on a robot; our own choice
_LIMITS: Final = ("age_s", "tilt", "joint_speed", "gyro", "casing", "winding", "beyond_range", "clock_drift")


@dataclass(frozen=True)
class RobotConfig:
    """One G1 on a network.

    clock: "real_time" runs the control process; "lock_step" controls in this process, one message per control step,
    against a simulation whose time stands still in between. senses: where camera, LiDAR, microphone and so on are to be
    had; none by default, `senses.STOCK` for a G1 as it is sold. absent_senses: what becomes of an observation that this
    robot cannot make, "refuse" it or "mask" it with zeros. velocity_s: how long one velocity moves a robot on
    high_level, at most 1 s. home_speed: rad/s, of the arms on the way home in `reset`. wait_s: how long to wait for a
    first state, and for a first frame of each sense. priority: SCHED_FIFO priority of the control process, None = the
    system's own choice. log: folder of commands.jsonl and stops.jsonl, None keeps none.

    Raises ValueError for unknown names, and for a real robot with settings that only a simulation may have.
    """

    link: LinkConfig = field(default_factory=LinkConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    clock: str = "real_time"
    senses: SenseSources = field(default_factory=SenseSources)
    absent_senses: str = "refuse"
    velocity_s: float = LONGEST_VELOCITY_S
    home_speed: float = 0.5
    wait_s: float = 10.0
    priority: int | None = None
    log: Path | None = None

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS:
            raise nearest("clock", self.clock, CLOCKS)
        if self.absent_senses not in ABSENT:
            raise nearest("way with absent senses", self.absent_senses, ABSENT)
        if not 0.0 < self.velocity_s <= LONGEST_VELOCITY_S:
            raise ValueError(f"velocity_s must be in (0, {LONGEST_VELOCITY_S}], got {self.velocity_s}.")
        if not self.home_speed > 0.0 or not self.wait_s > 0.0:
            raise ValueError(f"home_speed and wait_s must be positive, got {self.home_speed} and {self.wait_s}.")
        if not self.link.on_loopback:
            self._refuse_simulations_settings()

    def _refuse_simulations_settings(self) -> None:
        control, limits, safety = self.control, self.control.limits, self.control.safety
        wrong = [
            *_beyond("limits.", limits, StateLimits(), _LIMITS),
            *_beyond("safety.", safety, SafetyConfig(), ("arm_speed", "waist_speed")),
            *_beyond("stop.", control.stop, StopConfig(), ("silence_s",)),
            *_beyond("", control, ControlConfig(), ("stall_s",)),
        ]
        if limits.charge < StateLimits.charge:
            wrong.append(f"limits.charge {limits.charge} (at least {StateLimits.charge})")
        if limits.leg_speed is not None and limits.leg_speed > limits.joint_speed:
            wrong.append(f"limits.leg_speed {limits.leg_speed} (None)")
        if any(np.greater(safety.max_velocity, SafetyConfig.max_velocity)):
            wrong.append(f"safety.max_velocity {safety.max_velocity} (at most {SafetyConfig.max_velocity})")
        if safety.self_distance < SELF_DISTANCE:
            wrong.append(f"safety.self_distance {safety.self_distance} (at least {SELF_DISTANCE})")
        if control.stop.ramp_s < _SHORTEST_RAMP_S:
            wrong.append(f"stop.ramp_s {control.stop.ramp_s} (at least {_SHORTEST_RAMP_S})")
        if self.clock != "real_time":
            wrong.append(f"clock {self.clock!r} (real_time)")
        if wrong:
            raise ValueError(f"On {self.link.interface!r} a real robot may be: not allowed there: {', '.join(wrong)}.")


def _beyond(part: str, config: object, default: object, names: Sequence[str]) -> list[str]:
    """Those of the named settings that are greater than by default, in words."""
    return [
        f"{part}{name} {getattr(config, name)} (at most {getattr(default, name)})"
        for name in names
        if getattr(config, name) > getattr(default, name)
    ]


def sim_bridge(
    domain: int = 1, path: str = "low_level", clock: str = "real_time", senses: Sequence[str] = ()
) -> RobotConfig:
    """Settings for the simulated robot on this machine. senses: those of it that are to be used (`SENSE_NAMES`).

    It stands when it is armed, so that there is no ramp; its walker's legs may be as quick as in simulation, where
    joint limits are soft; its time may lag behind the clock's when the machine is busy, and its control may stall.
    """
    limits = StateLimits(leg_speed=40.0, gyro=40.0, beyond_range=0.3, clock_drift=1.0)
    control = ControlConfig(path=path, stall_s=1.0, limits=limits, stop=replace(StopConfig(), ramp_s=0.0))
    return RobotConfig(LinkConfig(domain), control, clock, simulated_senses(senses))

"""All settings of one robot: where it is, how it is commanded, when it stops."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from neon_sim.names import nearest
from neon_sim.real.control_config import SELF_DISTANCE, ControlConfig
from neon_sim.real.safety_stop import StopConfig
from neon_sim.real.senses import SenseSources, simulated_senses
from neon_sim.real.sport import LONGEST_VELOCITY_S
from neon_sim.real.state_faults import StateLimits
from neon_sim.real.transport import LinkConfig

CLOCKS: Final = ("real_time", "lock_step")
ABSENT: Final = ("refuse", "mask")
_SHORTEST_RAMP_S: Final = 1.0  # on a robot; our own choice


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
        limits, vendor = self.control.limits, StateLimits()
        wrong = [
            f"limits.{name} {getattr(limits, name)} (at most {getattr(vendor, name)})"
            for name in ("age_s", "tilt", "joint_speed", "gyro", "casing", "winding", "beyond_range", "clock_drift")
            if getattr(limits, name) > getattr(vendor, name)
        ]
        if limits.leg_speed is not None and limits.leg_speed > limits.joint_speed:
            wrong.append(f"limits.leg_speed {limits.leg_speed} (None)")
        if self.control.stop.ramp_s < _SHORTEST_RAMP_S:
            wrong.append(f"stop.ramp_s {self.control.stop.ramp_s} (at least {_SHORTEST_RAMP_S})")
        if self.control.stall_s > ControlConfig.stall_s:
            wrong.append(f"stall_s {self.control.stall_s} (at most {ControlConfig.stall_s})")
        if self.control.safety.self_distance < SELF_DISTANCE:
            wrong.append(f"safety.self_distance {self.control.safety.self_distance} (at least {SELF_DISTANCE})")
        if self.clock != "real_time":
            wrong.append(f"clock {self.clock!r} (real_time)")
        if wrong:
            raise ValueError(f"On {self.link.interface!r} a real robot may be: not allowed there: {', '.join(wrong)}.")


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

"""How a robot's control makes messages of commands: its paths, rates and limits."""

from dataclasses import dataclass, field, replace
from typing import Final

from neon_sim.names import nearest
from neon_sim.real.command_paths import PATHS
from neon_sim.real.safety_stop import StopConfig
from neon_sim.real.state_faults import StateLimits
from neon_sim.safety import SafetyConfig

CONTROL_DT: Final = 0.02  # s; the walker and the env's commands
INTERPOLATIONS: Final = ("owned", "all", "none")
SELF_DISTANCE: Final = 0.01  # m, of `SafetyConfig`; on a robot no less


@dataclass(frozen=True)
class ControlConfig:
    """How commands become messages.

    path: "low_level" or "high_level" (`command_paths`). tick_s: s between two messages; divides 0.02 s.
    interpolate: which targets move in a straight line from one 50 Hz command to the next: those of joints that the env
    "owned", "all", or "none". The walker was trained with targets that are held, so its own are held by default.
    lead_s: how long before a control step the env is told that it is time: what it decides within that counts in it.
    stall_s: a control that got no processor for so long damps the robot instead of going on where it was; the robot's
    own watchdog may have done so already.
    """

    path: str = "low_level"
    tick_s: float = 0.002
    interpolate: str = "owned"
    lead_s: float = 0.008
    stall_s: float = 0.1
    safety: SafetyConfig = field(default_factory=lambda: SafetyConfig(self_distance=SELF_DISTANCE))
    limits: StateLimits = field(default_factory=StateLimits)
    stop: StopConfig = field(default_factory=StopConfig)

    def __post_init__(self) -> None:
        if self.path not in PATHS:
            raise nearest("command path", self.path, PATHS)
        if self.interpolate not in INTERPOLATIONS:
            raise nearest("interpolation", self.interpolate, INTERPOLATIONS)
        if not self.tick_s > 0.0 or abs(self.ticks * self.tick_s - CONTROL_DT) > 1e-9:
            raise ValueError(f"tick_s must divide {CONTROL_DT} s (500 Hz is 0.002), got {self.tick_s}.")
        if not 0.0 <= self.lead_s < CONTROL_DT:
            raise ValueError(f"lead_s must be in [0, {CONTROL_DT}) s, got {self.lead_s}.")
        if not self.stall_s > CONTROL_DT:
            raise ValueError(f"stall_s must be longer than a control step of {CONTROL_DT} s, got {self.stall_s}.")

    @property
    def ticks(self) -> int:
        """Ticks in one control step."""
        return round(CONTROL_DT / self.tick_s) if self.tick_s > 0.0 else 0


def lock_step(config: ControlConfig) -> ControlConfig:
    """The config with one message per control step, targets held: what a lock-step simulation wants."""
    return replace(config, tick_s=CONTROL_DT, interpolate="none", lead_s=0.0)

"""When an armed robot stops, and how it goes on from there: a state machine without a clock, a thread or a network.

By severity: a fault of the robot's state (too old, not a number, too fast, tilted, hot, a second writer) is damping at
once. An env process that falls silent is no reason to drop a standing robot: its arms are held and the walker keeps it
up; if the silence lasts, it is lowered and then damped, and a robot with a low battery is lowered at once. Nothing ever
resumes by itself: the vendor's own comment on its terminations is that a cable that comes back "will send a step signal
to the motors". Only `arm` leaves a stop.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from neon_sim.real.errors import NotArmedError


class Phase(IntEnum):
    """What the control process does now."""

    UNARMED = 0  # sends nothing
    RAMPING = 1  # gains and positions rise from where the robot is to the home pose
    STANDING = 2  # balances, arms held; the env has said that it pauses
    RUNNING = 3  # follows the env's commands
    HOLDING = 4  # the env is silent: balances, arms held, velocity zero
    LOWERING = 5  # still silent, or disarmed: the pelvis comes down
    DAMPING = 6  # brakes only, again and again


STOPPED = frozenset({Phase.HOLDING, Phase.LOWERING, Phase.DAMPING})  # left by `arm` only
MOVABLE = frozenset({Phase.STANDING, Phase.RUNNING})  # the env's commands are followed


@dataclass(frozen=True)
class StopConfig:
    """How long what may last, s. `lower_after_s`: how much longer the same
    silence must last until the held robot is lowered; infinite = hold until a person comes."""

    silence_s: float = 0.2  # the age of an action from which the env counts as silent
    lower_after_s: float = 1.0
    lower_s: float = 2.0  # the walker follows a height at 0.1 m/s, and has 0.125 m to go
    ramp_s: float = 3.0  # unitree_rl_gym takes 2 s to its first pose, lerobot 3 s

    def __post_init__(self) -> None:
        if not 0.0 < self.silence_s < math.inf:
            raise ValueError(f"silence_s must be positive and finite, got {self.silence_s}.")
        for name in ("lower_after_s", "lower_s", "ramp_s"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must be at least 0 s, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Stop:
    """Where the machine is, since when, and why."""

    phase: Phase = Phase.UNARMED
    since_s: float = -math.inf
    reasons: tuple[str, ...] = ()  # in words; what stopped it, kept until a person arms it again

    @property
    def armed(self) -> bool:
        """True when commands of the env move the robot, or will once the ramp is over."""
        return self.phase in MOVABLE or self.phase is Phase.RAMPING


def advance(stop: Stop, config: StopConfig, now_s: float, faults: Sequence[str], silence_s: float | None) -> Stop:
    """Let time pass.

    faults: what is wrong with the robot's state now, in words. silence_s: age of the env's newest command, infinite
    when its process is gone; None when it has said that it pauses.
    """
    if stop.phase in (Phase.UNARMED, Phase.DAMPING):
        return stop
    if faults:
        return Stop(Phase.DAMPING, now_s, tuple(faults))
    silent = silence_s is not None and not silence_s <= config.silence_s
    elapsed_s = now_s - stop.since_s
    if stop.phase is Phase.RAMPING:
        return Stop(Phase.STANDING, now_s) if elapsed_s >= config.ramp_s else stop
    if stop.phase in MOVABLE:
        return _follow(stop, now_s, silent, silence_s)
    if stop.phase is Phase.HOLDING:
        lasts = silent and not (silence_s or 0.0) <= config.silence_s + config.lower_after_s  # one silence, not two
        return Stop(Phase.LOWERING, now_s, stop.reasons) if lasts and elapsed_s >= config.lower_after_s else stop
    return Stop(Phase.DAMPING, now_s, stop.reasons) if elapsed_s >= config.lower_s else stop


def _follow(stop: Stop, now_s: float, silent: bool, silence_s: float | None) -> Stop:
    if silent:
        age_ms = 1e3 * (silence_s or 0.0)
        age = "the env's process is gone" if age_ms == math.inf else f"the newest is {age_ms:.0f} ms old"
        return Stop(Phase.HOLDING, now_s, (f"stale action: {age}",))
    wanted = Phase.STANDING if silence_s is None else Phase.RUNNING
    return stop if stop.phase is wanted else Stop(wanted, now_s)


def arm(stop: Stop, now_s: float, objections: Sequence[str]) -> Stop:
    """A person arms the robot. One that was held or lowered is still up and goes on standing; any other ramps up.

    Raises:
        NotArmedError: there are objections, and nothing has changed.
    """
    if objections:
        raise NotArmedError(objections, "arm")
    if stop.armed:
        return stop
    return Stop(Phase.STANDING if stop.phase in (Phase.HOLDING, Phase.LOWERING) else Phase.RAMPING, now_s)


def disarm(stop: Stop, now_s: float, reason: str = "disarmed") -> Stop:
    """A person, the end of the program or a low battery takes the robot down: lowered, then damped; damped at once
    in a ramp."""
    if stop.phase is Phase.RAMPING:
        return Stop(Phase.DAMPING, now_s, (reason,))
    if stop.phase in MOVABLE or stop.phase is Phase.HOLDING:
        return Stop(Phase.LOWERING, now_s, (reason,))
    return stop


def halt(stop: Stop, now_s: float, reason: str = "stopped by hand") -> Stop:
    """Damping now. A robot that was never armed gets no command at all."""
    return stop if stop.phase in (Phase.UNARMED, Phase.DAMPING) else Stop(Phase.DAMPING, now_s, (reason,))

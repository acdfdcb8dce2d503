"""The limits that hold in simulation and on hardware alike: a command in, a safe command out, and what was cut.

Pure functions: no clock and no state. The emergency stop on silence is the robot's watchdog, not here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.action_space import VELOCITY_NAMES, checked_max_velocity
from neon_sim.g1.self_distance import keep_apart
from neon_sim.names import require_numbers

_SLOWEST, _FASTEST = 1e-6, 1000.0  # rad/s that a config may name
_MOST_OF_ROOM: Final = 0.999  # of what the home pose leaves at the nearest end of a range
MOST_SELF_DISTANCE: Final = 0.03  # m; in the home pose the upper arms hang 0.033 m from the chest


@dataclass(frozen=True)
class SafetyConfig:
    """How fast and how far the robot may be asked to go; no value goes past the joint's own URDF speed or range.

    arm_speed, waist_speed: rad/s (2.0 for the arms is the documents' default). leg_speed: rad/s, None for each joint's
    URDF speed: legs that balance must be quick. position_margin: rad kept free at both ends of every range.
    max_velocity: m/s, m/s, rad/s that the walker may be asked for (the documents' 0.5 m/s and 1.0 rad/s).
    self_distance: m that targets keep between an arm and the rest of the robot (`g1.self_distance`), 0 = not watched.
    0.01 is what its shapes need in order to foresee every touch, and the default on the robot; it takes 0.3 ms a step.

    Raises ValueError for speeds that are not positive, and for a margin that shuts the home pose out.
    """

    arm_speed: float = 2.0
    waist_speed: float = 1.0
    leg_speed: float | None = None
    position_margin: float = 0.0
    max_velocity: tuple[float, float, float] = (0.5, 0.5, 1.0)
    self_distance: float = 0.0

    def __post_init__(self) -> None:
        _check(self)


class SafetyLimits:
    """`SafetyConfig` laid out per joint, once, for the 50 Hz loop. All arrays are read-only.

    Attributes: lower, upper (29,) rad; speed (29,) rad/s; velocity and lowest_velocity (3,) m/s, m/s, rad/s.
    """

    def __init__(self, config: SafetyConfig | None = None) -> None:
        config = config or SafetyConfig()
        speed = joints.SPEED.copy()
        for group, value in (("arms", config.arm_speed), ("waist", config.waist_speed), ("legs", config.leg_speed)):
            if value is not None:
                speed[joints.GROUPS[group]] = np.minimum(speed[joints.GROUPS[group]], value)
        self.config = config
        self.lower = joints.LOWER + config.position_margin
        self.upper = joints.UPPER - config.position_margin
        self.speed = speed
        self.velocity = np.array(checked_max_velocity(config.max_velocity))
        self.lowest_velocity = -self.velocity
        for array in (self.lower, self.upper, self.speed, self.velocity, self.lowest_velocity):
            array.flags.writeable = False
        self._owned: dict[tuple[bytes, float], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def of(self, owned_mask: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lower and upper limit (29,) rad and longest step of `dt` seconds (29,) rad; infinite where not owned."""
        key = owned_mask.tobytes(), dt
        if key not in self._owned:
            bounds = (self.lower, -np.inf), (self.upper, np.inf), (self.speed * dt, np.inf)
            lower, upper, step = (np.where(owned_mask, limit, endless) for limit, endless in bounds)
            self._owned[key] = lower, upper, step
        return self._owned[key]


@dataclass(frozen=True)
class SafetyReport:
    """What `limit` cut off one command. The masks are (..., 29), (..., 29), (..., 3) and (..., 29) bool."""

    position_mask: np.ndarray
    speed_mask: np.ndarray
    velocity_mask: np.ndarray
    distance_mask: np.ndarray

    @property
    def clipped(self) -> bool:
        """True when anything was cut."""
        return bool(self.position or self.speed or self.velocity or self.self_distance)

    @property
    def position(self) -> tuple[str, ...]:
        """Names of the joints asked to go out of range (in any row of a batch)."""
        return _named(self.position_mask, joints.JOINT_NAMES)

    @property
    def speed(self) -> tuple[str, ...]:
        """Names of the joints asked to go too fast (in any row of a batch)."""
        return _named(self.speed_mask, joints.JOINT_NAMES)

    @property
    def velocity(self) -> tuple[str, ...]:
        """Names of the velocity entries asked for too much (in any row of a batch)."""
        return _named(self.velocity_mask, VELOCITY_NAMES)

    @property
    def self_distance(self) -> tuple[str, ...]:
        """Names of the joints whose step would have brought an arm too near to the robot (in any row of a batch)."""
        return _named(self.distance_mask, joints.JOINT_NAMES)

    def as_info(self) -> dict[str, Any]:
        """The plain dict for `info["safety"]`: clipped (bool), and what was cut, by its name here (tuples of names)."""
        cut = {name: getattr(self, name) for name in CUT}
        return {"clipped": any(cut.values()), **cut}


CUT: Final = ("position", "speed", "velocity", "self_distance")  # what `limit` looks after


def limit(
    target: np.ndarray,
    previous_target: np.ndarray,
    owned_mask: np.ndarray,
    velocity: np.ndarray,
    limits: SafetyLimits,
    dt: float,
) -> tuple[np.ndarray, np.ndarray, SafetyReport]:
    """Cut a command to the robot's limits.

    target, previous_target: (..., 29) rad, hardware order: what is asked now, and what was really sent last time.
    owned_mask: (29,) bool; joints that the walker owns pass untouched. velocity: (..., 3). dt: s between the commands.
    Position is cut first and speed second: a joint that starts outside its range walks back in, it never jumps. Last
    comes the distance of the arms from the robot, which only shortens steps.
    Returns new arrays and the report. Raises ValueError, before anything moves, when a number is not finite.
    """
    if not all_finite(target, previous_target, velocity):
        raise _not_finite(target, previous_target, velocity)
    lower, upper, step = limits.of(owned_mask, dt)
    within = np.minimum(np.maximum(target, lower), upper)
    slow = np.minimum(np.maximum(within, previous_target - step), previous_target + step)
    safe_velocity = np.minimum(np.maximum(velocity, limits.lowest_velocity), limits.velocity)
    apart, held = _apart(slow, previous_target, owned_mask, limits.config.self_distance)
    return apart, safe_velocity, SafetyReport(within != target, slow != within, safe_velocity != velocity, held)


def _apart(
    target: np.ndarray, previous_target: np.ndarray, owned_mask: np.ndarray, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """`keep_apart` for (..., 29), if it is wanted at all."""
    if margin == 0.0:
        return target, np.zeros(target.shape, dtype=bool)
    rows = zip(target.reshape(-1, joints.NUM_JOINTS), previous_target.reshape(-1, joints.NUM_JOINTS), strict=True)
    kept, held = zip(*[keep_apart(row, before, owned_mask, margin) for row, before in rows], strict=True)
    return np.reshape(kept, target.shape), np.reshape(held, target.shape)


def all_finite(*arrays: np.ndarray) -> bool:
    """True when every entry of every float array is a finite number."""
    # A square sum is finite only if all entries are: one fast call. Huge but finite numbers take the slow road.
    for array in arrays:
        square = np.vdot(array, array)
        if not math.isfinite(square) and not np.isfinite(array).all():
            return False
    return True


def _not_finite(target: np.ndarray, previous_target: np.ndarray, velocity: np.ndarray) -> ValueError:
    bad = {
        "target of": _named(~np.isfinite(target), joints.JOINT_NAMES),
        "previous target of": _named(~np.isfinite(previous_target), joints.JOINT_NAMES),
        "velocity of": _named(~np.isfinite(velocity), VELOCITY_NAMES),
    }
    listed = "; ".join(f"{what} {', '.join(names)}" for what, names in bad.items() if names)
    return ValueError(f"A command must be finite; not so: {listed}. Nothing was sent. Look at the policy's output.")


def _named(mask: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    columns = mask if mask.ndim == 1 else np.any(mask.reshape(-1, len(names)), axis=0)
    return tuple(compress(names, columns.tobytes()))  # one byte a joint, 0 or 1


def _check(config: SafetyConfig) -> None:
    checked_max_velocity(config.max_velocity)
    rates = [name for name in ("arm_speed", "waist_speed", "leg_speed") if getattr(config, name) is not None]
    # Above zero: to hold still, keep the target.
    require_numbers(config, **{name: (_SLOWEST, _FASTEST) for name in rates})
    room = float(np.minimum(joints.HOME - joints.LOWER, joints.UPPER - joints.HOME).min())
    # The home pose stays free of the one and inside the other.
    require_numbers(config, self_distance=(0.0, MOST_SELF_DISTANCE), position_margin=(0.0, _MOST_OF_ROOM * room))

"""The walking tour's task: its settings, the scenario that a run id stands for, and the teleoperator.

The task is that of rhoyn/teleop-walking-benchmark, as its README and source tell it: 90 s, 18 waypoints, one punch on
the way to each. It differs in the arms, each joint of which goes its own way over 0.6 of its range at up to 2 rad/s
(there: both arms alike, slowly, hands in front of the chest); in the time of a punch, random within its segment; in the
crane, which is soft and lets the walker stand under it; and in the sensors, which are noisy here.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from neon_sim.g1 import joints

CONTROL_HZ: Final = 50
CONTROL_DT: Final = 1.0 / CONTROL_HZ  # s
TOUR_S: Final = 90.0
SEGMENT_S: Final = 5.0
WAYPOINTS: Final = round(TOUR_S / SEGMENT_S)
PUNCH_S: Final = 0.08
ARM_PERIOD_S: Final = 1.2  # how often the arms get a new goal
ARMS: Final = joints.GROUPS["arms"]

# The same in control steps.
TOUR_STEPS, SEGMENT_STEPS, PUNCH_STEPS, _ARM_STEPS = (
    round(s * CONTROL_HZ) for s in (TOUR_S, SEGMENT_S, PUNCH_S, ARM_PERIOD_S)
)


@dataclass(frozen=True)
class FollowerConfig:
    """The teleoperator: the published harness's gains and dead band, and the limits that its best rows declare.

    reached_m, reached_rad: (enter, leave). Below the first the robot has arrived and that part of the command is
    exactly zero; it stays zero until the error has grown past the second. A point that obeys at once ends its segments
    9.8 cm and 2.8 degrees off on average: that is the band, not the robot.
    """

    position_gain: float = 1.5  # m/s per m
    yaw_gain: float = 1.5  # rad/s per rad
    max_speed: float = 0.5  # m/s, length of (vx, vy)
    max_yaw_rate: float = 1.0  # rad/s
    reached_m: tuple[float, float] = (0.10, 0.20)
    reached_rad: tuple[float, float] = (0.05, 0.12)


class Follower:
    """Drives the robot to a waypoint as a person with a stick would: it sees the true pose and knows no gait."""

    def __init__(self, config: FollowerConfig) -> None:
        self.config = config
        self.new_target()

    def new_target(self) -> None:
        """Nothing is reached yet."""
        self._there, self._turned = False, False

    def command(self, target: tuple[float, float, float], pose: tuple[float, float, float]) -> np.ndarray:
        """Velocity command (3,) m/s, m/s, rad/s in the frame of the robot's heading.

        target, pose: x, y m and heading rad in the world.
        """
        config = self.config
        dx, dy = target[0] - pose[0], target[1] - pose[1]
        distance, turn = math.hypot(dx, dy), wrap(target[2] - pose[2])
        self._there = distance < config.reached_m[self._there]
        self._turned = abs(turn) < config.reached_rad[self._turned]
        vx = vy = yaw_rate = 0.0
        if not self._there:
            speed = min(config.position_gain * distance, config.max_speed) / distance
            cos, sin = math.cos(pose[2]), math.sin(pose[2])
            vx, vy = speed * (cos * dx + sin * dy), speed * (cos * dy - sin * dx)
        if not self._turned:
            yaw_rate = min(max(config.yaw_gain * turn, -config.max_yaw_rate), config.max_yaw_rate)
        return np.array((vx, vy, yaw_rate))


def wrap(angle: float) -> float:
    """The same angle in [-pi, pi] rad."""
    return math.remainder(angle, 2.0 * math.pi)


@dataclass(frozen=True)
class TourConfig:
    """The task. The clock starts when the crane lets go; only `duration_s` of the tour are walked."""

    duration_s: float = TOUR_S
    physics_dt: float = 0.002  # s
    friction_loss: float = 0.1  # N m on every joint
    height: float = 0.68  # m, commanded pelvis height
    radius: float = 1.0  # m of the circle that holds the waypoints
    center: tuple[float, float] = (0.3, 0.0)  # m ahead and left of where the crane lets go
    crane_s: float = 3.0
    fall_height: float = 0.20  # m of the pelvis; no tilt limit
    punch_max: float = 500.0  # N, the ceiling from `ramp_s` on; a third of it at the start
    ramp_s: float = 60.0
    arm_share: float = 0.6  # of each arm joint's range, its middle, holds the goals
    arm_speed: tuple[float, float] = (1.0, 2.0)  # rad/s; the env's limit is 2
    follower: FollowerConfig = FollowerConfig()


@dataclass(frozen=True)
class Punch:
    """A push of `PUNCH_S` on the link that a joint moves, at that joint."""

    start_s: float
    joint: int  # 0 to 28, hardware order
    force_w: np.ndarray  # (3,) N

    @property
    def body(self) -> str:
        """The joint's name without its ending: "left_knee"."""
        return joints.JOINT_NAMES[self.joint].removesuffix("_joint")


@dataclass(frozen=True)
class Scenario:
    """All that a run id decides, the same for every walker."""

    waypoints: np.ndarray  # (18, 3) x, y m and heading rad, seen from where the crane lets go
    punches: tuple[Punch, ...]  # one per segment
    arms: np.ndarray  # (4500, 14) rad, targets of the arm joints at each control step


def force_ceiling(time_s: float, config: TourConfig) -> float:
    """Hardest punch (N) that a time allows: a third of `punch_max`, growing evenly to all of it at `ramp_s`."""
    return config.punch_max * (1.0 + 2.0 * min(time_s / config.ramp_s, 1.0)) / 3.0


def draw_scenario(run_id: int, config: TourConfig) -> Scenario:
    """The scenario of a run id, always the whole tour, so that a shorter run is the beginning of the long one."""
    rng = np.random.default_rng(run_id)
    radius = config.radius * np.sqrt(rng.random(WAYPOINTS))  # even over the disc
    bearing, heading = rng.uniform(-np.pi, np.pi, (2, WAYPOINTS))
    x, y = config.center[0] + radius * np.cos(bearing), config.center[1] + radius * np.sin(bearing)
    punches = tuple(_draw_punch(rng, segment, config) for segment in range(WAYPOINTS))
    return Scenario(np.stack([x, y, heading], axis=1), punches, _draw_arms(rng, config))


def _draw_punch(rng: np.random.Generator, segment: int, config: TourConfig) -> Punch:
    start_s = (segment * SEGMENT_STEPS + int(rng.integers(SEGMENT_STEPS - PUNCH_STEPS + 1))) / CONTROL_HZ
    joint = int(rng.integers(joints.NUM_JOINTS))
    direction = rng.standard_normal(3)
    force = force_ceiling(start_s, config) * rng.uniform(0.5, 1.0)
    return Punch(start_s, joint, force * direction / np.linalg.norm(direction))


def _draw_arms(rng: np.random.Generator, config: TourConfig) -> np.ndarray:
    """(4500, 14) rad: every `ARM_PERIOD_S` each joint gets a goal and a speed, and walks there."""
    windows = -(-TOUR_STEPS // _ARM_STEPS)
    margin = 0.5 * (1.0 - config.arm_share)
    low, high = joints.LOWER[ARMS], joints.UPPER[ARMS]
    goals = low + (high - low) * rng.uniform(margin, 1.0 - margin, (windows, len(ARMS)))
    steps = CONTROL_DT * rng.uniform(*config.arm_speed, (windows, len(ARMS)))
    count = np.arange(1, _ARM_STEPS + 1)[:, None]
    at, walked = joints.HOME[ARMS], []
    for goal, step in zip(goals, steps, strict=True):
        walked.append(at + np.clip(goal - at, -step * count, step * count))
        at = walked[-1][-1]
    return np.concatenate(walked)[:TOUR_STEPS]

"""The walking tour's task: its settings, the scenario that a run id stands for, and the teleoperator.

Two tasks of 90 s, 18 waypoints and one punch on the way to each. `PUBLISHED` is that of rhoyn/teleop-walking-benchmark
(as of 2026-09-15): mirrored arms that wander before the chest, soles of friction 1, punches at the beginning of each
segment. What differs: our random numbers, our model of the robot and its gains, a crane that is soft and lets the
walker stand under it, a palm where theirs is the box of a hand's mesh, punches renewed at 50 Hz and not at 500, and
sensor noise, of which they have none. `HARSH` is ours: each arm joint goes its own way over 0.6 of its range at up to
2 rad/s, soles of friction 0.6, elliptic cones, more joint friction, a wider circle, and punches when nobody expects
them.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import palm_poses

CONTROL_HZ: Final = 50
CONTROL_DT: Final = 1.0 / CONTROL_HZ  # s
TOUR_S: Final = 90.0
SEGMENT_S: Final = 5.0
WAYPOINTS: Final = round(TOUR_S / SEGMENT_S)
PUNCH_S: Final = 0.08
ARM_PERIOD_S: Final = 1.2  # how often free arms get a new goal
WANDER_S: Final = 0.5  # how often wandering arms do
ARMS: Final = joints.GROUPS["arms"]

# The same in control steps.
TOUR_STEPS, SEGMENT_STEPS, PUNCH_STEPS, _ARM_STEPS, _WANDER_STEPS = (
    round(s * CONTROL_HZ) for s in (TOUR_S, SEGMENT_S, PUNCH_S, ARM_PERIOD_S, WANDER_S)
)
_WANDER_STEP: Final = 0.06  # rad that a joint's goal moves at most in 20 ms
_WANDER_TRIES: Final = 8
_WANDER_HIGHEST: Final = 0.30  # m above the pelvis: a hand's upper edge then stays under the head
_WANDER_START: Final = np.array((0.2, 0.2, 0.0, 0.6, 0.0, 0.0, 0.0))  # rad, left arm


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
    elliptic: bool = False  # friction cones; else pyramids
    sole_friction: float = 1.0
    friction_loss: float = 0.01  # N m on every joint
    height: float = 0.68  # m, commanded pelvis height
    radius: float = 0.75  # m of the circle that holds the waypoints
    center: tuple[float, float] = (0.3, 0.0)  # m ahead and left of where the crane lets go
    crane_s: float = 3.0
    fall_height: float = 0.20  # m of the pelvis; no tilt limit
    punch_max: float = 500.0  # N, the ceiling from `ramp_s` on; a third of it at the start
    ramp_s: float = 60.0
    punch_at_s: float | None = 0.1  # after a segment's beginning; None = at any time within it
    link_frame: bool = True  # a punch turns with the link that it hits or with that link's parent; else not at all
    free_arms: bool = False  # each joint goes its own way; else both arms wander alike, before the chest
    arm_share: float = 0.6  # of each free arm joint's range, its middle, holds the goals
    arm_speed: tuple[float, float] = (1.0, 2.0)  # rad/s of free arms; the env's limit is 2
    follower: FollowerConfig = FollowerConfig()


PUBLISHED: Final = TourConfig()
HARSH: Final = TourConfig(
    elliptic=True, sole_friction=0.6, friction_loss=0.1, radius=1.0, punch_at_s=None, link_frame=False, free_arms=True
)
TASKS: Final[dict[str, TourConfig]] = {"published": PUBLISHED, "harsh": HARSH}


@dataclass(frozen=True)
class Punch:
    """A push of `PUNCH_S` on the link that a joint moves, at that joint."""

    start_s: float
    joint: int  # 0 to 28, hardware order
    force: np.ndarray  # (3,) N, in the frame below
    frame: str  # "world", "link" = the link that the joint moves, or "parent" = the one that carries it

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
    arms = _free_arms(rng, config) if config.free_arms else _wandering_arms(rng)
    return Scenario(np.stack([x, y, heading], axis=1), punches, arms)


def _draw_punch(rng: np.random.Generator, segment: int, config: TourConfig) -> Punch:
    begins = segment * SEGMENT_STEPS / CONTROL_HZ
    late = int(rng.integers(SEGMENT_STEPS - PUNCH_STEPS + 1)) / CONTROL_HZ
    start_s = begins + (late if config.punch_at_s is None else config.punch_at_s)
    joint = int(rng.integers(joints.NUM_JOINTS))
    direction = rng.standard_normal(3)
    ceiling = force_ceiling(start_s if config.punch_at_s is None else begins, config)
    force = ceiling * rng.uniform(0.5, 1.0)
    frame = ("link", "parent")[int(rng.integers(2))] if config.link_frame else "world"
    return Punch(start_s, joint, force * direction / np.linalg.norm(direction), frame)


def _wandering_arms(rng: np.random.Generator) -> np.ndarray:
    """(4500, 14) rad: every `WANDER_S` the left arm goes a little way at random, and the right one is its mirror image.

    A goal that would bring the palm further back than it was at first, or above the chin, is drawn again, up to eight
    times; if none will do, the arms stay where they are for that while.
    """
    left, right = joints.GROUPS["left_arm"], joints.GROUPS["right_arm"]
    low, high = joints.LOWER[left], joints.UPPER[left]
    whole = np.zeros(joints.NUM_JOINTS)

    def palm(arm: np.ndarray) -> np.ndarray:
        whole[left] = arm
        return palm_poses(whole)[0][0]

    at, walked = _WANDER_START, []
    nearest = palm(at)[0]
    share = np.arange(1, _WANDER_STEPS + 1)[:, None] / _WANDER_STEPS
    for _ in range(-(-TOUR_STEPS // _WANDER_STEPS)):
        goal = at
        for _ in range(_WANDER_TRIES):
            tried = at
            for step in rng.uniform(-_WANDER_STEP, _WANDER_STEP, (_WANDER_STEPS, len(left))):
                tried = np.clip(tried + step, low, high)
            x, _, z = palm(tried)
            if x >= nearest and z <= _WANDER_HIGHEST:
                goal = tried
                break
        walked.append(at + share * (goal - at))
        at = goal
    targets = np.zeros((TOUR_STEPS, joints.NUM_JOINTS))
    targets[:, left] = np.concatenate(walked)[:TOUR_STEPS]
    targets[:, right] = joints.mirror(targets)[:, right]
    return targets[:, ARMS]


def _free_arms(rng: np.random.Generator, config: TourConfig) -> np.ndarray:
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

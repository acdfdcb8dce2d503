"""reach: bring the named hand to the named ball. Where the balls are is for the camera to see."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import points_in_frame, quat_to_matrix
from neon_sim.g1.kinematics import UnreachableError, gravity_torque, inverse_palm
from neon_sim.robot import RobotState, World
from neon_sim.sim.faults import ActuatorFault
from neon_sim.tasks.tolerance import tolerance

HANDS = ("left", "right")
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.10, 0.25, 0.90),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.60, 0.15, 0.75),
}
_PALMS = tuple(f"{hand}_palm" for hand in HANDS)  # sites of the robot
_BALLS = {color: f"ball_{color}" for color in COLORS}  # bodies of the scene
TEMPLATES = (
    "touch the {color} ball with your {hand} hand",
    "put your {hand} hand on the {color} ball",
    "reach for the {color} ball with the {hand} hand",
    "use the {hand} hand to touch the {color} ball",
)
_HIDDEN_W = np.array([0.0, 0.0, -5.0])  # under the floor, where no sensor looks
_SHOULDERS_B = np.array([[0.0, 0.10, 0.29], [0.0, -0.10, 0.29]])  # m, pelvis frame (golden body poses at qpos0)
# rad, left arm: what the expert's arm prefers, elbow out, and how far the upper arm stays off the trunk.
_POSTURE = np.array([-0.5, 0.5, -0.8, 0.6, 0.0, 0.0, 0.0])
_MIN_SHOULDER_ROLL = 0.03
_ARM_MIRROR = joints.mirror(np.ones(joints.NUM_JOINTS))[joints.GROUPS["right_arm"]]
_EYE_B = np.array([0.071, 0.0, 0.474])  # m, roughly the task camera


@dataclass(frozen=True)
class ReachConfig:
    """Geometry of the reach task in metres and seconds; positions in the pelvis frame at reset."""

    num_balls: int = 3
    radius: float = 0.04
    success_distance: float = 0.04  # palm site to ball centre
    hold_s: float = 0.5
    low: tuple[float, float, float] = (0.20, -0.12, 0.02)
    high: tuple[float, float, float] = (0.36, 0.12, 0.30)
    max_shoulder_distance: float = 0.385  # so that both hands reach every ball
    min_separation: float = 0.11
    min_view_angle: float = 0.26  # rad between any two balls seen from the head: nothing is hidden behind another ball

    def __post_init__(self) -> None:
        if not 3 <= self.num_balls <= len(COLORS):
            raise ValueError(f"num_balls must be 3 to {len(COLORS)} (one per colour), got {self.num_balls}.")


def sample_ball_positions(config: ReachConfig, rng: np.random.Generator) -> np.ndarray:
    """Draw (num_balls, 3) m positions that both hands reach and that do not hide each other. Rejection sampling."""
    chosen: list[np.ndarray] = []
    for _ in range(100_000):
        if len(chosen) == config.num_balls:
            return np.array(chosen)
        pos = rng.uniform(config.low, config.high)
        if np.linalg.norm(_SHOULDERS_B - pos, axis=1).max() > config.max_shoulder_distance:
            continue
        if all(_apart(pos, other, config) for other in chosen):
            chosen.append(pos)
        elif rng.random() < 0.02:
            chosen.clear()  # a bad first ball can leave no room for the others
    raise ValueError(f"No room for {config.num_balls} balls in {config}. Widen low/high or lower the separations.")


def _apart(pos: np.ndarray, other: np.ndarray, config: ReachConfig) -> bool:
    a, b = pos - _EYE_B, other - _EYE_B
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    return bool(np.linalg.norm(pos - other) >= config.min_separation and cosine <= np.cos(config.min_view_angle))


def reach_posture(joint_pos: np.ndarray, hand: int, target_b: np.ndarray) -> np.ndarray:
    """Arm joints (7,) rad that bring a palm to `target_b` (3,) m with the upper arm clear of the trunk.

    Raises:
        UnreachableError: no such posture.
    """
    arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
    lower, upper, roll = joints.LOWER[arm] + 0.05, joints.UPPER[arm] - 0.05, 1
    if hand == 0:
        lower[roll] = _MIN_SHOULDER_ROLL
    else:
        upper[roll] = -_MIN_SHOULDER_ROLL
    posture = _POSTURE if hand == 0 else _POSTURE * _ARM_MIRROR
    return inverse_palm(joint_pos, hand, target_b, posture=posture, limits=(lower, upper))


def lift_against_gravity(
    joint_pos: np.ndarray, gravity_b: np.ndarray, known_fault: ActuatorFault | None = None
) -> np.ndarray:
    """Targets (29,) rad at which the arms' PD motors, one of them faulty, come to rest at `joint_pos` (29,) rad."""
    target = joint_pos.copy()
    arms = joints.GROUPS["arms"]
    lift = np.zeros(joints.NUM_JOINTS)
    lift[arms] = gravity_torque(joint_pos, gravity_b) / joints.KP[arms]
    if known_fault is not None:
        faulty = joints.JOINT_INDEX[known_fault.joint]
        lift[faulty] = lift[faulty] / known_fault.strength - known_fault.bias
    return target + lift


def approach(start: np.ndarray, goal: np.ndarray, steps: int, gain: float = 0.2, speed: float = 0.036) -> np.ndarray:
    """Targets (steps, 29) rad from `start` to `goal`: a fraction `gain` of the way, at most `speed` rad a step."""
    targets = np.empty((steps, len(goal)))
    for i in range(steps):
        start = start + np.clip(gain * (goal - start), -speed, speed)
        targets[i] = start
    return targets


class ReachTask:
    """Success: the named palm stays within 4 cm of the named ball's centre for 0.5 s."""

    name = "reach"
    colors = tuple(COLORS)
    max_steps = 150

    def __init__(self, config: ReachConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or ReachConfig()
        self._hold_steps = round(self.config.hold_s / control_dt)
        self.known_fault: ActuatorFault | None = None  # what the expert makes up for; nobody tells it by default
        self._held = 0
        self._hand = 0
        self._present: tuple[str, ...] = ()
        self._target_color = "red"

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """One mocap ball per colour; they are seen and not felt."""
        for color, rgb in COLORS.items():
            body = spec.worldbody.add_body(name=_BALLS[color], mocap=True, pos=_HIDDEN_W)
            body.add_geom(
                name=_BALLS[color],
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[self.config.radius, 0, 0],
                rgba=[*rgb, 1.0],
                contype=0,
                conaffinity=0,
            )

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose balls, places, the named ball, the named hand and a wording."""
        self._held = 0
        pelvis_pos, pelvis_quat = world.object_pose("pelvis")
        order = rng.permutation(list(COLORS))
        self._present = tuple(str(color) for color in order[: self.config.num_balls])
        positions = pelvis_pos + sample_ball_positions(self.config, rng) @ quat_to_matrix(pelvis_quat).T
        for color in order[self.config.num_balls :]:
            world.place_object(_BALLS[color], _HIDDEN_W)
        for color, pos_w in zip(self._present, positions, strict=True):
            world.place_object(_BALLS[color], pos_w)
        self._target_color = self._present[int(rng.integers(len(self._present)))]
        self._hand = int(rng.integers(2))
        template = TEMPLATES[int(rng.integers(len(TEMPLATES)))]
        return template.format(color=self._target_color, hand=HANDS[self._hand])

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: palm within 4 cm of the ball (falls to 0.1 at 40 cm), torso upright."""
        distance = self.distance(world)
        self._held = self._held + 1 if distance <= self.config.success_distance else 0
        terms = {
            "distance": tolerance(distance, (0.0, self.config.success_distance), margin=0.4),
            "upright": tolerance(-float(state.gravity_b[2]), (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return terms["distance"] * terms["upright"], terms

    def distance(self, world: World) -> float:
        """m between the named palm and the centre of the named ball."""
        return math.dist(world.position(_PALMS[self._hand]), world.position(_BALLS[self._target_color]))

    @property
    def success(self) -> bool:
        """The palm has been at the ball for `hold_s` without a break, up to now."""
        return self._held >= self._hold_steps

    @property
    def failed(self) -> bool:
        """A reach can always still succeed."""
        return False

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The named hand (0 left, 1 right), its distance in m, and every ball in the pelvis frame in m."""
        places_w = [world.position(_BALLS[color]) for color in self._present]
        balls = dict(zip(self._present, points_in_frame(places_w, *world.object_pose("pelvis")), strict=True))
        return {
            "hand": self._hand,
            "color": self._target_color,
            "distance": self.distance(world),
            "target_pos_b": balls[self._target_color],
            "ball_pos_b": balls,
        }

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Joint targets (steps, 29) rad that bring the named palm to the ball along a straight line in joint space.

        The posture is damped least squares from home, so that one ball has one answer; the gravity torque over kp is
        added, because a PD motor sags by that much. It never looks at where a motor really is: a broken motor beats it.
        """
        goal = joints.HOME.copy()
        goal[joints.GROUPS["waist"]] = state.joint_pos[joints.GROUPS["waist"]]
        arm = joints.GROUPS[f"{HANDS[self._hand]}_arm"]
        try:
            goal[arm] = reach_posture(goal, self._hand, self.privileged(state, world)["target_pos_b"])
        except UnreachableError:
            goal[arm] = state.joint_target[arm]  # a robot that has fallen or turned away: hold still
        return approach(state.joint_target, lift_against_gravity(goal, state.gravity_b, self.known_fault), steps)

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> None:
        """It stands."""

    def get_state(self) -> dict[str, Any]:
        """Counters and choices of the running episode; the balls' poses belong to the world."""
        return {"held": self._held, "hand": self._hand, "colors": self._present, "target_color": self._target_color}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._held, self._hand = int(state["held"]), int(state["hand"])
        self._present, self._target_color = tuple(state["colors"]), str(state["target_color"])

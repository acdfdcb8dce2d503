"""reach: bring the named hand to the named ball. Where the balls are is for the camera to see."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import points_in_frame, quat_to_matrix
from neon_sim.g1.kinematics import UnreachableError
from neon_sim.names import require_corners, require_counts, require_numbers
from neon_sim.robot import RobotState, World
from neon_sim.sim.faults import Fault
from neon_sim.tasks.arms import EYE_B, HANDS, PALMS, SHOULDERS_B, approach, lift_against_gravity, reach_posture
from neon_sim.tasks.objects import (
    COLORS,
    HIDDEN_W,
    TABLES,
    THINGS,
    add_balls,
    add_table,
    add_things,
    ball_name,
    scatter,
)
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits

WORDING = Wording(
    train=(
        "touch the {color} ball with your {hand} hand",
        "put your {hand} hand on the {color} ball",
        "reach for the {color} ball with the {hand} hand",
        "use the {hand} hand to touch the {color} ball",
    ),
    test=(
        "bring your {hand} palm to the {color} ball",
        "the {color} ball: lay your {hand} hand on it",
        "place the {hand} hand against the ball that is {color}",
        "let the {hand} hand meet the {color} ball",
    ),
)
TEMPLATES = WORDING.train
_TABLE_NEAR: Final = 0.5  # m, of its edge: beyond the farthest ball and the fingers that touch it


@dataclass(frozen=True)
class ReachConfig:
    """Geometry of the reach task in metres and seconds; positions in the pelvis frame at reset.

    Raises ValueError for a number out of its range, and for a split that does not exist.
    """

    num_balls: int = 3
    radius: float = 0.04
    success_distance: float = 0.04  # palm site to ball centre
    hold_s: float = 0.5
    low: tuple[float, float, float] = (0.20, -0.12, 0.02)
    high: tuple[float, float, float] = (0.36, 0.12, 0.30)
    max_shoulder_distance: float = 0.385  # so that both hands reach every ball
    min_separation: float = 0.11
    min_view_angle: float = 0.26  # rad between any two balls seen from the head: nothing is hidden behind another ball
    wording: str = "train"  # or "test": paraphrases that are held out
    objects: str = "train"  # or "test": balls of other shapes, sizes and shades
    clutter: bool = False  # True puts a table with loose things on it behind the balls; the rest of an episode stays

    def __post_init__(self) -> None:
        check_splits(self)
        require_counts(self, num_balls=(3, len(COLORS)))  # one per colour
        require_numbers(self, radius=(0.001, 0.5), success_distance=(0.001, 1.0), hold_s=HOLD_S)
        require_numbers(self, max_shoulder_distance=(0.0, 2.0), min_separation=(0.0, 2.0), min_view_angle=(0.0, 3.14))
        require_corners(self, 3, -2.0, 2.0)


def sample_ball_positions(config: ReachConfig, rng: np.random.Generator) -> np.ndarray:
    """Draw (num_balls, 3) m positions that both hands reach and that do not hide each other. Rejection sampling."""
    chosen: list[np.ndarray] = []
    for _ in range(100_000):
        if len(chosen) == config.num_balls:
            return np.array(chosen)
        pos = rng.uniform(np.array(config.low), np.array(config.high))
        if np.linalg.norm(SHOULDERS_B - pos, axis=1).max() > config.max_shoulder_distance:
            continue
        if all(_apart(pos, other, config) for other in chosen):
            chosen.append(pos)
        elif rng.random() < 0.02:
            chosen.clear()  # a bad first ball can leave no room for the others
    raise ValueError(f"No room for {config.num_balls} balls in {config}. Widen low/high or lower the separations.")


def _apart(pos: np.ndarray, other: np.ndarray, config: ReachConfig) -> bool:
    a, b = pos - EYE_B, other - EYE_B
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    return bool(np.linalg.norm(pos - other) >= config.min_separation and cosine <= np.cos(config.min_view_angle))


class ReachTask:
    """Success: the named palm stays within 4 cm of the named ball's centre for 0.5 s."""

    name = "reach"
    colors = tuple(COLORS)
    max_steps = 150

    def __init__(self, config: ReachConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or ReachConfig()
        self._hold_steps = round(self.config.hold_s / control_dt)
        self._table = replace(TABLES[self.config.objects], near=_TABLE_NEAR)
        self._things = THINGS[self.config.objects] if self.config.clutter else ()
        self.known_fault: Fault | Iterable[Fault] | None = None  # what the expert makes up for, if somebody tells it
        self._held = 0
        self._hand = 0
        self._present: tuple[str, ...] = ()
        self._target_color = "red"

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """One mocap ball per colour, which are seen and not felt; and the clutter, if there is any."""
        add_balls(spec, self.config.objects, self.config.radius)
        if self.config.clutter:
            add_table(spec, self._table)
            add_things(spec, self._things, self._table)

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose balls, places, the named ball, the named hand and a wording."""
        self._held = 0
        pelvis_pos, pelvis_quat = world.object_pose("pelvis")
        order = rng.permutation(list(COLORS))
        self._present = tuple(str(color) for color in order[: self.config.num_balls])
        positions = pelvis_pos + sample_ball_positions(self.config, rng) @ quat_to_matrix(pelvis_quat).T
        for color in order[self.config.num_balls :]:
            world.place_object(ball_name(color), HIDDEN_W)
        for color, pos_w in zip(self._present, positions, strict=True):
            world.place_object(ball_name(color), pos_w)
        self._target_color = self._present[int(rng.integers(len(self._present)))]
        self._hand = int(rng.integers(2))
        words = WORDING.draw(self.config.wording, rng, color=self._target_color, hand=HANDS[self._hand])
        if self._things:
            scatter(world, self._things, self._table, rng)
        return words

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
        return math.dist(world.position(PALMS[self._hand]), world.position(ball_name(self._target_color)))

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
        places_w = [world.position(ball_name(color)) for color in self._present]
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

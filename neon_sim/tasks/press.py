"""press: push the named button in and keep it there; pushing another one is a mistake that ends the episode."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import points_in_frame, quat_to_matrix
from neon_sim.g1.kinematics import UnreachableError, palm_poses
from neon_sim.names import require_corners, require_counts, require_numbers, require_spans
from neon_sim.robot import RobotState, World
from neon_sim.tasks.arms import HANDS, PALMS, SHOULDERS_B, approach, lift_against_gravity, of_hand, reach_posture
from neon_sim.tasks.buttons import BUTTONS, PLATE, add_buttons, button_name, depths, front_name, place_buttons
from neon_sim.tasks.objects import COLORS, TABLES, THINGS, add_table, add_things, scatter
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits

WORDING: Final = Wording(
    train=(
        "press the {color} button with your {hand} hand",
        "push the {color} button using the {hand} hand",
        "use your {hand} hand to press the {color} button",
    ),
    test=(
        "with the {hand} hand, push in the button that is {color}",
        "hold the {color} button down with your {hand} hand",
    ),
)
EITHER_HAND: Final = Wording(
    train=("press the {color} button", "push the {color} button", "press the button that is {color}"),
    test=("push in the {color} button with either hand", "hold the {color} button down"),
)
# m, wrist frame of the left hand: the middle of its front face (geom left_hand of assets/g1/g1.xml) from the palm site.
_TIP_FROM_PALM: Final = np.array([0.09, -0.008, 0.004])
_POINTING: Final = np.array([-0.3, 0.25, 0.0, 0.1, 0.0, 0.0, 0.0])  # rad, left arm: the hand in front, level
_TUCKED: Final = np.array([0.6, 0.25, 0.0, -0.7, 0.0, 0.0, 0.0])  # rad, left arm: the hand at the chest, over the table
_LIFTED: Final = 0.05  # m, pelvis frame: a hand that is higher is clear of the table
_WRIST: Final = 0.5  # rad, how far the expert bends it: the hand points ahead


@dataclass(frozen=True)
class PressConfig:
    """Where the buttons are and what counts as pressed; m in the pelvis frame at reset, seconds.

    Raises ValueError for a number out of its range, and for a split that does not exist.
    """

    num_buttons: int = 3
    pressed: float = 0.008  # m of travel
    hold_s: float = 0.2
    touching: float = 0.18  # m from the palm to the button's front: no farther, or it was not this hand
    named_hand: float = 2.0 / 3.0  # share of the episodes that name a hand; in the others either will do
    face_x: tuple[float, float] = (0.33, 0.38)  # of all caps' front
    low: tuple[float, float] = (-0.12, 0.14)  # y, z of a button
    high: tuple[float, float] = (0.12, 0.30)
    max_shoulder_distance: float = 0.46  # from the far shoulder to a button's front, so that both hands reach it
    min_separation: float = 0.12
    wording: str = "train"  # or "test": paraphrases that are held out
    objects: str = "train"  # or "test": other caps and springs, other things on another table

    def __post_init__(self) -> None:
        check_splits(self)
        require_counts(self, num_buttons=(1, len(COLORS)))  # one per colour
        require_numbers(self, pressed=(0.0001, 0.05), hold_s=HOLD_S, touching=(0.001, 1.0), named_hand=(0.0, 1.0))
        require_numbers(self, max_shoulder_distance=(0.0, 2.0), min_separation=(0.0, 2.0))
        require_spans(self, face_x=(0.0, 2.0))
        require_corners(self, 2, -2.0, 2.0)


def sample_fronts(config: PressConfig, rng: np.random.Generator) -> np.ndarray:
    """Draw (num_buttons, 3) m where the caps' fronts are, in one plane, all within reach. Rejection sampling.

    Raises:
        ValueError: no room for so many.
    """
    x = rng.uniform(*config.face_x)
    chosen: list[np.ndarray] = []
    for _ in range(5_000):
        if len(chosen) == config.num_buttons:
            return np.array(chosen)
        front = np.array([x, *rng.uniform(np.array(config.low), np.array(config.high))])
        if np.linalg.norm(SHOULDERS_B - front, axis=1).max() > config.max_shoulder_distance:
            continue
        if all(np.linalg.norm(front - other) >= config.min_separation for other in chosen):
            chosen.append(front)
        elif rng.random() < 0.02:
            chosen.clear()  # a bad first button can leave no room for the others
            x = rng.uniform(*config.face_x)
    raise ValueError(f"No room for {config.num_buttons} buttons in {config}. Widen low/high or lower the separation.")


def tip_posture(joint_pos: np.ndarray, hand: int, tip_b: np.ndarray) -> np.ndarray:
    """Arm joints (7,) rad that bring the front of a hand to `tip_b` (3,) m, the hand pointing ahead.

    Raises:
        UnreachableError: no such posture.
    """
    arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
    posture, offset = joint_pos.copy(), np.array([_TIP_FROM_PALM[0], 0.0, 0.0])
    for _ in range(4):  # the palm's place depends on which way the hand then points: settles within 7 mm, mostly 1
        posture[arm] = reach_posture(posture, hand, tip_b - offset, _POINTING, _WRIST)
        offset = _tip_offset(posture, hand)
    return posture[arm]


def _tip_offset(joint_pos: np.ndarray, hand: int) -> np.ndarray:
    """From the palm to the front of the hand, (3,) m in the pelvis frame."""
    mirror = np.array([1.0, 1.0 if hand == 0 else -1.0, 1.0])
    return quat_to_matrix(palm_poses(joint_pos)[1][hand]) @ (_TIP_FROM_PALM * mirror)


class PressTask:
    """Success: the named button pressed by 8 mm or more for 0.2 s, with the named hand if one is named."""

    name = "press"
    max_steps = 300

    def __init__(self, config: PressConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or PressConfig()
        self._hold_steps = round(self.config.hold_s / control_dt)
        self._button, self._table = BUTTONS[self.config.objects], TABLES[self.config.objects]
        self._things = THINGS[self.config.objects]
        self._colors: tuple[str, ...] = ()  # the named one first
        self._hand: int | None = None  # None: either
        self._nearest = 0  # the hand that was nearer to the named button at reset
        self._held = 0
        self._failed = False

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """A table with loose things on it, a plate, and a button per colour."""
        add_table(spec, self._table)
        add_things(spec, self._things, self._table)
        add_buttons(spec, self.config.objects)

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose buttons, places, the named one, the hand if any, and a wording."""
        self._held, self._failed = 0, False
        scatter(world, self._things, self._table, rng)
        self._colors = tuple(str(color) for color in rng.permutation(list(COLORS))[: self.config.num_buttons])
        fronts = sample_fronts(self.config, rng)
        origin_w, quat = world.object_pose("pelvis")
        places_w = origin_w + (fronts + [self._button.face, 0.0, 0.0]) @ quat_to_matrix(quat).T
        place_buttons(world, dict(zip(self._colors, places_w, strict=True)), quat)
        plate_b = np.array([fronts[0, 0] + self._button.face + self._button.box[0] + 0.01, 0.0, 0.2])
        world.place_object(PLATE, origin_w + quat_to_matrix(quat) @ plate_b, quat)
        self._nearest = 0 if fronts[0, 1] >= 0.0 else 1
        hand = int(rng.integers(2))
        self._hand = hand if rng.random() < self.config.named_hand else None
        words = EITHER_HAND if self._hand is None else WORDING
        return words.draw(self.config.wording, rng, color=self._colors[0], hand=HANDS[hand])

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: hand at the button (palm within 12 cm), pressed by 8 mm, the others untouched, torso upright."""
        distances, deep = self._distances(world), depths(world, self._colors)
        hand = distances.index(min(distances)) if self._hand is None else self._hand
        named = deep.pop(self._colors[0])
        wrong = max(deep.values(), default=0.0)
        self._failed = self._failed or wrong >= self.config.pressed
        ours = distances[hand] == min(distances) and distances[hand] <= self.config.touching
        self._held = self._held + 1 if named >= self.config.pressed and ours and not self._failed else 0
        terms = {
            "distance": tolerance(distances[hand], (0.0, 0.12), margin=0.4),
            "pressed": tolerance(named, (self.config.pressed, math.inf), self.config.pressed, 0.3, "linear"),
            "others": tolerance(wrong, (-math.inf, 0.002), margin=0.006),
            "upright": tolerance(-float(state.gravity_b[2]), (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return math.prod(terms.values()), terms

    def distance(self, world: World) -> float:
        """m between the palm that is asked for (the nearer one, if none is) and the named button's cap."""
        distances = self._distances(world)
        return min(distances) if self._hand is None else distances[self._hand]

    @property
    def success(self) -> bool:
        """The named button has been in for `hold_s` without a break, up to now, and no other ever."""
        return self._held >= self._hold_steps

    @property
    def failed(self) -> bool:
        """A wrong button has been pressed."""
        return self._failed

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The hand (0 left, 1 right, -1 either), m to the named button and of its travel, all buttons' fronts in m."""
        frame = world.object_pose("pelvis")
        fronts_w = [world.position(front_name(color)) for color in self._colors]
        fronts_b = points_in_frame(fronts_w, *frame)
        return {
            "hand": -1 if self._hand is None else self._hand,
            "color": self._colors[0],
            "distance": self.distance(world),
            "depth": depths(world, self._colors[:1])[self._colors[0]],
            "target_pos_b": fronts_b[0],
            "button_pos_b": dict(zip(self._colors, fronts_b, strict=True)),
        }

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Targets (steps, 29) rad: the hand to the chest, in front of the button, and straight in."""
        hand = self.expert_hand(state, world)
        arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
        goal = joints.HOME.copy()
        goal[joints.GROUPS["waist"]] = state.joint_pos[joints.GROUPS["waist"]]
        try:
            goal[arm] = self._next_posture(state, world, hand, goal)
        except UnreachableError:
            goal[arm] = state.joint_target[arm]  # a robot that has fallen or turned away: hold still
        return approach(state.joint_target, lift_against_gravity(goal, state.gravity_b), steps)

    def expert_hand(self, state: RobotState, world: World) -> int:
        """The named hand, or the one that was nearer to the button: 0 left, 1 right."""
        return self._nearest if self._hand is None else self._hand

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> None:
        """It stands."""

    def get_state(self) -> dict[str, Any]:
        """Choices and counters of the running episode; where everything is belongs to the world."""
        return {
            "colors": self._colors,
            "hand": self._hand,
            "nearest": self._nearest,
            "held": self._held,
            "failed": self._failed,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._colors, self._hand, self._nearest = tuple(state["colors"]), state["hand"], int(state["nearest"])
        self._held, self._failed = int(state["held"]), bool(state["failed"])

    def _distances(self, world: World) -> tuple[float, float]:
        """m from either palm to the front of the named button."""
        front = world.position(front_name(self._colors[0]))
        left, right = (math.dist(world.position(palm), front) for palm in PALMS)
        return left, right

    def _next_posture(self, state: RobotState, world: World, hand: int, body: np.ndarray) -> np.ndarray:
        """Arm joints (7,) rad where the expert goes from here: over the table, before the button, into the button."""
        tip_b = palm_poses(state.joint_pos)[0][hand] + _tip_offset(state.joint_pos, hand)
        [box_b] = points_in_frame([world.position(button_name(self._colors[0]))], *world.object_pose("pelvis"))
        rest_b = box_b - [self._button.face, 0.0, 0.0]
        ahead, *aside = (tip_b - rest_b).tolist()
        if math.hypot(*aside) < 0.015 and ahead > -0.09:
            return tip_posture(body, hand, rest_b + [self._button.travel + 0.005, 0.0, 0.0])
        if tip_b[2] > _LIFTED:
            return tip_posture(body, hand, rest_b - [0.05, 0.0, 0.0])
        return of_hand(_TUCKED, hand)

"""push_box: push a tall box over the floor with both palms until it stands in the zone of the named colour."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import points_in_frame, quat_to_matrix
from neon_sim.g1.kinematics import ARM_JOINTS
from neon_sim.names import require_numbers, require_spans
from neon_sim.robot import RobotState, World
from neon_sim.tasks.arms import PALMS, approach, lift_against_gravity, of_hand
from neon_sim.tasks.boxes import PUSH_BOXES, add_tall_boxes, color_of, place_boxes
from neon_sim.tasks.objects import HIDDEN_W, SHADES, Look, Thing
from neon_sim.tasks.path import Pose, floor_pose, on_floor, seen_from
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits

WORDING = Wording(
    train=(
        "push the box onto the {color} zone",
        "push the box into the {color} zone with both hands",
        "move the box to the {color} zone",
        "use your hands to push the box to the {color} zone",
    ),
    test=(
        "the box belongs on the {color} zone",
        "shove the box along until it stands on the {color} square",
        "bring the big box to the {color} zone with your palms",
    ),
)
ZONES: Final = ("red", "green", "blue", "yellow")
_ZONE: Final = Look("box", (0.35, 0.35, 0.004), (0.0, 0.0, 0.0))
# rad, the expert's left arm: hand 0.30 m ahead, 0.15 m to the side and a little over the pelvis, its inner side turned
# ahead and somewhat inwards, as far as the wrist allows.
_PUSHING: Final = np.array([-0.21, 0.06, -0.35, 0.5, 0.0, -0.32, 1.35])
_REACH: Final = 0.30  # m from the pelvis to the pushed wall
_BESIDE: Final = 0.16  # m that the box may be off the line ahead before the robot steps behind it again
_FREE: Final = 0.12  # m between palms and box for that
_SPEED: Final = 0.3  # m/s
_TURN: Final = 0.5  # rad/s
# m and rad, from the robot: where a second box is in nobody's way, on the side that has no zone.
_ASIDE: Final = ((1.3, 1.7), (1.1, 1.5))


@dataclass(frozen=True)
class PushBoxConfig:
    """Where box and zones may be, in the robot's frame at reset; m, rad and s.

    Bearing and distance of a zone are seen from the box: how far the way ahead bends, and how long it is. Raises
    ValueError for a number out of its range, a range the wrong way round, and a zone in which the box may begin.
    """

    box_distance: tuple[float, float] = (0.75, 0.95)
    box_left: tuple[float, float] = (-0.12, 0.12)
    box_turn: tuple[float, float] = (-0.12, 0.12)
    zone_distance: tuple[float, float] = (0.9, 1.6)
    zone_bearing: tuple[float, float] = (-0.3, 0.3)
    other_bearing: tuple[float, float] = (0.9, 1.3)  # of the zone that is not named, to either side
    success_distance: float = 0.2  # m over the floor, box centre to zone centre
    max_tilt: float = 0.1  # rad, to count as upright
    hold_s: float = 0.5
    wording: str = "train"  # or "test": paraphrases that are held out
    objects: str = "train"  # or "test": boxes of other sizes, masses, frictions and shades
    clutter: bool = False  # True puts a second box to the side, which is not the one ahead; the rest stays

    def __post_init__(self) -> None:
        check_splits(self)
        around = (-math.pi, math.pi)
        require_spans(self, box_distance=(0.0, 10.0), box_left=(-10.0, 10.0), zone_distance=(0.0, 20.0))
        require_spans(self, box_turn=around, zone_bearing=around, other_bearing=around)
        require_numbers(self, success_distance=(0.001, 5.0), max_tilt=(0.001, 1.0), hold_s=HOLD_S)
        if self.zone_distance[0] <= self.success_distance:
            raise ValueError(f"zone_distance must be above {self.success_distance} m, got {self.zone_distance}.")


class PushBoxTask:
    """Success: the box has been upright within 0.2 m of the named zone's centre for 0.5 s. On its side, it ends all."""

    name = "push_box"
    max_steps = 1000

    def __init__(self, config: PushBoxConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or PushBoxConfig()
        self._hold_steps = round(self.config.hold_s / control_dt)
        self._boxes = PUSH_BOXES[self.config.objects]
        self._held, self._chosen, self._color, self._other, self._toppled = 0, 0, ZONES[0], ZONES[1], False

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """All boxes of the set, and a flat zone of each colour that is seen and not felt."""
        add_tall_boxes(spec, self._boxes)
        for color in ZONES:
            body = spec.worldbody.add_body(name=_zone(color), mocap=True, pos=HIDDEN_W)
            Look(_ZONE.shape, _ZONE.size, SHADES[self.config.objects][color]).add_to(
                body, touch=(0, 0), name=_zone(color)
            )

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose a box, two zones, their places, and a wording."""
        config, start = self.config, floor_pose(world)
        self._held, self._toppled = 0, False
        self._chosen = int(rng.integers(len(self._boxes)))
        self._color, self._other = (str(color) for color in rng.permutation(list(ZONES))[:2])
        place = on_floor(start, rng.uniform(*config.box_distance), rng.uniform(*config.box_left))
        yaw = start.yaw + rng.uniform(*config.box_turn)
        places = [(self.box, np.array([*place, self.box.half_height]), yaw)]
        for color in ZONES:
            world.place_object(_zone(color), HIDDEN_W)
        onward = math.atan2(place[1] - start.y, place[0] - start.x)
        other = float(rng.choice([-1.0, 1.0])) * rng.uniform(*config.other_bearing)
        for color, bearing in ((self._color, rng.uniform(*config.zone_bearing)), (self._other, other)):
            middle = on_floor(
                Pose(float(place[0]), float(place[1]), onward + bearing), rng.uniform(*config.zone_distance), 0.0
            )
            world.place_object(_zone(color), np.array([*middle, 0.005]))
        words = WORDING.draw(config.wording, rng, color=self._color)
        if config.clutter:
            places.append(self._aside(start, -math.copysign(1.0, other), rng))
        place_boxes(world, self._boxes, places)
        return words

    @property
    def box(self) -> Thing:
        """The box of this episode."""
        return self._boxes[self._chosen]

    def distance(self, world: World) -> float:
        """m over the floor from the box's centre to the middle of the named zone."""
        return math.dist(world.position(self.box.name)[:2], world.position(_zone(self._color))[:2])

    def tilt(self, world: World) -> float:
        """rad between the box's upright axis and the world's."""
        upright = float(quat_to_matrix(world.object_pose(self.box.name)[1])[2, 2])
        return math.acos(min(max(upright, -1.0), 1.0))  # rounding may take it out of [-1, 1]

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: box near the named zone, palms near the box, box upright, torso upright."""
        distance, tilt = self.distance(world), self.tilt(world)
        there = distance <= self.config.success_distance and tilt <= self.config.max_tilt
        self._held = self._held + 1 if there else 0
        self._toppled = tilt > 1.0
        palms = max(math.dist(world.position(palm)[:2], world.position(self.box.name)[:2]) for palm in PALMS)
        terms = {
            "distance": tolerance(distance, (0.0, self.config.success_distance), margin=1.5),
            "palms": 1.0 if there else tolerance(palms, (0.0, 0.35), margin=1.0),
            "box_upright": tolerance(tilt, (0.0, self.config.max_tilt), margin=0.5),
            "upright": tolerance(-float(state.gravity_b[2]), (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return math.prod(terms.values()), terms

    @property
    def success(self) -> bool:
        """Upright in the zone for `hold_s` without a break, up to now."""
        return self._held >= self._hold_steps

    @property
    def failed(self) -> bool:
        """The box lies on its side."""
        return self._toppled

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """Box and named zone in the pelvis frame and in the world, the box's orientation, half size, kg and friction;
        and m from the box to the zone.
        """
        pos_w, quat_wxyz = world.object_pose(self.box.name)
        zone_w = world.position(_zone(self._color))
        box_b, zone_b = points_in_frame([tuple(pos_w.tolist()), zone_w], *world.object_pose("pelvis"))
        return {
            "color": self._color,
            "box_color": color_of(self.box),
            "distance": self.distance(world),
            "target_pos_b": zone_b,
            "box_pos_b": box_b,
            "target_pos_w": np.array(zone_w),
            "box_pos_w": pos_w,
            "box_quat_wxyz": quat_wxyz,
            "box_half_size": np.array(self.box.look.size),
            "mass": self.box.mass,
            "friction": self.box.friction,
        }

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Joint targets (steps, 29) rad: both palms ahead, as far as the box will be pushed from."""
        goal = joints.HOME.copy()
        goal[joints.GROUPS["waist"]] = state.joint_pos[joints.GROUPS["waist"]]
        for hand, chain in enumerate(ARM_JOINTS):
            goal[chain] = of_hand(_PUSHING, hand)
        return approach(state.joint_target, lift_against_gravity(goal, state.gravity_b), steps)

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """What the expert tells the walker in the next `steps`: (steps, 3): behind the box, then on with it."""
        return np.tile(self._velocity(world), (steps, 1))

    def get_state(self) -> dict[str, Any]:
        """Counters and choices of the running episode; poses belong to the world."""
        return {
            "held": self._held,
            "chosen": self._chosen,
            "color": self._color,
            "other": self._other,
            "toppled": self._toppled,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._held, self._chosen, self._toppled = int(state["held"]), int(state["chosen"]), bool(state["toppled"])
        self._color, self._other = str(state["color"]), str(state["other"])

    def _aside(self, start: Pose, side: float, rng: np.random.Generator) -> tuple[Thing, np.ndarray, float]:
        """Another box of the set, to the left (side 1) or right (-1) of the robot's pose, and where: centre, yaw."""
        box = self._boxes[(self._chosen + int(rng.integers(1, len(self._boxes)))) % len(self._boxes)]
        distance, bearing = (rng.uniform(*limits) for limits in _ASIDE)
        toward = Pose(start.x, start.y, start.yaw + side * bearing)
        return box, np.array([*on_floor(toward, distance, 0.0), box.half_height]), rng.uniform(-math.pi, math.pi)

    def _velocity(self, world: World) -> np.ndarray:
        """(3,) m/s, m/s, rad/s.

        The box moves with a point ahead of the robot, so it is steered like a wheelbarrow: turn left and it goes left.
        A box that is off to one side is followed by stepping to that side.
        """
        pose, box = floor_pose(world), floor_pose(world, self.box.name)
        zone = np.array(world.position(_zone(self._color))[:2])
        if math.dist(box[:2], zone) < 0.06:
            return np.zeros(3)
        box_ahead, box_left = seen_from(pose, np.array(box[:2])).tolist()
        if abs(box_left) > _BESIDE:  # it would slip past: back off, then step behind the box again
            backwards = -0.25 if box_ahead < self.box.look.size[0] + _REACH + _FREE else 0.0
            return np.array([backwards, float(np.clip(1.5 * box_left, -0.2, 0.2)) * (backwards == 0.0), 0.0])
        to_zone = zone - box[:2]
        heading = math.remainder(math.atan2(to_zone[1], to_zone[0]) - pose.yaw, math.tau)
        reached = box_ahead - self.box.look.size[0] - _REACH
        turn = float(np.clip(1.2 * heading, -_TURN, _TURN))
        aside = float(np.clip(1.0 * box_left, -0.15, 0.15))
        forward = _SPEED * max(0.2, math.cos(min(1.5, 2.0 * abs(heading)))) if reached < 0.1 else _SPEED
        return np.array([forward, aside, turn])


def _zone(color: str) -> str:
    return f"zone_{color}"

"""lift_box: take a box from its stand between both palms, lift it by 10 cm and hold it there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import mujoco
import numpy as np

from neon_sim.g1.geometry import points_in_frame, quat_rotate_inverse, quat_to_matrix
from neon_sim.g1.kinematics import ARM_JOINTS, GRAVITY, UnreachableError
from neon_sim.names import require_numbers, require_spans
from neon_sim.robot import RobotState, World
from neon_sim.tasks.arms import MAX_SPEED, PALMS, approach, lift_against_gravity
from neon_sim.tasks.boxes import LIFT_BOXES, add_boxes, color_of, place_boxes
from neon_sim.tasks.objects import HIDDEN_W, TABLES, THINGS, Look, Thing, add_table, add_things, scatter
from neon_sim.tasks.palms import finger_directions, press_posture, push_with, touch_points
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits

WORDING = Wording(
    train=(
        "lift the {color} box with both hands",
        "pick up the {color} box with both hands",
        "take the {color} box between your hands and lift it",
        "raise the {color} box with your two hands",
    ),
    test=(
        "hold the {color} box between your palms and raise it",
        "use both palms to get the {color} box off its stand",
        "the {color} box: up with it, both hands",
    ),
)
_STANDS: Final = ("stand", "other_stand")  # mocap bodies
_COLUMN: Final = (0.05, 0.05, 0.42)  # m, half sizes; what is too long for a height is below the floor
# m, near edge, depth and width of the table: behind the near stand, with room for the other box before the things.
_TABLE: Final = (0.55, 0.75, 1.4)
_STAND_RGB: Final = {"train": (0.55, 0.42, 0.30), "test": (0.36, 0.38, 0.42)}
# What the expert's left arm prefers, rad: elbow bent, forearm ahead, hand a little up.
_POSTURE: Final = np.array([-0.2, 0.1, 0.0, 0.3, 0.0, -0.4, 0.0])
_OPEN: Final = 0.05  # m between a hand and the wall that it is about to press
_BESIDE: Final = 0.04  # m that a hand may be off the middle of the wall
# Shoulder roll and yaw and wrist yaw of both arms: with the forearms ahead these bring the hands together.
_SQUEEZING: Final = np.concatenate([chain[[1, 2, 6]] for chain in ARM_JOINTS])
_TOUCHING: Final = 0.012  # m
_SETTLED: Final = 0.05  # rad between their targets and those that hold the box: the hands press by then
_RAISE: Final = 0.04  # m that the hands aim above the box at most
_LOOSE: Final = 0.01  # m above the stand from which the hands must have it
_CARRYING: Final = 0.03  # rad a control step: slower with a box between the hands
_HELD_AT: Final = 0.27  # m ahead of the pelvis
_SPARE: Final = 0.035  # m lifted beyond what is asked
_SAFE_GRIP: Final = 3.0  # times the squeeze that friction needs
_SQUEEZE: Final = (18.0, 40.0)  # N, least and most: the wrists have 5 N m


@dataclass(frozen=True)
class LiftBoxConfig:
    """Where the box may stand, in the robot's frame at reset; m, rad and s.

    height is that of the box's centre above the floor. Raises ValueError for a number out of its range, a range the
    wrong way round, and a split that does not exist.
    """

    distance: tuple[float, float] = (0.27, 0.31)
    left: tuple[float, float] = (-0.03, 0.03)
    turn: tuple[float, float] = (-0.15, 0.15)
    height: tuple[float, float] = (0.84, 0.90)
    lift: float = 0.10  # what counts as lifted
    hold_s: float = 1.0
    wording: str = "train"  # or "test": paraphrases that are held out
    objects: str = "train"  # or "test": boxes of other sizes, masses, frictions and shades
    clutter: bool = False  # True puts the box that is not named on a table, among loose things; the rest stays

    def __post_init__(self) -> None:
        check_splits(self)
        require_spans(self, distance=(0.1, 2.0), left=(-2.0, 2.0), turn=(-math.pi, math.pi), height=(0.1, 2.0))
        require_numbers(self, lift=(0.001, 1.0), hold_s=HOLD_S)


class _Grasp(NamedTuple):
    """The named box as the hands see it, pelvis frame."""

    centre: np.ndarray  # (3,) m
    walls: np.ndarray  # (2, 3) m, middle of the left and of the right wall
    outward: np.ndarray  # (2, 3) unit vectors out of these walls
    gaps: np.ndarray  # (2,) m between hand and wall; negative inside
    tilt: np.ndarray  # (3,) rad, the turn about the line between the hands that would level the box
    offsets: np.ndarray  # (2,) m that a hand is off the middle of its wall, along the wall


class LiftBoxTask:
    """Success: the named box has been 10 cm above where it stood for 1 s. Dropping it ends the episode."""

    name = "lift_box"
    max_steps = 500

    def __init__(self, config: LiftBoxConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or LiftBoxConfig()
        self._hold_steps = round(self.config.hold_s / control_dt)
        self._boxes = LIFT_BOXES[self.config.objects]
        near, depth, width = _TABLE
        self._table = replace(TABLES[self.config.objects], near=near, depth=depth, width=width)
        self._things = THINGS[self.config.objects] if self.config.clutter else ()
        self._held, self._chosen, self._start_height, self._dropped = 0, 0, 0.0, False

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """All boxes of the set, and two stands for the two that an episode shows; and the clutter, if there is any."""
        add_boxes(spec, self._boxes)
        column = Look("box", _COLUMN, _STAND_RGB[self.config.objects])
        for name in _STANDS:
            column.add_to(spec.worldbody.add_body(name=name, mocap=True, pos=HIDDEN_W), name=name)
        if self.config.clutter:
            add_table(spec, self._table)
            add_things(spec, self._things, self._table)

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose a box for the hands and another to look at, their places, and a wording."""
        chosen, other = rng.permutation(len(self._boxes))[:2].tolist()
        self._held, self._chosen, self._dropped = 0, chosen, False
        config = self.config
        near = [rng.uniform(*config.distance), rng.uniform(*config.left), rng.uniform(*config.height)]
        aside = float(rng.choice([-1.0, 1.0])) * rng.uniform(0.35, 0.5)
        far = [rng.uniform(0.7, 0.9), aside, rng.uniform(*config.height)]
        self._start_height = near[2]
        pelvis_w, quat_wxyz = world.object_pose("pelvis")
        ahead = quat_to_matrix(quat_wxyz)[:2, 0]
        heading = math.atan2(ahead[1], ahead[0])
        turn = np.array([[math.cos(heading), -math.sin(heading)], [math.sin(heading), math.cos(heading)]])
        places = []
        for stand, index, (x, y, z) in zip(_STANDS, (chosen, other), (near, far), strict=True):
            box, floor = self._boxes[index], pelvis_w[:2] + turn @ [x, y]
            world.place_object(stand, np.array([*floor, z - box.half_height - _COLUMN[2]]))
            places.append((box, np.array([*floor, z]), heading + rng.uniform(*config.turn)))
        words = WORDING.draw(config.wording, rng, color=color_of(self.box))
        if self._things:
            world.place_object(_STANDS[1], HIDDEN_W)  # it would stand in the table
            box, pos_w, yaw = places[1]
            places[1] = box, np.array([*pos_w[:2], self._table.height + box.half_height]), yaw
            scatter(world, self._things, self._table, rng)
        place_boxes(world, self._boxes, places)
        return words

    @property
    def box(self) -> Thing:
        """The box that the words name."""
        return self._boxes[self._chosen]

    def lifted(self, world: World) -> float:
        """m that the named box is above where it stood."""
        return world.position(self.box.name)[2] - self._start_height

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: both palms at the box's walls, box lifted, torso upright."""
        lifted = self.lifted(world)
        self._held = self._held + 1 if lifted >= self.config.lift else 0
        self._dropped = lifted < -self.config.lift
        terms = {
            "hands": tolerance(self.distance(world), (0.0, 0.06), margin=0.4),
            "lifted": tolerance(lifted, (self.config.lift, math.inf), margin=self.config.lift),
            "upright": tolerance(-float(state.gravity_b[2]), (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return math.prod(terms.values()), terms

    def distance(self, world: World) -> float:
        """m from the farther palm to the middle of its wall of the named box; the palm site is 3 cm inside the hand."""
        pos_w, quat_wxyz = world.object_pose(self.box.name)
        side = quat_to_matrix(quat_wxyz)[:, 1] * self.box.look.size[1]
        palms = [world.position(palm) for palm in PALMS]
        return min(max(math.dist(palms[0], pos_w + s * side), math.dist(palms[1], pos_w - s * side)) for s in (1, -1))

    @property
    def success(self) -> bool:
        """Lifted for `hold_s` without a break, up to now."""
        return self._held >= self._hold_steps

    @property
    def failed(self) -> bool:
        """The box has fallen from its stand."""
        return self._dropped

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The named box: centre in the pelvis frame and in the world, orientation there, half size, kg, friction, m of
        lift; then m from the farther palm to its wall.
        """
        pos_w, quat_wxyz = world.object_pose(self.box.name)
        pelvis = world.object_pose("pelvis")
        [pos_b] = points_in_frame([tuple(pos_w.tolist())], *pelvis)
        return {
            "color": color_of(self.box),
            "target_pos_b": pos_b,
            "box_pos_w": pos_w,
            "box_quat_wxyz": quat_wxyz,
            "box_half_size": np.array(self.box.look.size),
            "mass": self.box.mass,
            "friction": self.box.friction,
            "lifted": self.lifted(world),
            "distance": self.distance(world),
        }

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Joint targets (steps, 29) rad: open hands beside the box, close them, press, raise.

        Where it is in this is read from where hands, targets and box are, so it can begin anywhere.
        """
        grasp = self._grasp(state, world)
        try:
            goal = self._goal(state, grasp, self.lifted(world))
        except UnreachableError:
            goal = state.joint_target  # a robot that has fallen or turned away: hold still
        speed = _CARRYING if grasp.gaps.max() < _TOUCHING else MAX_SPEED
        return approach(state.joint_target, goal, steps, speed=speed)

    def expert_hand(self, state: RobotState, world: World) -> int:
        """Both, which is 2."""
        return 2

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> None:
        """It stands."""

    def get_state(self) -> dict[str, Any]:
        """Counters and choices of the running episode; the boxes' poses belong to the world."""
        return {
            "held": self._held,
            "chosen": self._chosen,
            "start_height": self._start_height,
            "dropped": self._dropped,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._held, self._chosen = int(state["held"]), int(state["chosen"])
        self._start_height, self._dropped = float(state["start_height"]), bool(state["dropped"])

    def _grasp(self, state: RobotState, world: World) -> _Grasp:
        pos_w, quat_wxyz = world.object_pose(self.box.name)
        pelvis_w, pelvis_quat = world.object_pose("pelvis")
        centre = quat_rotate_inverse(pelvis_quat, pos_w - pelvis_w)
        left = quat_rotate_inverse(pelvis_quat, quat_to_matrix(quat_wxyz)[:, 1])
        left = left if left[1] > 0.0 else -left
        outward = np.array([left, -left])
        walls = centre + self.box.look.size[1] * outward
        off = touch_points(state.joint_pos) - walls
        gaps = np.einsum("hi,hi->h", off, outward)
        top = quat_rotate_inverse(pelvis_quat, quat_to_matrix(quat_wxyz)[:, 2])
        tilt = left * (left @ np.cross(top, -state.gravity_b))
        return _Grasp(centre, walls, outward, gaps, tilt, np.linalg.norm(off - gaps[:, None] * outward, axis=1))

    def _goal(self, state: RobotState, grasp: _Grasp, lifted: float) -> np.ndarray:
        """Targets (29,) rad to approach next."""
        if grasp.offsets.max() > _BESIDE or grasp.gaps.max() > 2 * _OPEN:
            return self._targets(state, grasp, gap=_OPEN)
        if grasp.gaps.max() > _TOUCHING:
            return self._targets(state, grasp, squeeze=_SQUEEZE[0])
        friction_needs = self.box.mass * GRAVITY / (2.0 * self.box.friction)
        squeeze = float(np.clip(_SAFE_GRIP * friction_needs, *_SQUEEZE))
        hold = self._targets(state, grasp, squeeze=squeeze, carried=self.box.mass)
        if lifted < _LOOSE and np.abs(hold - state.joint_target)[_SQUEEZING].max() > _SETTLED:
            return hold
        raised = min(_RAISE, 2.0 * (self.config.lift + _SPARE - lifted))  # twice what lacks: arms sag under a box
        return self._targets(state, grasp, squeeze=squeeze, carried=self.box.mass, raised=raised)

    def _targets(
        self,
        state: RobotState,
        grasp: _Grasp,
        gap: float = 0.0,
        squeeze: float = 0.0,
        carried: float = 0.0,
        raised: float = 0.0,
    ) -> np.ndarray:
        """Targets (29,) rad: hands `gap` m off the walls and `raised` m higher, pressing N, carrying kg together."""
        up = -state.gravity_b
        posture = state.joint_pos.copy()
        fingers_b = finger_directions(posture)
        # Pressing arms draw the box nearer, and each new grasp would begin where the last one ended.
        drawn = np.array([np.clip(_HELD_AT - grasp.centre[0], -0.02, 0.02) if carried else 0.0, 0.0, 0.0])
        level = fingers_b + np.cross(grasp.tilt, fingers_b)
        for hand in (0, 1):
            point = grasp.walls[hand] + gap * grasp.outward[hand] + raised * up + drawn
            fingers = level[hand] if carried else None
            posture[ARM_JOINTS[hand]] = press_posture(posture, hand, point, -grasp.outward[hand], _POSTURE, fingers)
        forces = -squeeze * grasp.outward + 0.5 * carried * GRAVITY * up
        return lift_against_gravity(posture, state.gravity_b) + push_with(posture, forces)

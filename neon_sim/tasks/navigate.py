"""navigate: walk to the marker of the named colour, around what stands in the way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.g1.geometry import points_in_frame
from neon_sim.g1.joints import HOME
from neon_sim.names import require_counts, require_numbers, require_spans
from neon_sim.robot import RobotState, World
from neon_sim.tasks.objects import COLORS, HIDDEN_W, SHADES, Look
from neon_sim.tasks.path import Block, clearance, floor_pose, on_floor, plan, pursue
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits

WORDING = Wording(
    train=(
        "walk to the {color} marker",
        "go to the {color} marker",
        "find the {color} marker and stop there",
        "move over to the {color} marker",
    ),
    test=(
        "the {color} marker is where you should stand",
        "head for the {color} spot on the floor and wait there",
        "please get yourself to the {color} marker",
    ),
)
_MARKERS: Final = {
    "train": Look("cylinder", (0.25, 0.005), (0.0, 0.0, 0.0)),
    "test": Look("box", (0.22, 0.22, 0.005), (0.0, 0.0, 0.0)),
}
# Half sizes in m of what stands in the way: crates, a pillar, a low wall; in the test other crates and a thin column.
OBSTACLES: Final[dict[str, tuple[Look, ...]]] = {
    "train": (
        Look("box", (0.20, 0.20, 0.45), (0.55, 0.45, 0.35)),
        Look("box", (0.15, 0.30, 0.55), (0.60, 0.60, 0.58)),
        Look("box", (0.25, 0.15, 0.35), (0.48, 0.40, 0.30)),
        Look("box", (0.10, 0.10, 0.90), (0.70, 0.70, 0.72)),
    ),
    "test": (
        Look("box", (0.22, 0.16, 0.60), (0.35, 0.45, 0.50)),
        Look("box", (0.12, 0.35, 0.50), (0.50, 0.38, 0.42)),
        Look("box", (0.07, 0.07, 1.00), (0.30, 0.30, 0.32)),
        Look("box", (0.28, 0.12, 0.40), (0.62, 0.58, 0.45)),
    ),
}
_ROBOT_RADIUS: Final = 0.36  # m, arms hanging; a little more than the hands need
_ROOMY: Final = 0.55  # m
_SPEED, _TURN = 0.4, 0.7  # m/s and rad/s of the expert
_ARRIVED: Final = 0.12  # m from the middle at which the expert stops
_MIN_WAY: Final = 0.9  # m from the start to every marker, and so at least 0.6 m to walk


@dataclass(frozen=True)
class NavigateConfig:
    """Where markers and obstacles may be, in the robot's frame at reset; m, rad, m/s and s.

    Raises ValueError for a number out of its range: more markers than colours, more obstacles than there are, markers
    nearer than 0.9 m; and for a split that does not exist.
    """

    num_markers: int = 3
    num_obstacles: int = 3
    distance: tuple[float, float] = (1.2, 3.0)
    bearing: tuple[float, float] = (-1.0, 1.0)
    success_distance: float = 0.3  # pelvis to the marker's middle, over the floor
    max_speed: float = 0.15  # over the floor, to count as being there
    hold_s: float = 0.5
    wording: str = "train"  # or "test": paraphrases that are held out
    objects: str = "train"  # or "test": square markers of other shades, other obstacles

    def __post_init__(self) -> None:
        check_splits(self)
        require_counts(self, num_markers=(2, len(COLORS)), num_obstacles=(0, len(OBSTACLES[self.objects])))
        require_spans(self, distance=(_MIN_WAY, 20.0), bearing=(-math.pi, math.pi))
        require_numbers(self, success_distance=(0.001, 5.0), max_speed=(0.001, 5.0), hold_s=HOLD_S)


class NavigateTask:
    """Success: the pelvis has been within 0.3 m of the named marker, and slow, for 0.5 s. Bumping ends nothing."""

    name = "navigate"
    max_steps = 1000

    def __init__(self, config: NavigateConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or NavigateConfig()
        self._dt = control_dt
        self._hold_steps = round(self.config.hold_s / control_dt)
        self._obstacles = OBSTACLES[self.config.objects]
        self._held, self._color = 0, "red"
        self._present: tuple[str, ...] = ("red",)
        self._standing: tuple[int, ...] = ()  # obstacles that this episode has
        self._last_pos, self._velocity = (0.0, 0.0), (0.0, 0.0)

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """A mocap marker for each colour, seen and not felt, and mocap obstacles that are both; hidden until placed."""
        shape = _MARKERS[self.config.objects]
        for color, rgb in SHADES[self.config.objects].items():
            body = spec.worldbody.add_body(name=_marker(color), mocap=True, pos=HIDDEN_W)
            Look(shape.shape, shape.size, rgb).add_to(body, touch=(0, 0), name=_marker(color))
        for i, look in enumerate(self._obstacles):
            look.add_to(spec.worldbody.add_body(name=_obstacle(i), mocap=True, pos=HIDDEN_W), name=_obstacle(i))

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose markers, obstacles, their places, the named marker and a wording."""
        config = self.config
        start = floor_pose(world)
        self._held, self._last_pos, self._velocity = 0, (start.x, start.y), (0.0, 0.0)
        self._present = tuple(str(color) for color in rng.permutation(list(COLORS))[: config.num_markers])
        self._color = self._present[0]
        self._standing = tuple(rng.permutation(len(self._obstacles))[: config.num_obstacles].tolist())
        markers, blocks = self._layout(rng)
        for color in COLORS:
            world.place_object(_marker(color), HIDDEN_W)
        for color, place in zip(self._present, markers, strict=True):
            world.place_object(_marker(color), np.array([*on_floor(start, *place), 0.006]))
        for i in range(len(self._obstacles)):
            world.place_object(_obstacle(i), HIDDEN_W)
        for i, block in zip(self._standing, blocks, strict=True):
            yaw = block.yaw + start.yaw
            pos_w = np.array([*on_floor(start, block.x, block.y), self._obstacles[i].size[2]])
            world.place_object(_obstacle(i), pos_w, np.array([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]))
        return WORDING.draw(config.wording, rng, color=self._color)

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: pelvis near the named marker, slow once it is there, torso upright."""
        speed, distance = self._move_to(world), self.distance(world)
        there = distance <= self.config.success_distance
        self._held = self._held + 1 if there and speed <= self.config.max_speed else 0
        terms = {
            "distance": tolerance(distance, (0.0, self.config.success_distance), margin=3.0),
            "slow": tolerance(speed, (0.0, self.config.max_speed), margin=0.5) if there else 1.0,
            "upright": tolerance(-float(state.gravity_b[2]), (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return math.prod(terms.values()), terms

    def distance(self, world: World) -> float:
        """m over the floor from the pelvis to the middle of the named marker."""
        return math.dist(world.position("pelvis")[:2], world.position(_marker(self._color))[:2])

    @property
    def success(self) -> bool:
        """There and slow for `hold_s` without a break, up to now."""
        return self._held >= self._hold_steps

    @property
    def failed(self) -> bool:
        """Falling is the env's business; who bumps into something can still arrive."""
        return False

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The named marker in the pelvis frame and in the world, how far it is, the expert's velocity (3,), and all
        markers by colour and obstacles in the pelvis frame; m.
        """
        pelvis = world.object_pose("pelvis")
        markers = {color: world.position(_marker(color)) for color in self._present}
        obstacles = [world.position(_obstacle(i)) for i in self._standing]
        markers_b = dict(zip(self._present, points_in_frame(markers.values(), *pelvis), strict=True))
        return {
            "color": self._color,
            "distance": self.distance(world),
            "target_pos_b": markers_b[self._color],
            "target_pos_w": np.array(markers[self._color]),
            "marker_pos_b": markers_b,
            "obstacle_pos_b": np.array(points_in_frame(obstacles, *pelvis)).reshape(-1, 3),
        }

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Arms to the home pose (steps, 29) rad; the walker does the rest."""
        return np.tile(HOME, (steps, 1))

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """What the expert tells the walker in the next `steps`: (steps, 3), along a way that A* finds from here."""
        if self.distance(world) < _ARRIVED:
            return np.zeros((steps, 3))
        pose = floor_pose(world)
        goal = np.array(world.position(_marker(self._color))[:2])
        way = plan(np.array(pose[:2]), goal, self.blocks(world), _ROBOT_RADIUS, _ROOMY)
        return np.tile(pursue(pose, way, _SPEED, _TURN), (steps, 1))

    def blocks(self, world: World) -> list[Block]:
        """The obstacles of this episode from above, in the world."""
        standing = ((floor_pose(world, _obstacle(i)), self._obstacles[i].size) for i in self._standing)
        return [Block(*pose, size[0], size[1]) for pose, size in standing]

    def get_state(self) -> dict[str, Any]:
        """Counters and choices of the running episode; poses belong to the world."""
        return {
            "held": self._held,
            "color": self._color,
            "present": self._present,
            "standing": self._standing,
            "last_pos": self._last_pos,
            "velocity": self._velocity,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._held, self._color = int(state["held"]), str(state["color"])
        self._present, self._standing = tuple(state["present"]), tuple(state["standing"])
        self._last_pos, self._velocity = tuple(state["last_pos"]), tuple(state["velocity"])

    def _move_to(self, world: World) -> float:
        """Take in where the pelvis is one control period later; returns m/s, smoothed over 0.2 s: a stride sways."""
        x, y, _ = world.position("pelvis")
        (x0, y0), (vx, vy), share = self._last_pos, self._velocity, self._dt / 0.2
        self._velocity = vx + share * ((x - x0) / self._dt - vx), vy + share * ((y - y0) / self._dt - vy)
        self._last_pos = x, y
        return math.hypot(*self._velocity)

    def _layout(self, rng: np.random.Generator) -> tuple[np.ndarray, list[Block]]:
        """Places of markers (num_markers, 2) m and obstacles in the robot's frame; the first obstacle is in the way."""
        config = self.config
        sizes = [self._obstacles[i].size for i in self._standing]
        for _ in range(10_000):
            distance = rng.uniform(*config.distance, config.num_markers)
            bearing = rng.uniform(*config.bearing, config.num_markers)
            markers = distance[:, None] * np.column_stack([np.cos(bearing), np.sin(bearing)])
            between = [0.5, *rng.uniform(0.0, 1.0, len(sizes))][: len(sizes)]
            centres = [share * markers[0] + rng.uniform(-0.6, 0.6, 2) * (i > 0) for i, share in enumerate(between)]
            yaws = rng.uniform(-math.pi, math.pi, len(sizes))
            blocks = [
                Block(float(x), float(y), yaw, size[0], size[1])
                for (x, y), yaw, size in zip(centres, yaws.tolist(), sizes, strict=True)
            ]
            if _roomy(markers, blocks):
                return markers, blocks
        raise ValueError(f"No room for markers and obstacles in {config}. Widen distance or bearing, or ask for fewer.")


def _roomy(markers: np.ndarray, blocks: Sequence[Block]) -> bool:
    """Whether markers are apart, the start is free, every marker can be stood on, and obstacles leave a way between."""
    apart = np.linalg.norm(markers[:, None] - markers, axis=2)[np.triu_indices(len(markers), 1)]
    if apart.min(initial=np.inf) < 0.7:
        return False
    free = np.concatenate([np.zeros((1, 2)), markers])
    if any(clearance(free, block).min() < _ROOMY for block in blocks):
        return False
    way = plan(free[0], markers[0], list(blocks), _ROBOT_RADIUS, _ROOMY)
    return all(clearance(way, block).min() >= _ROBOT_RADIUS - 1e-9 for block in blocks)


def _marker(color: str) -> str:
    return f"marker_{color}"


def _obstacle(index: int) -> str:
    return f"obstacle_{index}"

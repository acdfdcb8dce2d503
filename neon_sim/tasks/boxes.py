"""Boxes for two hands: to be lifted from a stand, to be pushed over the floor. A training and a test set of each.

A compiled model cannot give a body another size or mass, so every box of a set is in the scene and an episode places
the ones that it needs. The others are parked: free bodies want a place, and the floor is solid all the way down.
Sizes, masses and frictions are our choice, of the kind that the arms' 25 N m (`joints.EFFORT`) can handle.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import mujoco
import numpy as np

from neon_sim.robot import World
from neon_sim.tasks.objects import COLORS, TEST_SHADES, Look, Thing

_PARKED_HEIGHT: Final = 1e7  # m: nothing touches them up there, and the fall takes 24 minutes, longer than any episode
_PARKED_GAP: Final = 1000.0  # m from one to the next, and from the robot to the first: none comes down on it
_BASE: Final = 0.02  # m, half height of the sliding base under a box for the floor
_GRIP: Final = 0.9  # friction of a tall box's walls
_FRICTION_TAIL: Final = (0.005, 0.0001)  # torsional and rolling, MuJoCo's defaults


def _box(color: str, half: tuple[float, float, float], mass: float, friction: float, test: bool = False) -> Thing:
    return Thing(f"box_{color}", Look("box", half, (TEST_SHADES if test else COLORS)[color]), mass, friction)


# Half sizes in m: depth, width, height; kg; friction with hands and stand.
LIFT_BOXES: Final[dict[str, tuple[Thing, ...]]] = {
    "train": (
        _box("red", (0.07, 0.11, 0.08), 0.8, 0.8),
        _box("green", (0.08, 0.13, 0.09), 1.2, 0.9),
        _box("blue", (0.06, 0.10, 0.10), 0.5, 0.7),
        _box("yellow", (0.07, 0.12, 0.07), 1.5, 1.0),
    ),
    "test": (
        _box("red", (0.08, 0.12, 0.10), 1.0, 0.65, test=True),
        _box("blue", (0.06, 0.135, 0.08), 1.4, 0.85, test=True),
        _box("purple", (0.075, 0.105, 0.09), 0.6, 0.75, test=True),
    ),
}
# The same for boxes on the floor; friction is that of the base with the floor: below depth over pushing height, or the
# box would tip over instead of sliding.
PUSH_BOXES: Final[dict[str, tuple[Thing, ...]]] = {
    "train": (
        _box("red", (0.22, 0.24, 0.48), 4.0, 0.15),
        _box("green", (0.25, 0.26, 0.50), 6.0, 0.12),
        _box("blue", (0.24, 0.22, 0.46), 3.0, 0.20),
        _box("yellow", (0.22, 0.28, 0.52), 5.0, 0.10),
    ),
    "test": (
        _box("red", (0.24, 0.25, 0.54), 5.0, 0.14, test=True),
        _box("blue", (0.23, 0.23, 0.44), 3.5, 0.18, test=True),
        _box("purple", (0.26, 0.27, 0.50), 4.5, 0.11, test=True),
    ),
}


def color_of(box: Thing) -> str:
    """The word for a box's colour."""
    return box.name.removeprefix("box_")


def add_boxes(spec: mujoco.MjSpec, boxes: Sequence[Thing]) -> None:
    """Free bodies, parked. Their own friction counts, not the larger of two as MuJoCo has it without a priority."""
    for body, box in _bodies(spec, boxes):
        friction = [box.friction, *_FRICTION_TAIL]
        box.look.add_to(body, name=box.name, mass=box.mass, friction=friction, priority=1)


def add_tall_boxes(spec: mujoco.MjSpec, boxes: Sequence[Thing]) -> None:
    """Free bodies, parked, that slide well and are still good to push: a slippery base under rough walls."""
    for body, box in _bodies(spec, boxes):
        depth, width, height = box.look.size
        walls = Look("box", (depth, width, height - _BASE), box.look.rgb)
        walls.add_to(body, name=box.name, pos=[0, 0, _BASE], mass=box.mass, friction=[_GRIP, *_FRICTION_TAIL])
        base = Look("box", (depth, width, _BASE), (0.25, 0.25, 0.25))
        friction = [box.friction, *_FRICTION_TAIL]
        base.add_to(body, name=f"{box.name}_base", pos=[0, 0, _BASE - height], mass=0.0, friction=friction, priority=1)


def place_boxes(world: World, boxes: Sequence[Thing], places: Iterable[tuple[Thing, np.ndarray, float]]) -> None:
    """Put boxes at (box, centre (3,) m in the world, yaw rad), at rest, and park all the others."""
    chosen = {box.name: (pos_w, yaw) for box, pos_w, yaw in places}
    for i, box in enumerate(boxes):
        pos_w, yaw = chosen.get(box.name, (_parked(i), 0.0))
        world.place_object(box.name, pos_w, np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]))


def _bodies(spec: mujoco.MjSpec, boxes: Sequence[Thing]) -> Iterable[tuple[mujoco.MjsBody, Thing]]:
    for i, box in enumerate(boxes):
        body = spec.worldbody.add_body(name=box.name, pos=_parked(i))
        body.add_freejoint(name=box.name)
        yield body, box


def _parked(index: int) -> np.ndarray:
    return np.array([_PARKED_GAP * (index + 1), 0.0, _PARKED_HEIGHT])

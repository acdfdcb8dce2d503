"""What stands around in tasks: colours, balls to be seen, a table, loose things. Each in a training and a test set.

The words for colours are the same in both sets; shapes, sizes, shades, masses and frictions are not, so that "unseen
objects" means just that. Sizes and masses are our choice, of the kind that one hand can push aside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np

from neon_sim.robot import World

COLORS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.10, 0.25, 0.90),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.60, 0.15, 0.75),
}
TEST_SHADES: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.70, 0.02, 0.12),
    "green": (0.25, 0.80, 0.30),
    "blue": (0.20, 0.45, 0.85),
    "yellow": (0.85, 0.72, 0.02),
    "purple": (0.45, 0.10, 0.60),
}
SHADES: Final = {"train": COLORS, "test": TEST_SHADES}
HIDDEN_W: Final = np.array([0.0, 0.0, -5.0])  # m, under the floor, where no sensor looks
_ARMS_ONLY: Final = (0, 2)  # contype and conaffinity of what only arms can touch (see assets/g1/g1.xml)


@dataclass(frozen=True)
class Look:
    """A shape (a MuJoCo geom type in lower case), its sizes in m as MuJoCo counts them, and a colour."""

    shape: str
    size: tuple[float, ...]
    rgb: tuple[float, float, float]

    def add_to(self, body: mujoco.MjsBody, touch: tuple[int, int] = (1, 1), **geom: object) -> mujoco.MjsGeom:
        """A geom of this look; `touch` is contype and conaffinity, (0, 0) for a thing that is seen and not felt."""
        return body.add_geom(
            type=getattr(mujoco.mjtGeom, f"mjGEOM_{self.shape.upper()}"),
            size=[*self.size, 0.0, 0.0][:3],
            rgba=[*self.rgb, 1.0],
            contype=touch[0],
            conaffinity=touch[1],
            **geom,
        )


# Sizes over the ball's radius: no test ball has the shape and size of a training ball.
_TEST_BALLS: Final = {
    "red": ("sphere", (0.75,)),
    "green": ("ellipsoid", (0.9, 0.9, 1.4)),
    "blue": ("sphere", (1.25,)),
    "yellow": ("ellipsoid", (1.3, 0.9, 0.9)),
    "purple": ("ellipsoid", (1.2, 1.2, 0.7)),
}


def ball_looks(split: str, radius: float) -> dict[str, Look]:
    """One ball for each colour, by colour: alike in training, each of another shape or size in the test."""
    if split == "train":
        return {color: Look("sphere", (radius,), rgb) for color, rgb in COLORS.items()}
    kinds = _TEST_BALLS.items()
    return {color: Look(shape, tuple(radius * s for s in sizes), TEST_SHADES[color]) for color, (shape, sizes) in kinds}


def ball_name(color: str) -> str:
    """The body of a ball."""
    return f"ball_{color}"


def add_balls(spec: mujoco.MjSpec, split: str, radius: float) -> None:
    """One mocap ball per colour, hidden until it is placed; they are seen and not felt."""
    for color, look in ball_looks(split, radius).items():
        body = spec.worldbody.add_body(name=ball_name(color), mocap=True, pos=HIDDEN_W)
        look.add_to(body, touch=(0, 0), name=ball_name(color))


@dataclass(frozen=True)
class Table:
    """A table in front of the robot, its near edge at x = `near`; m, world frame. 0.74 m is an office table."""

    near: float = 0.30
    depth: float = 0.60
    width: float = 1.20
    height: float = 0.74
    thickness: float = 0.03
    rgb: tuple[float, float, float] = (0.62, 0.50, 0.38)


TABLES: Final = {
    "train": Table(),
    "test": Table(width=1.0, rgb=(0.80, 0.80, 0.76)),
}


def add_table(spec: mujoco.MjSpec, table: Table) -> None:
    """A top and two side walls, fixed to the floor; everything that moves can touch it."""
    body = spec.worldbody.add_body(name="table", pos=[table.near + table.depth / 2, 0.0, 0.0])
    half = (table.depth / 2, table.width / 2, table.thickness / 2)
    Look("box", half, table.rgb).add_to(body, name="table", pos=[0.0, 0.0, table.height - half[2]])
    leg = (table.depth / 2 - 0.02, 0.015, (table.height - table.thickness) / 2)
    for side in (-1.0, 1.0):
        pos = [0.0, side * (table.width / 2 - 0.03), leg[2]]
        Look("box", leg, table.rgb).add_to(body, pos=pos)


@dataclass(frozen=True)
class Thing:
    """A loose object: what it looks like, kg, and its sliding friction with what it lies on."""

    name: str
    look: Look
    mass: float
    friction: float

    @property
    def half_height(self) -> float:
        """m from its middle to what it stands on."""
        return self.look.size[0] if self.look.shape == "sphere" else self.look.size[-1]


THINGS: Final[dict[str, tuple[Thing, ...]]] = {
    "train": (
        Thing("tin", Look("cylinder", (0.035, 0.05), (0.70, 0.72, 0.75)), 0.35, 0.5),
        Thing("carton", Look("box", (0.05, 0.03, 0.06), (0.90, 0.88, 0.80)), 0.25, 0.7),
        Thing("brick", Look("box", (0.05, 0.05, 0.025), (0.45, 0.30, 0.25)), 0.60, 0.8),
    ),
    "test": (
        Thing("jar", Look("cylinder", (0.045, 0.06), (0.35, 0.55, 0.55)), 0.50, 0.4),
        Thing("book", Look("box", (0.08, 0.055, 0.015), (0.25, 0.28, 0.45)), 0.40, 0.6),
        Thing("pack", Look("box", (0.03, 0.06, 0.045), (0.75, 0.55, 0.30)), 0.15, 0.9),
    ),
}


def add_things(spec: mujoco.MjSpec, things: Sequence[Thing], table: Table) -> None:
    """Loose bodies in a row along the far edge of the table, until `scatter` places them."""
    for i, thing in enumerate(things):
        place = [table.near + table.depth - 0.12, (i - (len(things) - 1) / 2) * 0.25, table.height + thing.half_height]
        body = spec.worldbody.add_body(name=thing.name, pos=place)
        body.add_freejoint(name=thing.name)
        friction = [thing.friction, 0.005, 0.0001]
        # Of two surfaces MuJoCo takes the larger friction, unless one comes first: the thing's own counts here.
        thing.look.add_to(body, name=thing.name, mass=thing.mass, friction=friction, priority=1)


def scatter(world: World, things: Sequence[Thing], table: Table, rng: np.random.Generator) -> None:
    """Put each thing somewhere on its own part of the far third of the table, turned at random, at rest."""
    part = (table.width - 0.2) / len(things)
    order = rng.permutation(len(things))
    for slot, i in enumerate(order):
        left = -table.width / 2 + 0.1 + part * slot
        y = left + part / 2 + rng.uniform(-0.5, 0.5) * (part - 0.2)
        x = table.near + table.depth - 0.12 + rng.uniform(-0.03, 0.03)
        yaw = rng.uniform(-np.pi, np.pi)
        quat_wxyz = np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
        world.place_object(things[i].name, np.array([x, y, table.height + things[i].half_height]), quat_wxyz)

"""Rooms: walls, furniture and uneven patches around the place where the robot and its task are, from a seed.

Two families that share nothing but the way they are made: other furniture, other colours, other proportions. A policy
that has seen many "train" rooms has seen no "test" room.
"""

import math
from dataclasses import dataclass, field
from typing import Final

import mujoco
import numpy as np

from neon_sim.names import nearest, require_counts, require_vectors
from neon_sim.sim.model import FLOOR, SCENE_GROUP
from neon_sim.sim.terrain import add_ramp, add_rough_patch, add_stairs

FAMILIES: Final = ("train", "test")
GROUNDS: Final = ("steps", "slope", "rough")
_WALL: Final = 0.10  # m thick
_MOST_PIECES: Final = 200  # of furniture
_FARTHEST: Final = 1000.0  # m
_GAP: Final = 0.10  # m between things
_PATCH: Final = (1.2, 1.2)  # m, side lengths of a patch of uneven ground

Color = tuple[float, float, float]
Size = tuple[float, float, float]


@dataclass(frozen=True)
class Furniture:
    """A piece made of boxes: each (centre, half size) in m, in the piece's frame, standing on z = 0."""

    name: str
    half: tuple[float, float]  # m, of the floor that it takes
    boxes: tuple[tuple[Size, Size], ...]


def _table(name: str, x: float, y: float, z: float) -> Furniture:
    legs = tuple(((sx * (x - 0.04), sy * (y - 0.04), z / 2), (0.03, 0.03, z / 2)) for sx in (-1, 1) for sy in (-1, 1))
    return Furniture(name, (x, y), (((0.0, 0.0, z), (x, y, 0.02)), *legs))


def _block(name: str, x: float, y: float, z: float) -> Furniture:
    return Furniture(name, (x, y), (((0.0, 0.0, z), (x, y, z)),))


def _seat(name: str, x: float, y: float, seat: float, back: float) -> Furniture:
    rest = (0.05 - x, 0.0, back / 2), (0.05, y, back / 2)
    return Furniture(name, (x, y), (((0.0, 0.0, seat / 2), (x, y, seat / 2)), rest))


@dataclass(frozen=True)
class _Family:
    """What the rooms of one family are made of."""

    furniture: tuple[Furniture, ...]
    walls: tuple[Color, ...]
    floors: tuple[tuple[Color, Color], ...]  # both colours of the checks
    woods: tuple[Color, ...]
    height: tuple[float, float]  # m of the walls
    room: tuple[float, float]  # m between the clear area and each wall


_FAMILIES: Final = {
    "train": _Family(
        (_table("table", 0.45, 0.7, 0.72), _block("cupboard", 0.25, 0.5, 0.6), _seat("sofa", 0.4, 0.8, 0.4, 0.8)),
        walls=((0.82, 0.80, 0.75), (0.70, 0.76, 0.80), (0.78, 0.72, 0.70)),
        floors=(((0.42, 0.44, 0.46), (0.50, 0.52, 0.54)), ((0.50, 0.40, 0.30), (0.55, 0.45, 0.34))),
        woods=((0.55, 0.42, 0.30), (0.40, 0.30, 0.22), (0.75, 0.72, 0.68)),
        height=(2.2, 2.8),
        room=(1.6, 2.4),
    ),
    "test": _Family(
        (_table("desk", 0.35, 0.9, 0.95), _block("shelf", 0.15, 0.6, 0.95), _seat("armchair", 0.45, 0.45, 0.45, 1.0)),
        walls=((0.55, 0.62, 0.52), (0.62, 0.52, 0.45), (0.45, 0.48, 0.58)),
        floors=(((0.30, 0.33, 0.30), (0.62, 0.64, 0.60)), ((0.36, 0.30, 0.34), (0.44, 0.36, 0.40))),
        woods=((0.25, 0.35, 0.40), (0.60, 0.35, 0.20), (0.20, 0.20, 0.22)),
        height=(3.0, 3.6),
        room=(2.6, 3.4),
    ),
}


@dataclass(frozen=True)
class RoomConfig:
    """One room. Equal configs give equal rooms.

    family: "train" or "test". seed: of everything drawn. furniture: how many pieces at most; what finds no place is
    left out. grounds: of `GROUNDS`, a patch of each beside the clear area. clear: m, (x from, x to, y from, y to) of
    the world, kept free for the robot, which starts at the origin facing x, and for its task; the default holds the
    ways of `walk` and the people of `look_at`, who go farthest.

    Raises ValueError for unknown names, a count or place out of its range, and a clear area without the start.
    """

    family: str = "train"
    seed: int = 0
    furniture: int = 6
    grounds: tuple[str, ...] = ()
    clear: tuple[float, float, float, float] = field(default=(-4.5, 5.5, -4.0, 4.0))

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise nearest("family of rooms", self.family, FAMILIES)
        for ground in self.grounds:
            if ground not in GROUNDS:
                raise nearest("ground", ground, GROUNDS)
        require_counts(self, seed=(0, 2**63 - 1), furniture=(0, _MOST_PIECES))
        require_vectors(self, 4, clear=(-_FARTHEST, _FARTHEST))
        x0, x1, y0, y1 = self.clear
        if max(x0, y0) > -0.5 or min(x1, y1) < 0.5:
            raise ValueError(f"clear must reach 0.5 m from the origin, where the robot starts, got {self.clear}.")


@dataclass(frozen=True)
class Place:
    """A rectangle on the floor along the world's axes, m."""

    x: float
    y: float
    half_x: float
    half_y: float

    def meets(self, other: "Place", gap: float = 0.0) -> bool:
        """Whether the two come nearer than `gap`."""
        apart_x = abs(self.x - other.x) - self.half_x - other.half_x
        apart_y = abs(self.y - other.y) - self.half_y - other.half_y
        return apart_x < gap and apart_y < gap


def add_room(spec: mujoco.MjSpec, config: RoomConfig) -> list[Place]:
    """Build a room into a scene, before it is compiled; returns what it put on the floor, without the walls."""
    family = _FAMILIES[config.family]
    rng = np.random.default_rng([FAMILIES.index(config.family), config.seed])
    inside = _walls(spec, config, family, rng)
    _paint_floor(spec, family, rng)
    taken = [_rectangle(config.clear)]
    for ground in config.grounds:
        place = _find(inside, (_PATCH[0] / 2, _PATCH[1] / 2), taken, rng)
        if place is None:
            raise ValueError(f"No room for the ground {ground!r} in {config}. Ask for less, or for another seed.")
        taken.append(place)
        _add_ground(spec, ground, place, rng)
    for i in range(config.furniture):
        piece = family.furniture[int(rng.integers(len(family.furniture)))]
        quarter = int(rng.integers(4))
        half = piece.half if quarter % 2 == 0 else piece.half[::-1]
        place = _find(inside, half, taken, rng)
        if place is not None:
            taken.append(place)
            _add_piece(spec, f"{piece.name}_{i}", piece, place, quarter, family.woods[int(rng.integers(3))])
    return taken[1:]


def _rectangle(area: tuple[float, float, float, float]) -> Place:
    x0, x1, y0, y1 = area
    return Place((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)


def _walls(spec: mujoco.MjSpec, config: RoomConfig, family: _Family, rng: np.random.Generator) -> Place:
    """Four walls around the clear area; returns the floor between them."""
    x0, x1, y0, y1 = config.clear
    far = rng.uniform(*family.room, 4)
    inside = _rectangle((x0 - far[0], x1 + far[1], y0 - far[2], y1 + far[3]))
    half_height = 0.5 * rng.uniform(*family.height)
    rgba = [*family.walls[int(rng.integers(len(family.walls)))], 1.0]
    for side in (-1.0, 1.0):
        walls = {
            "x": ([inside.x + side * (inside.half_x + _WALL / 2), inside.y], [_WALL / 2, inside.half_y + _WALL]),
            "y": ([inside.x, inside.y + side * (inside.half_y + _WALL / 2)], [inside.half_x, _WALL / 2]),
        }
        for axis, (pos, half) in walls.items():
            spec.worldbody.add_geom(
                name=f"wall_{axis}_{'left' if side > 0 else 'right'}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[*pos, half_height],
                size=[*half, half_height],
                rgba=rgba,
                group=SCENE_GROUP,
            )
    return inside


def _paint_floor(spec: mujoco.MjSpec, family: _Family, rng: np.random.Generator) -> None:
    one, other = family.floors[int(rng.integers(len(family.floors)))]
    texture = spec.texture(FLOOR)
    texture.rgb1, texture.rgb2 = one, other


def _find(inside: Place, half: tuple[float, float], taken: list[Place], rng: np.random.Generator) -> Place | None:
    """A free rectangle between the walls, or None after many tries."""
    room = inside.half_x - half[0] - _GAP, inside.half_y - half[1] - _GAP
    if min(room) < 0.0:
        return None
    for _ in range(200):
        x, y = inside.x + rng.uniform(-room[0], room[0]), inside.y + rng.uniform(-room[1], room[1])
        place = Place(float(x), float(y), *half)
        if not any(place.meets(other, _GAP) for other in taken):
            return place
    return None


def _add_ground(spec: mujoco.MjSpec, ground: str, place: Place, rng: np.random.Generator) -> None:
    area = (place.x, place.y, place.half_x, place.half_y)
    if ground == "steps":
        add_stairs(spec, area, rise=float(rng.uniform(0.03, 0.06)))
    elif ground == "slope":
        add_ramp(spec, area, degrees=float(rng.uniform(4.0, 8.0)))
    else:
        add_rough_patch(spec, area, rng, amplitude=float(rng.uniform(0.02, 0.05)))


def _add_piece(spec: mujoco.MjSpec, name: str, piece: Furniture, place: Place, quarter: int, rgb: Color) -> None:
    """One piece of furniture, turned by a number of right angles, fixed to the floor."""
    angle = quarter * math.pi / 2
    body = spec.worldbody.add_body(
        name=name, pos=[place.x, place.y, 0.0], quat=[math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)]
    )
    for centre, half in piece.boxes:
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre, size=half, rgba=[*rgb, 1.0], group=SCENE_GROUP)

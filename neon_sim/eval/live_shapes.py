"""The scene's geoms as triangles, for a page that draws them; the model's arrays are read, MuJoCo itself is not needed.

Geom types are MuJoCo's mjtGeom: 2 sphere, 3 capsule, 4 ellipsoid, 5 cylinder, 6 box; sizes are half lengths, in m.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neon_sim.g1.geometry import quat_to_matrix

SPHERE: Final = 2
CAPSULE: Final = 3
ELLIPSOID: Final = 4
CYLINDER: Final = 5
BOX: Final = 6
SIDES: Final = 16  # corners of a circle


@dataclass(frozen=True)
class Shape:
    """One geom."""

    link: int  # number of the body that carries it
    vertices: np.ndarray  # (V, 3) float32 m, in the body's frame
    faces: np.ndarray  # (F, 3) uint32, counter-clockwise from outside
    rgb: tuple[int, int, int]
    opacity: float | None  # None = opaque


def link_shapes(model: Any) -> list[Shape]:
    """Every geom of an MjModel that can be drawn and seen; planes, height fields and meshes are left out."""
    shapes = []
    for geom in range(model.ngeom):
        kind, rgba = int(model.geom_type[geom]), _rgba(model, geom)
        if kind not in (SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX) or rgba[3] <= 0.0:
            continue
        vertices, faces = primitive(kind, model.geom_size[geom])
        vertices = vertices @ quat_to_matrix(model.geom_quat[geom]).T + model.geom_pos[geom]
        red, green, blue = (int(round(255 * float(value))) for value in rgba[:3])
        opacity = None if rgba[3] >= 1.0 else float(rgba[3])
        shapes.append(
            Shape(int(model.geom_bodyid[geom]), vertices.astype(np.float32), faces, (red, green, blue), opacity)
        )
    return shapes


def primitive(kind: int, size: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A closed surface around the origin: vertices (V, 3) m and faces (F, 3).

    Raises:
        ValueError: a kind that has no such surface.
    """
    if kind == BOX:
        return _box(np.asarray(size[:3], float))
    angles = np.linspace(-np.pi / 2, np.pi / 2, SIDES // 2 + 1)
    dome = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # radius, height
    if kind == SPHERE:
        return _turned(dome * size[0])
    if kind == ELLIPSOID:
        vertices, faces = _turned(dome)
        return vertices * np.asarray(size[:3]), faces
    if kind == CAPSULE:
        lower, upper = dome[: SIDES // 4 + 1] * size[0], dome[SIDES // 4 :] * size[0]
        return _turned(np.concatenate([lower - [0.0, size[1]], upper + [0.0, size[1]]]))
    if kind == CYLINDER:
        radius, half = float(size[0]), float(size[1])
        return _turned(np.array([[0.0, -half], [radius, -half], [radius, half], [0.0, half]]))
    raise ValueError(
        f"Geom type {kind} has no closed surface here: spheres, capsules, ellipsoids, cylinders, boxes do."
    )


def _turned(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The profile (P, 2) of radius and height, from below to above, turned about z."""
    turn = np.arange(SIDES) * (2.0 * np.pi / SIDES)
    radius, height = profile[:, :1], np.repeat(profile[:, 1:], SIDES, axis=1)
    vertices = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=2).reshape(-1, 3)
    ring, side = np.meshgrid(np.arange(len(profile) - 1), np.arange(SIDES), indexing="ij")
    here, beside = ring * SIDES + side, ring * SIDES + (side + 1) % SIDES
    low = np.stack([here, beside, beside + SIDES], axis=2).reshape(-1, 3)
    high = np.stack([here, beside + SIDES, here + SIDES], axis=2).reshape(-1, 3)
    return vertices, np.concatenate([low, high]).astype(np.uint32)


def _box(half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    squares = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [face for a, b, c, d in squares for face in ((a, b, c), (a, c, d))]
    return corners * half, np.array(faces, dtype=np.uint32)


def _rgba(model: Any, geom: int) -> np.ndarray:
    """The material's colour where there is one."""
    material = int(model.geom_matid[geom])
    rgba: np.ndarray = model.mat_rgba[material] if material >= 0 else model.geom_rgba[geom]
    return rgba

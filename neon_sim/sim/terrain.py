"""Ground other than the flat floor: edits of a spec, to be made before it is compiled.

Steps and rough ground leave the place where the robot starts level; a slope comes with a pose that fits it. The soles
touch the ground with four small spheres each, so an edge that passes between them is not felt until a sphere meets it.
"""

from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import matrix_to_quat
from neon_sim.g1.kinematics import Stance, stance
from neon_sim.names import nearest, require_counts, require_numbers
from neon_sim.sim.model import FLOOR, SCENE_GROUP

_BURIED: Final = 0.05  # m of every box that is under the floor
_SUNK: Final = 0.01  # m of the flat floor below the lowest point of rough ground: no sole meets both
_CROUCH: Final = 0.04  # m below home in which a slope is met: the lower leg needs the length
_FEW_NEWTON_STEPS: Final = 30


TERRAINS: Final = ("rough", "steps")


@dataclass(frozen=True)
class TerrainConfig:
    """Uneven ground under the robot, for tasks that walk: `scene=TerrainConfig("rough")`. Equal configs, equal ground.

    kind: one of `TERRAINS`. height: m from the lowest to the highest point. seed: of the heights. reach: m from the
    origin to the end of the field. clear: m around the origin that stay level for the start. What a task puts on the
    floor stands at height 0, as on a flat one.

    Raises ValueError for an unknown kind and a number out of its range.
    """

    kind: str = "rough"
    height: float = 0.04
    seed: int = 0
    reach: float = 6.0
    clear: float = 0.6

    def __post_init__(self) -> None:
        if self.kind not in TERRAINS:
            raise nearest("terrain", self.kind, TERRAINS)
        require_counts(self, seed=(0, 2**63 - 1))
        require_numbers(self, height=(0.001, 0.5), reach=(0.5, 50.0), clear=(0.4, 49.0))
        if not self.clear < self.reach:
            raise ValueError(f"TerrainConfig wants clear < reach, got {self.clear} and {self.reach}.")


def add_terrain(spec: mujoco.MjSpec, config: TerrainConfig) -> None:
    """Put uneven ground under the robot, before the spec is compiled."""
    rng = np.random.default_rng([TERRAINS.index(config.kind), config.seed])
    if config.kind == "rough":
        add_rough(spec, rng, config.height, reach=config.reach, clear=config.clear)
    else:
        add_steps(spec, rng, config.height, reach=config.reach, clear=config.clear)


def add_steps(
    spec: mujoco.MjSpec,
    rng: np.random.Generator,
    height: float = 0.04,
    tile: float = 0.5,
    reach: float = 6.0,
    clear: float = 0.6,
) -> None:
    """Cover the floor with square plateaus, each at level 0, half of `height` or all of it.

    Args:
        height: m, the highest edge.
        tile: m, side of a plateau.
        reach: m from the origin to the end of the field; level floor beyond.
        clear: m around the origin that stay level for the start.
    """
    _require(height=height, tile=tile, reach=reach)
    count = round(2 * reach / tile)
    edge = np.linspace(-reach, reach, count + 1)
    centre, half = 0.5 * (edge[:-1] + edge[1:]), 0.5 * (edge[1] - edge[0])
    tops = height * rng.choice([0.0, 0.5, 1.0], size=(count, count))
    for i, j in zip(*np.nonzero(tops), strict=True):
        if max(abs(centre[i]), abs(centre[j])) - half < clear:
            continue
        shade = 0.42 + 0.2 * tops[i, j] / height
        spec.worldbody.add_geom(
            name=f"step_{i}_{j}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[half, half, 0.5 * (tops[i, j] + _BURIED)],
            pos=[centre[i], centre[j], 0.5 * (tops[i, j] - _BURIED)],
            rgba=[shade, shade, 0.9 * shade, 1.0],
            group=SCENE_GROUP,
        )


def add_rough(
    spec: mujoco.MjSpec,
    rng: np.random.Generator,
    amplitude: float = 0.04,
    cell: float = 0.15,
    reach: float = 6.0,
    clear: float = 0.6,
) -> None:
    """Replace the floor near the origin by rough ground: independent heights on a grid, flat facets between.

    Args:
        amplitude: m from the lowest to the highest point; the start is level, at height 0, in the middle of them.
        cell: m between neighbouring points of the grid.
        reach: m from the origin to the end of the field; level floor beyond, a little lower.
        clear: m around the origin that stay level for the start.
    """
    _require(amplitude=amplitude, cell=cell, reach=reach)
    count = 2 * round(reach / cell) + 1
    along = np.linspace(-reach, reach, count)
    heights = amplitude * rng.uniform(-0.5, 0.5, (count, count))
    heights[np.maximum.outer(abs(along), abs(along)) < clear + cell] = 0.0
    lowest, highest = heights.min(), heights.max()
    spec.add_hfield(
        name="rough",
        nrow=count,
        ncol=count,
        size=[reach, reach, highest - lowest, _BURIED],
        userdata=((heights - lowest) / (highest - lowest)).ravel(),
    )
    spec.worldbody.add_geom(
        name="rough",
        type=mujoco.mjtGeom.mjGEOM_HFIELD,
        hfieldname="rough",
        pos=[0.0, 0.0, lowest],
        rgba=[0.5, 0.51, 0.48, 1.0],
        group=SCENE_GROUP,
    )
    spec.geom(FLOOR).pos = [0.0, 0.0, lowest - _SUNK]


def add_slope(spec: mujoco.MjSpec, degrees: float, heading: float = 0.0) -> np.ndarray:
    """Tilt the floor about the origin so that it rises by `degrees` towards `heading` (rad, 0 = world x).

    Returns:
        (36,) qpos of the robot alone to start from: pelvis upright above the origin and facing x, soles flat on the
        slope where home has them, arms at home.

    Raises:
        ValueError: the ankles cannot lay the feet on such a slope.
    """
    rise = np.tan(np.deg2rad(degrees)) * np.array([np.cos(heading), np.sin(heading)])
    normal = np.array([-rise[0], -rise[1], 1.0])
    sole = _facing(normal / np.linalg.norm(normal))
    spec.geom(FLOOR).quat = matrix_to_quat(sole)
    height = joints.HOME_HEIGHT - _CROUCH
    ground = stance(joints.HOME).sole_pos[:, :2]
    places = np.column_stack([ground, ground @ rise - height])
    joint_pos = _place_feet(places, sole)
    if np.any(joint_pos < joints.LOWER) or np.any(joint_pos > joints.UPPER):
        raise ValueError(
            f"The feet do not reach a slope of {degrees} degrees towards {heading:.2f} rad. Sideways the ankles allow"
            " about 14 degrees, less is always possible."
        )
    return np.concatenate([[0.0, 0.0, height], [1.0, 0.0, 0.0, 0.0], joint_pos])


def add_stairs(
    spec: mujoco.MjSpec, area: tuple[float, float, float, float], rise: float = 0.05, steps: int = 3
) -> None:
    """A flight of low steps that rises along x over a rectangle of the floor.

    Args:
        area: centre x, y and half sizes x, y in m.
        rise: m, height of one step.
        steps: how many.
    """
    _require(rise=rise, steps=steps)
    x, y, half_x, half_y = area
    depth = half_x / steps  # half of one step's
    for i in range(steps):
        top, shade = rise * (i + 1), 0.42 + 0.06 * i
        spec.worldbody.add_geom(
            name=f"stair_{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[depth, half_y, 0.5 * (top + _BURIED)],
            pos=[x - half_x + depth * (2 * i + 1), y, 0.5 * (top - _BURIED)],
            rgba=[shade, shade, 0.9 * shade, 1.0],
            group=SCENE_GROUP,
        )


def add_ramp(spec: mujoco.MjSpec, area: tuple[float, float, float, float], degrees: float = 6.0) -> None:
    """A plane that rises from the floor by `degrees` along x over a rectangle: centre x, y and half sizes x, y in m."""
    _require(degrees=degrees)
    x, y, half_x, half_y = area
    angle, thick = np.deg2rad(degrees), 0.5 * _BURIED
    middle = half_x * np.tan(angle)  # height of the surface above the centre
    spec.worldbody.add_geom(
        name="ramp",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[half_x / np.cos(angle), half_y, thick],
        pos=[x + thick * np.sin(angle), y, middle - thick * np.cos(angle)],
        quat=[np.cos(angle / 2), 0.0, -np.sin(angle / 2), 0.0],
        rgba=[0.52, 0.5, 0.46, 1.0],
        group=SCENE_GROUP,
    )


def add_rough_patch(
    spec: mujoco.MjSpec,
    area: tuple[float, float, float, float],
    rng: np.random.Generator,
    amplitude: float = 0.04,
    cell: float = 0.15,
) -> None:
    """Rough ground on a rectangle of the floor: heights from 0 to `amplitude` m on a grid of `cell` m, 0 at its edges.

    area: centre x, y and half sizes x, y in m.
    """
    _require(amplitude=amplitude, cell=cell)
    x, y, half_x, half_y = area
    rows, columns = (max(round(2 * half / cell), 2) + 1 for half in (half_y, half_x))
    heights = rng.uniform(0.0, 1.0, (rows, columns))
    heights[[0, -1]] = heights[:, [0, -1]] = 0.0
    heights /= heights.max()
    spec.add_hfield(
        name="rough_patch",
        nrow=rows,
        ncol=columns,
        size=[half_x, half_y, amplitude, _BURIED],
        userdata=heights.ravel(),
    )
    spec.worldbody.add_geom(
        name="rough_patch",
        type=mujoco.mjtGeom.mjGEOM_HFIELD,
        hfieldname="rough_patch",
        pos=[x, y, 0.0],
        rgba=[0.5, 0.51, 0.48, 1.0],
        group=SCENE_GROUP,
    )


def _facing(normal: np.ndarray) -> np.ndarray:
    """Orientation (3, 3) with z along a unit `normal` (3,) and x as near to the world's as that allows."""
    x = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(normal, x), normal])


def _place_feet(places: np.ndarray, sole: np.ndarray) -> np.ndarray:
    """Joints (29,) rad, home but for the legs, that bring the soles to `places` (2, 3) m, both turned as `sole` (3, 3).

    Newton's method in the pelvis frame; a leg has the six joints that a sole needs.
    """
    joint_pos = joints.HOME.copy()
    for _ in range(_FEW_NEWTON_STEPS):
        now = stance(joint_pos)
        for leg, error in enumerate(_sole_errors(now, places, sole)):
            joint_pos[6 * leg : 6 * leg + 6] += np.linalg.solve(now.sole_jacobian[leg], error)
    return joint_pos


def _sole_errors(now: Stance, places: np.ndarray, sole: np.ndarray) -> np.ndarray:
    """What each sole lacks (2, 6): m to its place, rad to its orientation."""
    # The rotation vector of a small turn is half the sum of what carries x to x, y to y and z to z.
    turned = 0.5 * np.cross(now.sole_matrix, sole[None], axis=1).sum(axis=2)
    return np.concatenate([places - now.sole_pos, turned], axis=1)


def _require(**lengths: float) -> None:
    """Raise ValueError for a length that is not positive."""
    for name, value in lengths.items():
        if not value > 0.0:
            raise ValueError(f"{name} must be a positive number of metres, got {value}.")

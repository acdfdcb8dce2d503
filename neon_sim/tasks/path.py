"""A way over the floor: plan around boxes on a grid, follow it with the velocity that the walker takes.

Everything is in the world's x and y. The robot is a disc; obstacles are boxes seen from above, turned about z.
"""

import heapq
import math
from typing import Final, NamedTuple

import numpy as np

from neon_sim.robot import World

_NEIGHBOURS: Final = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)
_BLOCKED: Final = 1e3  # cost of a cell inside an obstacle: a robot that is already in one still finds its way out


class Block(NamedTuple):
    """An obstacle from above."""

    x: float  # m, centre
    y: float
    yaw: float  # rad
    half_x: float  # m, in its own frame
    half_y: float


class Pose(NamedTuple):
    """Where something stands on the floor, and which way it faces."""

    x: float  # m
    y: float
    yaw: float  # rad


def floor_pose(world: World, name: str = "pelvis") -> Pose:
    """Where a body truly is, from above; `yaw` is the direction of its x axis."""
    pos_w, quat_wxyz = world.object_pose(name)
    w, x, y, z = quat_wxyz.tolist()
    yaw = math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
    return Pose(float(pos_w[0]), float(pos_w[1]), yaw)


def on_floor(pose: Pose, ahead: float, left: float) -> np.ndarray:
    """A place given in a pose's frame, (2,) m in the world."""
    cosine, sine = math.cos(pose.yaw), math.sin(pose.yaw)
    return np.array([pose.x + cosine * ahead - sine * left, pose.y + sine * ahead + cosine * left])


def seen_from(pose: Pose, places_w: np.ndarray) -> np.ndarray:
    """Places (..., 2) m of the world in a pose's frame: ahead, left."""
    cosine, sine = math.cos(pose.yaw), math.sin(pose.yaw)
    return (places_w - [pose.x, pose.y]) @ np.array([[cosine, -sine], [sine, cosine]])


def clearance(places_w: np.ndarray, block: Block) -> np.ndarray:
    """m from places (..., 2) to the nearest edge of a block; 0 inside."""
    local = np.abs(seen_from(Pose(*block[:3]), places_w))
    return np.linalg.norm(np.maximum(local - [block.half_x, block.half_y], 0.0), axis=-1)


def plan(
    start: np.ndarray, goal: np.ndarray, blocks: list[Block], radius: float, wide: float, cell: float = 0.1
) -> np.ndarray:
    """Shortest way (N, 2) m from `start` to `goal`, both (2,) m, by A* on a grid of eight neighbours.

    Args:
        radius: m, the disc that must not touch a block.
        wide: m, a larger one: between the two a way costs more, so that there is room where there can be.
        cell: m, side of a grid cell.

    The ends are exactly `start` and `goal`. What is inside an obstacle is very long, not impossible.
    """
    low = np.minimum(start, goal) - 1.5
    shape = np.ceil((np.maximum(start, goal) + 1.5 - low) / cell).astype(int) + 1
    cost = _costs(low, shape, cell, blocks, radius, wide)
    first, last = (tuple(np.rint((place - low) / cell).astype(int).tolist()) for place in (start, goal))
    cells = _a_star(cost, first, last)
    way = low + cell * np.array(cells, dtype=np.float64)
    return np.concatenate([start[None], way[1:-1], goal[None]])


def pursue(pose: Pose, way: np.ndarray, speed: float, turn: float, ahead: float = 0.4) -> np.ndarray:
    """Velocity (3,) m/s, m/s, rad/s that follows a way (N, 2) m: pure pursuit of the point `ahead` m along it.

    It turns on the spot towards what is beside or behind, and slows down for the last point.
    """
    target = way[-1]
    nearest = int(np.argmin(np.linalg.norm(way - [pose.x, pose.y], axis=1)))
    for place in way[nearest:]:
        if math.dist(place, (pose.x, pose.y)) >= ahead:
            target = place
            break
    x, y = seen_from(pose, target).tolist()
    angle, remaining = math.atan2(y, x), math.dist(way[-1], (pose.x, pose.y))
    forward = min(speed, 0.1 + 0.6 * remaining) * max(math.cos(angle), 0.0) ** 2
    if abs(angle) > 1.0:
        forward = 0.0
    return np.array([forward, 0.0, float(np.clip(2.0 * angle, -turn, turn))])


def _costs(
    low: np.ndarray, shape: np.ndarray, cell: float, blocks: list[Block], radius: float, wide: float
) -> np.ndarray:
    """What a metre costs in each cell of the grid."""
    places = low + cell * np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    room = np.full(tuple(shape), np.inf)
    for block in blocks:
        room = np.minimum(room, clearance(places, block))
    near = np.clip((wide - room) / max(wide - radius, 1e-9), 0.0, 1.0)
    return np.where(room < radius, _BLOCKED, 1.0 + 3.0 * near)


def _a_star(cost: np.ndarray, first: tuple[int, ...], last: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Cells from `first` to `last`."""
    best, came = {first: 0.0}, {first: first}
    queue = [(math.dist(first, last), first)]
    while queue:
        _, here = heapq.heappop(queue)
        if here == last:
            break
        for i, j in _NEIGHBOURS:
            there = here[0] + i, here[1] + j
            if not (0 <= there[0] < cost.shape[0] and 0 <= there[1] < cost.shape[1]):
                continue
            total = best[here] + math.hypot(i, j) * float(cost[there])
            if total < best.get(there, math.inf):
                best[there], came[there] = total, here
                heapq.heappush(queue, (total + math.dist(there, last), there))
    way = [last]
    while way[-1] != first:
        way.append(came[way[-1]])
    return way[::-1]

"""A script that pushes the T to where it is wanted: it knows the truth, the T's outline, and nothing of dynamics.

Each moment it looks for the point of the outline where a push moves and turns the block most nearly as it should be
moved and turned, goes round the block to it, and pushes. With noise on top it is what a world model learns from.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from neon_sim.world_model.push_t import (
    RADIUS,
    REACH,
    T_BOXES,
    TABLE,
    distance_to_block,
    distance_to_t,
    from_block,
    turn,
)

ARM_PX: Final = 45.0  # a turn of 1 rad counts as much as a way of this length: about the T's radius of gyration
_SPACING: Final = 10.0  # px between points of the outline
_STANDOFF: Final = RADIUS + 14.0  # px from the outline to where a push begins
_ROUND: Final = 115.0  # px from the block's center: a way round it that touches nothing
_SETTLED: Final = 0.35  # of the field's tolerance: the block is let alone when it is that near


@dataclass(frozen=True)
class Outline:
    """Where the T can be pushed, in its own frame."""

    points: np.ndarray  # (N, 2) px
    inward: np.ndarray  # (N, 2) unit normals


def outline() -> Outline:
    """Points of the two boxes' edges that a disc can come to."""
    points, inward = [], []
    for x, y, width, height in T_BOXES:
        for along, across, half, far in ((0, 1, width, height), (1, 0, height, width)):
            for side in (-1.0, 1.0):
                places = np.arange(-half + 0.5 * _SPACING, half, _SPACING)
                edge = np.zeros((len(places), 2))
                edge[:, along], edge[:, across] = places, side * far
                normal = np.zeros(2)
                normal[across] = -side
                points.append(edge + (x, y))
                inward.append(np.tile(normal, (len(places), 1)))
    found = Outline(np.concatenate(points), np.concatenate(inward))
    free = distance_to_t(found.points - (RADIUS + 2.0) * found.inward) > RADIUS
    return Outline(found.points[free], found.inward[free])


OUTLINE: Final = outline()


def push_action(state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The action (2,) in [-1, 1] that a script takes from `state` (7,) to get to `goal` (7,): first the block, then the
    disc.
    """
    wanted = np.array([*(goal[2:4] - state[2:4]), ARM_PX * turn(state[4], goal[4])])
    if np.abs(wanted[:2]).max() < 20.0 * _SETTLED and abs(wanted[2]) < ARM_PX * 0.35 * _SETTLED:
        return _towards(state, goal[:2])
    start, inward = best_push(state, wanted)
    behind = (state[:2] - start) @ inward
    aside = np.linalg.norm(state[:2] - start - behind * inward)
    if aside < 7.0 and -12.0 < behind < _STANDOFF + 10.0:  # in line, and on this side of the outline
        return np.clip((0.55 * np.linalg.norm(wanted) + 12.0) * inward / REACH, -0.6, 0.6)
    return _towards(state, start)


def best_push(state: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where to begin a push, (2,) px, and its direction (2,), for a wanted motion (3,) of the block: px, px, rad times
    ARM_PX. A point that the disc is at already is preferred, so that a push that was begun is gone on with.
    """
    arms = OUTLINE.points[:, 0] * OUTLINE.inward[:, 1] - OUTLINE.points[:, 1] * OUTLINE.inward[:, 0]
    turned = from_block(OUTLINE.inward, state) - state[2:4]
    effect = np.column_stack([turned, arms / ARM_PX])
    points = from_block(OUTLINE.points, state)
    starts = points - _STANDOFF * turned
    score = effect @ wanted / (np.linalg.norm(effect, axis=1) * (np.linalg.norm(wanted) + 1e-9))
    score -= 0.15 * np.linalg.norm(state[:2] - (points - RADIUS * turned), axis=1) / TABLE
    score[(np.abs(starts - 0.5 * TABLE) > 0.5 * TABLE - RADIUS).any(1)] = -np.inf  # no room there
    best = int(score.argmax())
    return starts[best], turned[best]


def _towards(state: np.ndarray, place: np.ndarray) -> np.ndarray:
    """An action to a place, round the block if that is in the way."""
    way = place - state[:2]
    along = state[:2] + np.linspace(0.0, 1.0, 9)[1:-1, None] * way
    if distance_to_block(along, state).min() > RADIUS + 1.0:
        return np.clip(1.2 * way / REACH, -1.0, 1.0)
    from_center, to_center = state[:2] - state[2:4], place - state[2:4]
    now, then = (math.atan2(v[1], v[0]) for v in (from_center, to_center))
    angle = now + float(np.clip(turn(now, then), -0.7, 0.7))
    outward = float(np.clip(np.linalg.norm(from_center), RADIUS, _ROUND))
    if outward < 0.8 * _ROUND:  # between bar and stem: out first
        angle = now
    corner = state[2:4] + _ROUND * np.array([math.cos(angle), math.sin(angle)])
    return np.clip(1.2 * (corner - state[:2]) / REACH, -1.0, 1.0)

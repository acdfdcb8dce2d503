"""Push-T, the task that LeWM is known by: a disc pushes a T about on a table. Physics by pymunk, pictures by numpy.

As the field plays it (stable-worldmodel's PushT, after Chi et al. 2023 and Zhou et al. 2024): a table of 512 px,
control at 10 Hz, an action moves the disc's target by up to 100 px from where the disc is, and a PD law follows it.
Ours: the target stays on the table, and the picture shows no target. The disc is stronger than anything: a block that
it presses into a corner long enough gives way through the wall.
"""

import math
from typing import Any, Final

import numpy as np

PIP_LINE: Final = "pip install 'neon-sim[pusht]'"
TABLE: Final = 512.0  # px, square; x to the right, y down, angles from x to y
REACH: Final = 100.0  # px that an action of 1 moves the target
RADIUS: Final = 15.0  # px, of the disc
STATE: Final = ("agent_x", "agent_y", "block_x", "block_y", "block_angle", "agent_vx", "agent_vy")  # px, rad, px/s
NEAR_PX, NEAR_RAD = 20.0, math.pi / 9.0  # the field's success: see `solved`
CONTROL_S: Final = 0.1
_SUBSTEPS, _KP, _KV = 10, 100.0, 20.0  # physics at 100 Hz; 1/s2 and 1/s of the disc's PD law
_FRICTION: Final = 0.7  # of each shape; ours
_WALL: Final = 50.0  # px, thick: nothing gets through
_BAR, _STEM = (120.0, 30.0), (30.0, 90.0)  # px, width and length of the T's two boxes
_AREA: Final = (_BAR[0] * _BAR[1], _STEM[0] * _STEM[1])
_COG: Final = (0.5 * _BAR[1] * _AREA[0] + (_BAR[1] + 0.5 * _STEM[1]) * _AREA[1]) / sum(_AREA)  # px below the bar's edge
# Of each box: center and half size, px, in the block's frame, whose origin is the center of gravity.
T_BOXES: Final = np.array(
    [
        [0.0, 0.5 * _BAR[1] - _COG, 0.5 * _BAR[0], 0.5 * _BAR[1]],
        [0.0, _BAR[1] + 0.5 * _STEM[1] - _COG, 0.5 * _STEM[0], 0.5 * _STEM[1]],
    ]
)
_TABLE_RGB, _BLOCK_RGB, _DISC_RGB = (255, 255, 255), (119, 136, 153), (65, 105, 225)


class PushT:
    """One table. The state (7,) of `STATE` is all there is to it, but for the contacts that lasted from the last step.

    Raises ImportError if pymunk is not installed.
    """

    def __init__(self, state: np.ndarray | None = None) -> None:
        self.set_state(np.array([256.0, 400.0, 256.0, 200.0, 0.0, 0.0, 0.0]) if state is None else state)

    def set_state(self, state: np.ndarray) -> None:
        """Put disc and block where `state` (7,) says; the block is at rest. The same state and actions give the same
        bits. Raises ValueError for another shape or a number that is not finite.
        """
        if np.shape(state) != (len(STATE),) or not np.isfinite(state).all():
            raise ValueError(f"A state of Push-T is {len(STATE)} finite numbers {STATE}, got {state}.")
        x, y, block_x, block_y, angle, vx, vy = (float(value) for value in state)
        pymunk = _pymunk()
        self._space = space = pymunk.Space()  # anew: an old one remembers its contacts
        space.damping = 0.0  # a T on a rough table lies still as soon as nobody pushes
        self._agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        self._block, shapes = _block(pymunk)
        disc = pymunk.Circle(self._agent, RADIUS)
        walls = _walls(pymunk, space.static_body)
        for shape in (disc, *shapes, *walls):
            shape.friction = _FRICTION
        space.add(self._agent, disc, self._block, *shapes, *walls)
        self._agent.position, self._agent.velocity = (x, y), (vx, vy)
        self._block.angle, self._block.position = angle, (block_x, block_y)
        space.reindex_shapes_for_body(self._block)
        space.reindex_shapes_for_body(self._agent)

    @property
    def state(self) -> np.ndarray:
        """(7,) float64, see `STATE`; the angle in [0, 2 pi)."""
        agent, block = self._agent, self._block
        return np.array([*agent.position, *block.position, block.angle % (2.0 * math.pi), *agent.velocity])

    def step(self, action: np.ndarray) -> np.ndarray:
        """Follow an action (2,) in [-1, 1] for 0.1 s; what lies outside is cut. Returns the state after it.

        Raises ValueError for another shape or a number that is not finite.
        """
        if np.shape(action) != (2,) or not np.isfinite(action).all():
            raise ValueError(f"Push-T takes two finite numbers in [-1, 1], got {action}.")
        agent, dt = self._agent, CONTROL_S / _SUBSTEPS
        (x, y), (dx, dy) = agent.position, np.clip(action, -1.0, 1.0).tolist()
        target_x, target_y = (min(max(c, RADIUS), TABLE - RADIUS) for c in (x + REACH * dx, y + REACH * dy))
        for _ in range(_SUBSTEPS):
            (x, y), (vx, vy) = agent.position, agent.velocity
            agent.velocity = (
                vx + dt * (_KP * (target_x - x) - _KV * vx),
                vy + dt * (_KP * (target_y - y) - _KV * vy),
            )
            self._space.step(dt)
        return self.state


def _pymunk() -> Any:
    try:
        import pymunk
    except ImportError as error:
        raise ImportError(f"Push-T needs pymunk. Install it: {PIP_LINE}") from error
    return pymunk


def _block(pymunk: Any) -> tuple[Any, list[Any]]:
    """The T of mass 1 with its two boxes."""
    corners = [[(x + i * w, y + j * h) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))] for x, y, w, h in T_BOXES]
    moment = sum(pymunk.moment_for_poly(area / sum(_AREA), box) for area, box in zip(_AREA, corners, strict=True))
    body = pymunk.Body(1.0, moment)
    return body, [pymunk.Poly(body, box) for box in corners]


def _walls(pymunk: Any, body: Any) -> list[Any]:
    low, high = -_WALL, TABLE + _WALL
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return [pymunk.Segment(body, corners[i], corners[(i + 1) % 4], _WALL) for i in range(4)]


def draw_state(rng: np.random.Generator) -> np.ndarray:
    """A random state (7,): both on the table, the disc at rest and clear of the block."""
    while True:
        agent, block = rng.uniform(50.0, TABLE - 50.0, 2), rng.uniform(100.0, TABLE - 100.0, 2)
        state = np.array([*agent, *block, rng.uniform(0.0, 2.0 * math.pi), 0.0, 0.0])
        if distance_to_block(agent, state) > 2.0 * RADIUS:
            return state


def solved(state: np.ndarray, goal: np.ndarray) -> bool:
    """The field's success: disc and block together within 20 px (the norm of all four differences), and the block's
    angle within 20 degrees. Both states (7,).
    """
    off = float(np.linalg.norm(state[:4] - goal[:4]))
    return off < NEAR_PX and abs(turn(state[4], goal[4])) < NEAR_RAD


def turn(start: float, end: float) -> float:
    """The shorter way from one angle to another, rad in [-pi, pi)."""
    return float((end - start + math.pi) % (2.0 * math.pi) - math.pi)


def to_block(points: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Points (..., 2) px of the table as the block sees them."""
    cosine, sine = math.cos(state[4]), math.sin(state[4])
    return (points - state[2:4]) @ np.array([[cosine, -sine], [sine, cosine]])


def from_block(points: np.ndarray, state: np.ndarray) -> np.ndarray:
    """The inverse of `to_block`."""
    cosine, sine = math.cos(state[4]), math.sin(state[4])
    return state[2:4] + points @ np.array([[cosine, sine], [-sine, cosine]])


def distance_to_block(points: np.ndarray, state: np.ndarray) -> np.ndarray:
    """px from points (..., 2) of the table to the block's outline, (...), negative inside."""
    return distance_to_t(to_block(points, state))


def distance_to_t(points: np.ndarray) -> np.ndarray:
    """px from points (..., 2) of the block's frame to its outline, (...), negative inside (a bound there)."""
    beyond = np.abs(points[..., None, :] - T_BOXES[:, :2]) - T_BOXES[:, 2:]
    outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=-1)
    return (outside + np.minimum(beyond.max(-1), 0.0)).min(-1)


def picture(state: np.ndarray, size: int = 64) -> np.ndarray:
    """What a camera above the table sees, (size, size, 3) uint8: a grey T, a blue disc on top. Edges are soft."""
    pixel = TABLE / size
    middle = (np.arange(size) + 0.5) * pixel
    points = np.stack(np.meshgrid(middle, middle), axis=-1)  # [row, column] -> x, y
    image = np.broadcast_to(np.array(_TABLE_RGB, np.float64), (size, size, 3))
    for away, colour in (
        (distance_to_block(points, state), _BLOCK_RGB),
        (np.linalg.norm(points - state[:2], axis=-1) - RADIUS, _DISC_RGB),
    ):
        cover = np.clip(0.5 - away / pixel, 0.0, 1.0)[..., None]
        image = image + cover * (np.array(colour) - image)
    return image.round().astype(np.uint8)

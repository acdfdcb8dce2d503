"""track: keep the named palm on the named ball as it moves. A picture shows where it was; a film, where it will be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import mujoco
import numpy as np

from neon_sim.g1.geometry import points_in_frame, quat_to_matrix
from neon_sim.names import require_corners, require_counts, require_numbers, require_spans, require_vectors
from neon_sim.robot import RobotState, World
from neon_sim.tasks.arms import HANDS, PALMS, SHOULDERS_B, follow_path
from neon_sim.tasks.objects import COLORS, HIDDEN_W, add_balls, ball_name
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits

WORDING: Final = Wording(
    train=(
        "follow the {color} ball with your {hand} hand",
        "keep your {hand} hand on the {color} ball",
        "move your {hand} hand along with the {color} ball",
    ),
    test=(
        "stay with the {color} ball using the {hand} hand",
        "do not let the {color} ball get away from your {hand} palm",
        "track the ball that is {color} with the {hand} hand",
    ),
)
_DRAWN: Final = 512  # paths drawn at once
_BATCHES: Final = 30  # draws before giving up
_SAMPLES: Final = 80  # points of a path that are checked: twenty in the shortest period


@dataclass(frozen=True)
class TrackConfig:
    """Where and how fast the balls move, and how close the palm must stay; m in the pelvis frame at reset, seconds.

    Raises ValueError for a number out of its range, and for a split that does not exist.
    """

    num_balls: int = 2
    radius: float = 0.04
    max_error: float = 0.025  # mean distance of palm site and ball centre over the last `judged_s`
    judged_s: float = 3.0
    low: tuple[float, float, float] = (0.20, -0.15, 0.00)
    high: tuple[float, float, float] = (0.36, 0.15, 0.32)
    max_shoulder_distance: float = 0.385  # so that both hands reach every point of every path
    amplitude: tuple[float, float, float] = (0.04, 0.10, 0.10)  # at most, along x, y and z
    period_s: tuple[float, float] = (2.0, 4.0)
    mean_speed: tuple[float, float] = (0.12, 0.35)  # m/s, of the named ball over its path
    min_separation: float = 0.10  # between two balls, always
    wording: str = "train"  # or "test": paraphrases that are held out
    objects: str = "train"  # or "test": balls of other shapes, sizes and shades

    def __post_init__(self) -> None:
        check_splits(self)
        require_counts(self, num_balls=(1, len(COLORS)))  # one per colour
        require_numbers(self, radius=(0.001, 0.5), max_error=(0.001, 1.0), judged_s=HOLD_S)
        require_numbers(self, max_shoulder_distance=(0.0, 2.0), min_separation=(0.0, 2.0))
        require_corners(self, 3, -2.0, 2.0)
        require_vectors(self, 3, amplitude=(0.0, 1.0))
        require_spans(self, period_s=(0.1, 100.0), mean_speed=(0.0, 10.0))


class Path(NamedTuple):
    """A smooth path in the pelvis frame at reset: along each axis a sine of its own amplitude, period and phase."""

    center: np.ndarray  # (3,) m
    amplitude: np.ndarray  # (3,) m
    period_s: np.ndarray  # (3,) s
    phase: np.ndarray  # (3,) rad

    def at(self, time_s: np.ndarray) -> np.ndarray:
        """Positions (..., 3) m at times (...,) s."""
        angle = math.tau * np.asarray(time_s)[..., None] / self.period_s + self.phase
        return self.center + self.amplitude * np.sin(angle)


def sample_paths(config: TrackConfig, duration_s: float, rng: np.random.Generator) -> list[Path]:
    """Draw one path per ball, the named one first; within reach and apart for `duration_s`. Rejection sampling.

    Raises:
        ValueError: no such paths were found.
    """
    times = np.linspace(0.0, duration_s, _SAMPLES)
    for _ in range(_BATCHES):
        drawn = _draw(config, rng)
        drawn = _picked(drawn, _within_reach(drawn.center[None], config))  # cheap, and most end here
        drawn = _picked(drawn, _within_reach(drawn.at(times[:, None]), config))
        chosen = _first_apart([Path(*parts) for parts in zip(*drawn, strict=True)], times, config)
        if len(chosen) == config.num_balls:
            return chosen
    raise ValueError(f"No room for {config.num_balls} paths in {config}. Widen low/high or lower the separation.")


def _first_apart(paths: list[Path], times: np.ndarray, config: TrackConfig) -> list[Path]:
    """Up to `num_balls` of the paths: one of the wanted speed, and others that keep away from all before them."""
    chosen: list[Path] = []
    for path in paths:
        if len(chosen) == config.num_balls:
            break
        points = path.at(times)
        fast = config.mean_speed[0] <= mean_speed(points, times) <= config.mean_speed[1]
        if chosen or fast:
            gaps = [np.linalg.norm(points - other.at(times), axis=1).min() for other in chosen]
            if min(gaps, default=math.inf) >= config.min_separation:
                chosen.append(path)
    return chosen


def mean_speed(points: np.ndarray, times: np.ndarray) -> float:
    """m/s along points (T, 3) m at times (T,) s."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum() / (times[-1] - times[0]))


def _draw(config: TrackConfig, rng: np.random.Generator) -> Path:
    """Many paths in one: each part (_DRAWN, 3)."""
    amplitude = np.array(config.amplitude) * rng.uniform(0.3, 1.0, (_DRAWN, 3))
    center = rng.uniform(np.array(config.low) + amplitude, np.array(config.high) - amplitude)
    period_s = rng.uniform(config.period_s[0], config.period_s[1], (_DRAWN, 3))
    return Path(center, amplitude, period_s, rng.uniform(0.0, math.tau, (_DRAWN, 3)))


def _picked(paths: Path, mask: np.ndarray) -> Path:
    return Path(*(part[mask] for part in paths))


def _within_reach(points: np.ndarray, config: TrackConfig) -> np.ndarray:
    """Which of the paths (N,) both hands reach all along, from their points (T, N, 3) m."""
    far = np.linalg.norm(points[:, :, None] - SHOULDERS_B, axis=3).max(axis=(0, 2), initial=0.0)
    return far <= config.max_shoulder_distance


class TrackTask:
    """Success: over the last 3 s the named palm was, on average, within 2.5 cm of the named ball's centre."""

    name = "track"
    max_steps = 400

    def __init__(self, config: TrackConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or TrackConfig()
        self._dt = control_dt
        self._judged = np.full(round(self.config.judged_s / control_dt), math.inf)  # m, the newest distances, a ring
        self._steps = 0
        self._hand = 0
        self._colors: tuple[str, ...] = ()  # the named one first
        self._paths: list[Path] = []
        self._start_s = 0.0
        self._origin_w, self._turn = np.zeros(3), np.eye(3)  # the pelvis frame at reset

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """One mocap ball per colour; they are seen and not felt."""
        add_balls(spec, self.config.objects, self.config.radius)

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose paths, colours, the hand and a wording; the balls begin to move at once."""
        self._steps, self._start_s = 0, state.time_s
        self._judged[:] = math.inf
        pelvis_pos, pelvis_quat = world.object_pose("pelvis")
        self._origin_w, self._turn = pelvis_pos, quat_to_matrix(pelvis_quat)
        order = [str(color) for color in rng.permutation(list(COLORS))]
        self._colors = tuple(order[: self.config.num_balls])
        self._paths = sample_paths(self.config, self.max_steps * self._dt, rng)
        for color in order[self.config.num_balls :]:
            world.place_object(ball_name(color), HIDDEN_W)
        self._move(state, world)
        self._hand = int(rng.integers(2))
        return WORDING.draw(self.config.wording, rng, color=self._colors[0], hand=HANDS[self._hand])

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Move the balls on. Product of: palm within 2.5 cm (falls to 0.1 at 32.5 cm), torso upright."""
        self._move(state, world)
        distance = self.distance(world)
        self._judged[self._steps % len(self._judged)] = distance
        self._steps += 1
        terms = {
            "distance": tolerance(distance, (0.0, self.config.max_error), margin=0.3),
            "upright": tolerance(-float(state.gravity_b[2]), (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return math.prod(terms.values()), terms

    def distance(self, world: World) -> float:
        """m between the named palm and the centre of the named ball."""
        return math.dist(world.position(PALMS[self._hand]), world.position(ball_name(self._colors[0])))

    @property
    def success(self) -> bool:
        """On the ball, on average of the last `judged_s` seconds."""
        return bool(self._judged.mean() <= self.config.max_error)

    @property
    def failed(self) -> bool:
        """A ball can always be caught up with."""
        return False

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The named hand (0 left, 1 right), its distance in m, the balls in m and m/s, all in the pelvis frame."""
        frame = world.object_pose("pelvis")
        places = points_in_frame([world.position(ball_name(color)) for color in self._colors], *frame)
        now, soon = self._named_b(world, state.time_s + np.array([0.0, self._dt]))
        return {
            "hand": self._hand,
            "color": self._colors[0],
            "distance": self.distance(world),
            "mean_distance": float(min(self._judged.mean(), 10.0)),
            "target_pos_b": places[0],
            "target_vel_b": (soon - now) / self._dt,
            "ball_pos_b": dict(zip(self._colors, places, strict=True)),
        }

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Targets (steps, 29) rad that take the palm to where the ball will be at each of those steps."""
        ahead_s = state.time_s + self._dt * np.arange(steps + 1)
        return follow_path(state, self._hand, self._named_b(world, ahead_s), self._dt)

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> None:
        """It stands."""

    def get_state(self) -> dict[str, Any]:
        """Choices, paths and what has been judged; the balls' poses belong to the world."""
        return {
            "judged": self._judged.copy(),
            "steps": self._steps,
            "hand": self._hand,
            "colors": self._colors,
            "paths": tuple(self._paths),
            "start_s": self._start_s,
            "frame": (self._origin_w.copy(), self._turn.copy()),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._judged, self._steps = state["judged"].copy(), int(state["steps"])
        self._hand, self._colors = int(state["hand"]), tuple(state["colors"])
        self._paths, self._start_s = list(state["paths"]), float(state["start_s"])
        self._origin_w, self._turn = (array.copy() for array in state["frame"])

    def _move(self, state: RobotState, world: World) -> None:
        for color, path in zip(self._colors, self._paths, strict=True):
            world.place_object(ball_name(color), self._in_world(path, state.time_s))

    def _in_world(self, path: Path, time_s: float | np.ndarray) -> np.ndarray:
        return self._origin_w + path.at(np.asarray(time_s) - self._start_s) @ self._turn.T

    def _named_b(self, world: World, time_s: np.ndarray) -> np.ndarray:
        """The named ball (T, 3) m at times (T,) s, seen from where the pelvis is now."""
        return np.array(points_in_frame(self._in_world(self._paths[0], time_s), *world.object_pose("pelvis")))

"""Rewards of many episodes in one go, for the tasks that need nothing but pelvis, palms and joints.

Each class is the batched half of a task: `begin` reads what the task has chosen for one episode, `reward` does for all
what the task's own `reward` does for one. A test holds the one to the other. Other tasks are judged one by one.
"""

import math
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from neon_sim.g1.geometry import quat_rotate
from neon_sim.g1.joints import HOME_HEIGHT
from neon_sim.g1.kinematics import limb_poses
from neon_sim.g1.links import PALM_OFFSET
from neon_sim.robot import World
from neon_sim.tasks import ReachTask, StandTask, WalkTask
from neon_sim.tasks.objects import ball_name
from neon_sim.tasks.task import Task
from neon_sim.vector_env.walker import SensedRows

_FALL_HEIGHT, _FALL_COSINE = 0.35, math.cos(1.0)  # what `tasks.walk` calls a fall
_CONTROL_DT: Final = 0.02  # s


class Moment(NamedTuple):
    """What rewards of N robots are made of."""

    pos_w: np.ndarray  # (N, 3) m, pelvis
    quat_wxyz: np.ndarray  # (N, 4) pelvis, the truth
    joint_pos: np.ndarray  # (N, 29) rad, the truth
    sensed: SensedRows
    true: bool  # whether nothing in `sensed` differs from the truth


class RewardBatch(Protocol):
    """The batched half of a task."""

    def begin(self, row: int, task: Any, world: World) -> None:
        """An episode begins."""

    def reward(self, rows: np.ndarray, now: Moment) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """Reward (N,), its named factors (N,) and success (N,) bool; counters of `rows` (R,) move on by one step."""

    def task_state(self, row: int, state: dict[str, Any]) -> dict[str, Any]:
        """What the task's `get_state` would say now; `state` is what it said when the episode began."""


def tolerances(
    value: np.ndarray, bounds: tuple[float, float], margin: float, at_margin: float = 0.1, sigmoid: str = "gaussian"
) -> np.ndarray:
    """`tasks.tolerance.tolerance` for each of `value` (N,)."""
    lower, upper = bounds
    outside = np.maximum(np.maximum(lower - value, value - upper), 0.0) / margin
    if sigmoid == "linear":
        return np.maximum(1.0 - outside * (1.0 - at_margin), 0.0)
    return np.exp(outside * outside * math.log(at_margin))


class StandRewards:
    """`tasks.stand`."""

    def __init__(self, count: int, task: StandTask) -> None:
        self._upright = np.ones(count, dtype=bool)

    def begin(self, row: int, task: StandTask, world: World) -> None:
        """Upright until judged."""
        self._upright[row] = True

    def reward(self, rows: np.ndarray, now: Moment) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """Height, upright, still."""
        terms = {
            "height": tolerances(now.pos_w[:, 2], (HOME_HEIGHT - 0.08, math.inf), 0.3),
            "upright": tolerances(-now.sensed.gravity_b[:, 2], (0.97, math.inf), 0.97, 0.0, "linear"),
            "still": tolerances(np.abs(now.sensed.gyro).max(axis=1), (0.0, 0.5), 3.0),
        }
        self._upright = (terms["height"] > 0.9) & (terms["upright"] > 0.9)
        return terms["height"] * terms["upright"] * terms["still"], terms, self._upright.copy()

    def task_state(self, row: int, state: dict[str, Any]) -> dict[str, Any]:
        """Whether it was upright."""
        return {**state, "upright": bool(self._upright[row])}


class ReachRewards:
    """`tasks.reach`."""

    def __init__(self, count: int, task: ReachTask) -> None:
        self._config = task.config
        self._hold_steps = round(task.config.hold_s / _CONTROL_DT)
        self._held = np.zeros(count, dtype=np.intp)
        self._hand = np.zeros(count, dtype=np.intp)
        self._ball_w = np.zeros((count, 3))  # m
        self._palm = np.array([*PALM_OFFSET, 1.0])

    def begin(self, row: int, task: ReachTask, world: World) -> None:
        """Which hand and which ball."""
        state = task.get_state()
        self._held[row], self._hand[row] = state["held"], state["hand"]
        self._ball_w[row] = world.position(ball_name(state["target_color"]))

    def reward(self, rows: np.ndarray, now: Moment) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """Distance, upright."""
        arms = now.sensed.limb_poses[-1, :, -2:] if now.true else limb_poses(now.joint_pos, first=2)[-1]
        wrist = arms[np.arange(len(self._hand)), self._hand]  # (N, 4, 4)
        palm_w = now.pos_w + quat_rotate(now.quat_wxyz, (wrist @ self._palm)[:, :3])
        gap = palm_w - self._ball_w
        distance = np.sqrt(np.vecdot(gap, gap))
        self._held[rows] = np.where(distance <= self._config.success_distance, self._held + 1, 0)[rows]
        terms = {
            "distance": tolerances(distance, (0.0, self._config.success_distance), 0.4),
            "upright": tolerances(-now.sensed.gravity_b[:, 2], (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return terms["distance"] * terms["upright"], terms, self._held >= self._hold_steps

    def task_state(self, row: int, state: dict[str, Any]) -> dict[str, Any]:
        """How long the palm has been at the ball."""
        return {**state, "held": int(self._held[row])}


class WalkRewards:
    """`tasks.walk`."""

    def __init__(self, count: int, task: WalkTask) -> None:
        config = self._config = task.config
        self._settle_steps, self._judged_steps = (
            round(config.settle_s / _CONTROL_DT),
            round(config.judged_s / _CONTROL_DT),
        )
        self._share = min(_CONTROL_DT / config.smoothing_s, 1.0)
        self._wanted, self._velocity, self._pose = np.zeros((3, count, 3))
        self._judged = np.zeros((count, self._judged_steps, 2))
        self._steps = np.zeros(count, dtype=np.intp)
        self._fallen = np.zeros(count, dtype=bool)

    def begin(self, row: int, task: WalkTask, world: World) -> None:
        """Which velocity, and from where."""
        state = task.get_state()
        self._wanted[row], self._pose[row], self._velocity[row] = state["wanted"], state["pose"], state["velocity"]
        self._judged[row], self._steps[row], self._fallen[row] = state["judged"], state["steps"], state["fallen"]

    def reward(self, rows: np.ndarray, now: Moment) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """Velocity, turning, upright, smooth."""
        self._move(rows, now)
        error = self._velocity - self._wanted
        over_floor, turning = np.hypot(error[:, 0], error[:, 1]), np.abs(error[:, 2])
        judged = rows[self._steps[rows] > self._settle_steps]
        place = (self._steps[judged] - self._settle_steps - 1) % self._judged_steps
        self._judged[judged, place, 0], self._judged[judged, place, 1] = over_floor[judged], turning[judged]
        upright = -now.sensed.gravity_b[:, 2]
        down = (upright < _FALL_COSINE) | (now.pos_w[:, 2] < _FALL_HEIGHT)
        self._fallen[rows] |= down[rows]
        terms = {
            "velocity": tolerances(over_floor, (0.0, 0.1), 0.5),
            "turning": tolerances(turning, (0.0, 0.1), 0.8),
            "upright": tolerances(upright, (0.97, math.inf), 0.97, 0.0, "linear"),
            "smooth": tolerances(np.abs(now.sensed.joint_vel).max(axis=1), (0.0, 9.0), 9.0),
        }
        long_enough = ~self._fallen & (self._steps >= self._settle_steps + self._judged_steps)
        success = np.zeros(len(upright), dtype=bool)
        if long_enough.any():
            errors = self._judged[long_enough].mean(axis=1).max(axis=1)
            success[long_enough] = errors <= self._config.max_error
        return math.prod(terms.values(), start=np.ones(len(upright))), terms, success

    def task_state(self, row: int, state: dict[str, Any]) -> dict[str, Any]:
        """The motion so far and what it is judged by."""
        return {
            **state,
            "pose": tuple(self._pose[row].tolist()),
            "velocity": tuple(self._velocity[row].tolist()),
            "judged": self._judged[row].copy(),
            "steps": int(self._steps[row]),
            "fallen": bool(self._fallen[row]),
        }

    def _move(self, rows: np.ndarray, now: Moment) -> None:
        """Take in where the robots are one control period later."""
        w, x, y, z = now.quat_wxyz[rows].T
        pose = np.empty((len(rows), 3))
        pose[:, :2] = now.pos_w[rows, :2]
        pose[:, 2] = np.arctan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
        dx, dy, turned = (pose - self._pose[rows]).T
        cosine, sine = np.cos(pose[:, 2]), np.sin(pose[:, 2])
        turned = (turned + np.pi) % (2.0 * np.pi) - np.pi
        moved = np.stack([cosine * dx + sine * dy, cosine * dy - sine * dx, turned], axis=1)
        self._velocity[rows] += self._share * (moved / _CONTROL_DT - self._velocity[rows])
        self._pose[rows] = pose
        self._steps[rows] += 1


_BATCHED: Final[dict[type, Any]] = {StandTask: StandRewards, ReachTask: ReachRewards, WalkTask: WalkRewards}


def reward_batch(count: int, task: Task) -> RewardBatch | None:
    """The batched half of a task, or None for one that is judged env by env."""
    kind = _BATCHED.get(type(task))
    return None if kind is None else kind(count, task)

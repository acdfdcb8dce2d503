"""What a task is: a scene edit, a reset, a reward made of named tolerances, a success, an expert."""

from collections.abc import Mapping
from typing import Any, Protocol

import mujoco
import numpy as np

from neon_sim.robot import RobotState, World


class Task(Protocol):
    """One thing to do. A task owns the objects that it puts into the scene and nothing else.

    Its config is a frozen dataclass with at least `wording` and `objects`, each "train" or "test" (`wording.SPLITS`):
    the instructions and the objects to draw from. A task that has no objects takes the option and ignores it.
    """

    name: str
    config: Any
    max_steps: int  # control steps until truncation

    def __init__(self, config: Any = None) -> None:
        """Build from a config; None = its defaults."""

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """Add the task's objects to the scene; the robot is already in it."""

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Place the objects and return the instruction in words (at most 256 bytes of UTF-8)."""

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Return the reward in [0, 1] and its named factors; also keeps count for `success`."""

    @property
    def success(self) -> bool:
        """Whether the task is done, judged at the last `reward`."""

    @property
    def failed(self) -> bool:
        """Whether the task can no longer be done (ends the episode)."""

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """Quantities that no sensor gives, for `info` and for training labels."""

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """The next `steps` joint targets (steps, 29) rad of a scripted solution that knows the truth."""

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> np.ndarray | None:
        """What that solution tells the walker meanwhile: (steps, 3) m/s, m/s, rad/s; None = to stand."""

    def get_state(self) -> dict[str, Any]:
        """Counters and choices of the running episode."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""


class HandTask(Task, Protocol):
    """A task whose truth says where palms belong, `target_pos_b`, and not which: recordings ask for it here."""

    def expert_hand(self, state: RobotState, world: World) -> int | None:
        """The hand that the expert brings there: 0 left, 1 right, 2 both; None as long as nobody can know."""

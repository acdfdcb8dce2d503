"""stand: move the arms as you like and stay up."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from neon_sim.g1.joints import HOME, HOME_HEIGHT
from neon_sim.robot import RobotState, World
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import Wording, check_splits

WORDING = Wording(
    train=("stand still and keep your balance", "stay on your feet", "stand upright"),
    test=("do not fall over", "remain standing", "keep upright where you are"),
)


@dataclass(frozen=True)
class StandConfig:
    """Which wordings are drawn; an empty floor has no objects to draw, and takes the option all the same."""

    wording: str = "train"  # or "test": paraphrases that are held out
    objects: str = "train"

    def __post_init__(self) -> None:
        check_splits(self)


class StandTask:
    """Success is to be upright and at standing height; it is judged at every step."""

    name = "stand"
    max_steps = 500

    def __init__(self, config: StandConfig | None = None) -> None:
        self.config = config or StandConfig()
        self._upright = False

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """An empty floor is enough."""

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose a wording."""
        self._upright = True
        return WORDING.draw(self.config.wording, rng)

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: pelvis no more than 8 cm below standing height, torso upright, turning slower than 0.5 rad/s."""
        height = world.position("pelvis")[2]
        upright = float(-state.gravity_b[2])
        terms = {
            "height": tolerance(height, (HOME_HEIGHT - 0.08, math.inf), margin=0.3),
            "upright": tolerance(upright, (0.97, math.inf), 0.97, 0.0, "linear"),
            "still": tolerance(max(map(abs, state.gyro.tolist())), (0.0, 0.5), margin=3.0),
        }
        self._upright = terms["height"] > 0.9 and terms["upright"] > 0.9
        return terms["height"] * terms["upright"] * terms["still"], terms

    @property
    def success(self) -> bool:
        """Upright at standing height now."""
        return self._upright

    @property
    def failed(self) -> bool:
        """Falling is the env's business; nothing else can go wrong."""
        return False

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The pelvis position (3,) m in the world."""
        return {"pelvis_pos_w": world.object_pose("pelvis")[0]}

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Arms to the home pose; the walker does the rest."""
        return np.tile(HOME, (steps, 1))

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> None:
        """It stands."""

    def get_state(self) -> dict[str, Any]:
        """Whether it was upright."""
        return {"upright": self._upright}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._upright = bool(state["upright"])

"""Something on top of the walker: a residual that is added to its targets, and what was sensed meanwhile.

The walker stays as it is. Whoever learns asks for a residual of legs and waist, which is limited in size and in speed,
and is told what the robot sensed from one asking to the next, as means: there is a stride in every single step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from neon_sim.g1.joints import NUM_JOINTS
from neon_sim.locomotion.odometry import leg_odometry
from neon_sim.locomotion.stepper import CONTROL_DT, OWN
from neon_sim.robot import RobotState

OWN_JOINTS: Final = 15  # legs and waist
LIMIT: Final = 0.5  # rad either way that a controller lets anybody add: a tenth of a hip's range; ours
OUTCOME: Final = ("vx", "vy", "turn", "lean_x", "lean_y", "height")  # m/s, m/s, rad/s, sine, sine, m


def own_part(residual: np.ndarray) -> np.ndarray:
    """What legs and waist (15,) rad take of a residual (29,): `LIMIT` at most.

    Raises:
        ValueError: something in it is not a finite number.
    """
    own = residual[OWN]
    if not np.isfinite(own).all():
        raise ValueError(f"A residual wants 29 finite numbers of rad, got {own} for legs and waist.")
    return own.clip(-LIMIT, LIMIT)


@dataclass(frozen=True)
class ResidualConfig:
    """How far and how fast targets may be moved; both limits are ours.

    Raises ValueError for a number that is not positive.
    """

    limit: float = 0.2  # rad either way: two or three times a coarse zeroing
    speed: float = 0.5  # rad/s: a hundredth of a radian per control period, less than a stride moves

    def __post_init__(self) -> None:
        if not (self.limit > 0.0 and self.speed > 0.0):
            raise ValueError(f"A residual wants a positive limit (rad) and speed (rad/s), got {self}.")


class Window(NamedTuple):
    """Means over the control periods since the window before; all sensed, nothing is the simulator's truth."""

    command: np.ndarray  # (3,) vx, vy m/s, yaw rate rad/s
    outcome: np.ndarray  # (6,) see OUTCOME
    error: np.ndarray  # (15,) rad, last sent target - joint_pos of legs and waist
    residual: np.ndarray  # (15,) rad that were added


_WIDTHS: Final = (3, len(OUTCOME), OWN_JOINTS, OWN_JOINTS)
_BORDERS: Final = tuple(np.cumsum(_WIDTHS)[:-1].tolist())


class ResidualWalker:
    """A walker in a walker's place (`SimRobot.walker`), with a residual and a memory for the newest window.

    Args:
        walker: what walks; its `step` takes a residual.
        config: limits.

    Attributes:
        wanted: (15,) rad, the residual to go to; what is beyond the limit is cut.
        residual: (15,) rad, where it is.
    """

    def __init__(self, walker: Any, config: ResidualConfig | None = None) -> None:
        self.walker, self.config = walker, config or ResidualConfig()
        self.max_velocity, self.weights = walker.max_velocity, walker.weights
        self._forget()

    def reset(self) -> None:
        """Forget the past, and what was wanted."""
        self.walker.reset()
        self._forget()

    def get_state(self) -> dict[str, Any]:
        """Everything that the next step and window depend on."""
        own = {"wanted": self.wanted.copy(), "residual": self.residual.copy()}
        return {"walker": self.walker.get_state(), **own, "sums": self._sums.copy(), "steps": self._steps}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned."""
        self.walker.set_state(state["walker"])
        self.wanted, self.residual = state["wanted"].copy(), state["residual"].copy()
        self._sums, self._steps = state["sums"].copy(), int(state["steps"])

    def step(
        self,
        state: RobotState,
        command: np.ndarray,
        owned_mask: np.ndarray,
        external_targets: np.ndarray,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        """Joint targets (29,) rad for the next control period; see `Walker.step`, whose residual comes on top."""
        limit, most = self.config.limit, self.config.speed * CONTROL_DT
        self.residual = self.residual + (self.wanted.clip(-limit, limit) - self.residual).clip(-most, most)
        self._note(state, command)
        total = np.zeros(NUM_JOINTS) if residual is None else np.array(residual, dtype=np.float64)
        total[OWN] += self.residual
        return self.walker.step(state, command, owned_mask, external_targets, total)

    def take(self) -> Window:
        """The window up to now; the next one begins.

        Raises:
            ValueError: nothing was sensed since the last one.
        """
        if not self._steps:
            raise ValueError("Nothing was sensed since the last window: let the robot take a step first.")
        means = self._sums / self._steps
        self._sums, self._steps = np.zeros(sum(_WIDTHS)), 0
        return Window(*np.split(means, _BORDERS))

    def _note(self, state: RobotState, command: np.ndarray) -> None:
        """Add one instant to the window."""
        stance = leg_odometry(state.limb_poses[:, None], state.joint_vel[None], state.gyro[None], state.gravity_b[None])
        turn = -float(state.gyro @ state.gravity_b)
        outcome = (*stance.velocity[:2], turn, *state.gravity_b[:2], stance.height)
        error = state.joint_target[OWN] - state.joint_pos[OWN]
        self._sums += np.concatenate([command[:3], np.array(outcome, np.float64), error, self.residual])
        self._steps += 1

    def _forget(self) -> None:
        self.wanted, self.residual = np.zeros(OWN_JOINTS), np.zeros(OWN_JOINTS)
        self._sums, self._steps = np.zeros(sum(_WIDTHS)), 0

"""Force and torque at wrists and ankles: what hands and feet put on the rest of the robot."""

from dataclasses import dataclass
from typing import Final

import gymnasium
import mujoco
import numpy as np

from neon_sim.names import require_deviations, require_numbers
from neon_sim.sensors.sensor import LATENCY_S, RATE_HZ, find_id
from neon_sim.sensors.vector_sensor import VectorSensor, vector_space

# Links beyond a measured joint, in the order of the observation.
LINKS: Final = ("left_wrist_yaw_link", "right_wrist_yaw_link", "left_ankle_roll_link", "right_ankle_roll_link")
FORCE_LIMIT, TORQUE_LIMIT = 2000.0, 300.0  # N, N m: six times the robot's weight on one foot
_LIMIT = np.tile(np.repeat([FORCE_LIMIT, TORQUE_LIMIT], 3), len(LINKS))


@dataclass(frozen=True)
class ForceConfig:
    """Settings of the force/torque sensors. The G1 has none: these are what a user may bolt on, at the control rate.

    Raises ValueError for a rate out of range, and for a deviation that is negative or not finite.
    """

    force_noise: float = 0.0  # N, 1 sigma in every frame
    torque_noise: float = 0.0  # N m
    rate_hz: float = 50.0
    latency_s: float = 0.0  # from the instant a frame is taken to the computer; not measured on the robot

    def __post_init__(self) -> None:
        require_numbers(self, rate_hz=RATE_HZ, latency_s=LATENCY_S)
        require_deviations(self, "force_noise", "torque_noise")

    def space(self) -> gymnasium.spaces.Box:
        """(24,) float32: for each of `LINKS` force N (3) and torque N m (3), in the link's frame and at its origin."""
        return vector_space(_LIMIT)

    def build(self, model: mujoco.MjModel) -> "ForceSensors":
        """Make the sensors. Raises ValueError if the model lacks one of the links."""
        return ForceSensors(self, model)


class ForceSensors(VectorSensor):
    """Reads the wrenches that the physics worked out for the joints, as of the last physics step's beginning.

    A foot that bears weight reads upwards, a hand that hangs reads downwards.
    """

    def __init__(self, config: ForceConfig, model: mujoco.MjModel) -> None:
        noise = np.tile(np.repeat([config.force_noise, config.torque_noise], 3), len(LINKS))
        super().__init__(config.rate_hz, _LIMIT, noise)
        self._model = model
        self._links = np.array([find_id(model, mujoco.mjtObj.mjOBJ_BODY, name) for name in LINKS])
        self._roots = model.body_rootid[self._links]

    def measure(self, data: mujoco.MjData) -> np.ndarray:
        """(24,), without errors."""
        mujoco.mj_rnePostConstraint(self._model, data)  # derived quantities only: nothing that follows depends on it
        # MuJoCo's wrench is the parent's on the child, torque first, in world axes about the tree's centre of mass.
        wrench_w = data.cfrc_int[self._links].reshape(-1, 2, 3)[:, ::-1]  # (4, 2, 3)
        arm_w = data.subtree_com[self._roots] - data.xpos[self._links]
        wrench_w[:, 1] += _cross(arm_w, wrench_w[:, 0])
        return -(wrench_w @ data.xmat[self._links].reshape(-1, 3, 3)).ravel()


def _cross(left: np.ndarray, right: np.ndarray) -> list[tuple[float, float, float]]:
    """Cross products of a handful of vectors (N, 3), in plain floats: numpy is slower on so few."""
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    return [(ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx) for (ax, ay, az), (bx, by, bz) in pairs]

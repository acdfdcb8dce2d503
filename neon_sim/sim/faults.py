"""Things that break: frozen descriptions that `SimRobot.apply_fault` makes true in the compiled model."""

from dataclasses import dataclass

import mujoco
import numpy as np

from neon_sim.g1.joints import JOINT_INDEX
from neon_sim.names import nearest


@dataclass(frozen=True)
class ActuatorFault:
    """A motor that pulls with a fraction of its strength towards a wrong angle, while its encoder stays true.

    The torque is `strength * clip(kp (target + bias - q) - kd dq)`, so the fault shows in the tracking error only.
    """

    joint: str = "right_shoulder_pitch_joint"
    strength: float = 0.6  # fraction of gain, damping and torque limit that is left
    bias: float = 0.35  # rad, added to every target at the motor

    def __post_init__(self) -> None:
        if self.joint not in JOINT_INDEX:
            raise nearest("joint", self.joint, JOINT_INDEX)
        if not 0.0 <= self.strength <= 1.0 or not np.isfinite(self.bias):
            raise ValueError(
                f"ActuatorFault wants strength in [0, 1] and a finite bias, got {self.strength} and {self.bias}."
            )


def write_actuators(
    model: mujoco.MjModel, kp: np.ndarray, kd: np.ndarray, effort: np.ndarray, fault: ActuatorFault | None
) -> None:
    """Set PD gains (29,) N m/rad and N m s/rad and torque limits (29,) N m, with the fault folded in."""
    strength = np.ones(len(kp))
    bias = np.zeros(len(kp))
    if fault is not None:
        strength[JOINT_INDEX[fault.joint]] = fault.strength
        bias[JOINT_INDEX[fault.joint]] = fault.bias
    model.actuator_gainprm[:, 0] = strength * kp
    model.actuator_biasprm[:, 0] = strength * kp * bias
    model.actuator_biasprm[:, 1] = -strength * kp
    model.actuator_biasprm[:, 2] = -strength * kd
    model.actuator_forcerange[:, 0] = -strength * effort
    model.actuator_forcerange[:, 1] = strength * effort

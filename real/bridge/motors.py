"""What the 29 motors are told: torque = kp (q - q_now) + kd (dq - dq_now) + tau, each motor for itself."""

from typing import NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.real.low_cmd import DAMPING_KD

_ZERO = np.zeros(joints.NUM_JOINTS)
_ZERO.flags.writeable = False


class Motors(NamedTuple):
    """One order for all motors, hardware order; nobody writes into the arrays."""

    q: np.ndarray  # (29,) rad
    dq: np.ndarray  # (29,) rad/s
    tau: np.ndarray  # (29,) N m
    kp: np.ndarray  # (29,) N m/rad
    kd: np.ndarray  # (29,) N m s/rad


DAMPING = Motors(_ZERO, _ZERO, _ZERO, _ZERO, np.full(joints.NUM_JOINTS, DAMPING_KD))
LIMP = Motors(_ZERO, _ZERO, _ZERO, _ZERO, _ZERO)


def holding(target: np.ndarray, kp: np.ndarray = joints.KP, kd: np.ndarray = joints.KD) -> Motors:
    """The order that goes to a target (29,) rad and stays there."""
    return Motors(target, _ZERO, _ZERO, kp, kd)


def commanded(command: np.ndarray) -> Motors:
    """Read the order out of a LowCmd record; a motor in mode 0 is off."""
    motors = command["motor_cmd"][: joints.NUM_JOINTS]
    on = motors["mode"] != 0
    return Motors(
        motors["q"].astype(np.float64),
        motors["dq"].astype(np.float64),
        *(np.where(on, motors[name], 0.0) for name in ("tau", "kp", "kd")),
    )


def blended(own: Motors, other: Motors, weight: np.ndarray) -> Motors:
    """Mix two orders field by field, weight (29,) of the other one: 0 and 1 give either of them to the bit.

    How the robot's firmware mixes rt/arm_sdk in is not published.
    """
    rest = 1.0 - weight
    return Motors(*(rest * mine + weight * theirs for mine, theirs in zip(own, other, strict=True)))

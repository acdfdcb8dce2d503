"""What the 29 motors are told: torque = kp (q - q_now) + kd (dq - dq_now) + tau, each motor for itself."""

from typing import Final, NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_hg import LowCmd
from neon_sim.real.low_cmd import DAMPING_KD

_ZERO = np.zeros(joints.NUM_JOINTS)
_ZERO.flags.writeable = False
_NUMBERS: Final = ("q", "dq", "tau", "kp", "kd")  # neighbours in MotorCmd, floats all
_MOTOR: Final = layout(LowCmd).dtype["motor_cmd"].base
_FIRST: Final = _MOTOR.fields[_NUMBERS[0]][1] // 4


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


def numbers(command: np.ndarray) -> np.ndarray:
    """A LowCmd record's (35, 5) q, dq, tau, kp, kd, in its own memory: one array where fields would be five."""
    motors = command["motor_cmd"].view(np.float32).reshape(-1, _MOTOR.itemsize // 4)
    return motors[:, _FIRST : _FIRST + len(_NUMBERS)]


def ordered(command: np.ndarray) -> Motors:
    """Read what a LowCmd record orders of the 29 joints, whatever the motors' modes are."""
    return Motors(*np.array(numbers(command)[: joints.NUM_JOINTS].T, dtype=np.float64, order="C"))


def commanded(command: np.ndarray) -> Motors:
    """Read the order out of a LowCmd record; a motor in mode 0 is off."""
    motors = ordered(command)
    on = command["motor_cmd"]["mode"][: joints.NUM_JOINTS] != 0
    if on.all():
        return motors
    q, dq, *forces = motors
    return Motors(q, dq, *(np.where(on, force, 0.0) for force in forces))


def blended(own: Motors, other: Motors, weight: np.ndarray) -> Motors:
    """Mix two orders field by field, weight (29,) of the other one: 0 and 1 give either of them to the bit.

    How the robot's firmware mixes rt/arm_sdk in is not published.
    """
    rest = 1.0 - weight
    return Motors(*(rest * mine + weight * theirs for mine, theirs in zip(own, other, strict=True)))

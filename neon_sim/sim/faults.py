"""Things that break: frozen descriptions that `SimRobot.apply_fault` makes true, one at a time or several together.

env.unwrapped.world.apply_fault((ActuatorFault("left_knee_joint", strength=0.6, bias=0.0), LowFriction(0.3)))
env.unwrapped.world.apply_fault(None)  # all is well again
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.joints import JOINT_INDEX
from neon_sim.g1.links import PALM_OFFSET
from neon_sim.names import nearest, require_numbers
from neon_sim.sim.randomize import FRICTIONS, add_mass, set_friction

LONGEST_LATENCY_S: Final = 0.2
PAYLOAD_BODIES: Final = {
    "torso": "torso_link",
    "left_hand": "left_wrist_yaw_link",
    "right_hand": "right_wrist_yaw_link",
}
_HEAVIEST: Final = 30.0  # kg
_MOST_BIAS: Final = 3.2  # rad, half a turn: motors told more than that shake the physics apart
_SEIZED: Final = 0.99  # impedance of a seized joint; end stops have 0.9 and give five times as much, 0.999 rattles


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
        require_numbers(self, strength=(0.0, 1.0), bias=(-_MOST_BIAS, _MOST_BIAS))


@dataclass(frozen=True)
class StuckJoint:
    """A gearbox that has seized: the joint stays where it is, and its motor pulls in vain.

    It is held as a joint at both ends of its range is, only harder, so it gives by a few milliradians under load.
    """

    joint: str = "right_shoulder_pitch_joint"
    angle: float | None = None  # rad; None = where the joint is when the fault is applied

    def __post_init__(self) -> None:
        if self.joint not in JOINT_INDEX:
            raise nearest("joint", self.joint, JOINT_INDEX)
        if self.angle is not None:
            index = JOINT_INDEX[self.joint]
            require_numbers(self, angle=(float(joints.LOWER[index]), float(joints.UPPER[index])))


@dataclass(frozen=True)
class Payload:
    """A weight that nobody told the controllers of: at the torso's centre of mass, or in a palm."""

    body: str = "torso"  # torso, left_hand or right_hand
    mass: float = 4.0  # kg

    def __post_init__(self) -> None:
        if self.body not in PAYLOAD_BODIES:
            raise nearest("payload body", self.body, PAYLOAD_BODIES)
        require_numbers(self, mass=(0.0, _HEAVIEST))


@dataclass(frozen=True)
class LowFriction:
    """Something slippery under the soles; nominal is 0.6, and without any (below 0.01) the physics may diverge."""

    friction: float = 0.3  # sliding

    def __post_init__(self) -> None:
        require_numbers(self, friction=FRICTIONS)


@dataclass(frozen=True)
class AddedLatency:
    """Targets that reach the motors late, and readings that reach the computer late; rounded to physics steps."""

    action_s: float = 0.02
    sensing_s: float = 0.0  # of encoders, torques and IMU

    def __post_init__(self) -> None:
        require_numbers(self, action_s=(0.0, LONGEST_LATENCY_S), sensing_s=(0.0, LONGEST_LATENCY_S))


@dataclass(frozen=True)
class LostSensor:
    """A sensor that gives zeros: a black picture, silence, a cloud without points."""

    name: str = "camera"  # an observation key that `SimRobot.sense` captures


Fault = ActuatorFault | StuckJoint | Payload | LowFriction | AddedLatency | LostSensor
_IN_THE_MODEL: Final = (StuckJoint, Payload, LowFriction)


def as_faults(fault: Fault | Iterable[Fault] | None) -> tuple[Fault, ...]:
    """What `apply_fault` takes, as a tuple: none, one or several.

    Raises:
        ValueError: something that is no fault.
    """
    if fault is None:
        return ()
    faults: tuple[Any, ...] = (fault,) if isinstance(fault, Fault) or not isinstance(fault, Iterable) else tuple(fault)
    for one in faults:
        if not isinstance(one, Fault):
            kinds = ", ".join(kind.__name__ for kind in Fault.__args__)
            raise ValueError(f"A fault is one of {kinds}, a tuple of them, or None to heal all; got {one!r}.")
    return faults


def changes_model(faults: Sequence[Fault]) -> bool:
    """Whether any of them needs more than other gains."""
    return any(isinstance(fault, _IN_THE_MODEL) for fault in faults)


def edit_for_faults(model: mujoco.MjModel, faults: Sequence[Fault]) -> None:
    """Load, lock and grease a compiled model; `mujoco.mj_setConst` must follow."""
    for fault in faults:
        if isinstance(fault, Payload):
            body = model.body(PAYLOAD_BODIES[fault.body])
            pos = body.ipos.copy() if fault.body == "torso" else np.array(PALM_OFFSET)
            add_mass(model, body.name, fault.mass, pos)
        elif isinstance(fault, LowFriction):
            set_friction(model, fault.friction)
        elif isinstance(fault, StuckJoint) and fault.angle is not None:
            joint = model.joint(fault.joint).id
            model.jnt_range[joint], model.jnt_solimp[joint, :2] = fault.angle, _SEIZED


def motor_faults(faults: Sequence[Fault]) -> tuple[np.ndarray, np.ndarray]:
    """What is left of each motor's strength (29,) and what is added to its target (29,) rad; faults of one add up."""
    strength, bias = np.ones(joints.NUM_JOINTS), np.zeros(joints.NUM_JOINTS)
    for fault in faults:
        if isinstance(fault, ActuatorFault):
            strength[JOINT_INDEX[fault.joint]] *= fault.strength
            bias[JOINT_INDEX[fault.joint]] += fault.bias
    return strength, bias


def added_latency(faults: Sequence[Fault]) -> tuple[float, float]:
    """s that targets and readings take longer, in all."""
    late = [fault for fault in faults if isinstance(fault, AddedLatency)]
    return sum(fault.action_s for fault in late), sum(fault.sensing_s for fault in late)


def lost_sensors(faults: Sequence[Fault]) -> frozenset[str]:
    """Names of the sensors that give zeros."""
    return frozenset(fault.name for fault in faults if isinstance(fault, LostSensor))


def write_actuators(
    model: mujoco.MjModel,
    kp: np.ndarray,
    kd: np.ndarray,
    effort: np.ndarray,
    strength: np.ndarray,
    bias: np.ndarray,
) -> None:
    """Make the motors pull with `strength * clip(kp (target + bias - q) - kd dq)`, at most `strength * effort`.

    All (n,), of the robot's motors, which are the model's first n: kp N m/rad, kd N m s/rad, effort N m, strength a
    fraction, bias rad.
    """
    own = slice(0, len(kp))  # a scene around the robot may have motors of its own
    model.actuator_gainprm[own, 0] = strength * kp
    model.actuator_biasprm[own, 0] = strength * kp * bias
    model.actuator_biasprm[own, 1] = -strength * kp
    model.actuator_biasprm[own, 2] = -strength * kd
    model.actuator_forcerange[own, 0] = -strength * effort
    model.actuator_forcerange[own, 1] = strength * effort

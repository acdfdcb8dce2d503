"""What the robot is made of just now: the nominal model, an episode's draw and faults, in one compiled model."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.sim.faults import (
    ActuatorFault,
    Fault,
    StuckJoint,
    added_latency,
    changes_model,
    edit_for_faults,
    motor_faults,
    write_actuators,
)
from neon_sim.sim.joint_map import JointMap
from neon_sim.sim.randomize import edit_model, set_softness

# All that an edit of masses, motors, joints, soles and ranges changes, and what `mj_setConst` derives from them.
_EDITED: Final = (
    "actuator_acc0",
    "actuator_biasprm",
    "actuator_forcerange",
    "actuator_gainprm",
    "body_inertia",
    "body_invweight0",
    "body_ipos",
    "body_iquat",
    "body_mass",
    "body_subtreemass",
    "bvh_aabb",
    "cam_pos0",
    "cam_poscom0",
    "dof_M0",
    "dof_armature",
    "dof_damping",
    "dof_frictionloss",
    "dof_invweight0",
    "dof_length",
    "geom_friction",
    "geom_solref",
    "jnt_actfrcrange",
    "jnt_range",
    "jnt_solimp",
    "light_poscom0",
)


class Embodiment:
    """One model, brought back to what it was compiled as before each change: equal values give equal bits.

    Attributes:
        values: of `domain.draw_domain`; empty for the nominal robot.
        faults: what is broken.
        kp, kd: (29,) gains that the computer asks for.
        joint_map: which joints there are.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model, self.joint_map = model, JointMap(model)
        self._nominal: dict[str, np.ndarray] | None = None  # kept when the first change is made
        self.values: Mapping[str, np.ndarray] = {}
        self.faults: tuple[Fault, ...] = ()
        self.kp, self.kd = joints.KP, joints.KD

    def become(self, values: Mapping[str, np.ndarray], faults: tuple[Fault, ...]) -> None:
        """Be the robot of these values with these faults, and nothing of what it was."""
        self.values, self.faults = values, faults
        changes = bool(values) or changes_model(faults)
        if self._nominal is not None:
            _restore(self._model, self._nominal)
        elif changes:
            self._nominal = {name: getattr(self._model, name).copy() for name in _EDITED}
        if values:
            edit_model(self._model, values)
            set_softness(self._model, float(values["floor_time_constant_s"]))
        if changes_model(faults):
            edit_for_faults(self._model, faults)
            mujoco.mj_setConst(self._model, mujoco.MjData(self._model))
        self.write_gains(self.kp, self.kd)

    def write_gains(self, kp: np.ndarray, kd: np.ndarray) -> None:
        """Let the motors have gains (29,) N m/rad and N m s/rad, each its own way."""
        self.kp, self.kd = kp, kd
        strength, bias = motor_faults(self.faults)
        if self.values:
            kp, kd = kp * self.values["kp_scale"], kd * self.values["kd_scale"]
            strength, bias = strength * self.values["motor_strength"], bias + self.values["actuator_bias"]
        write_actuators(
            self._model, *(values[self.joint_map.kept] for values in (kp, kd, joints.EFFORT, strength, bias))
        )

    def located(self, fault: Fault, joint_pos: np.ndarray) -> Fault:
        """The fault with what is to be known about this robot, whose joints are at (29,) rad, filled in.

        Raises ValueError for a joint that the robot lacks.
        """
        if isinstance(fault, StuckJoint | ActuatorFault):
            self.joint_map.require(fault.joint)
        if isinstance(fault, StuckJoint) and fault.angle is None:
            index = joints.JOINT_INDEX[fault.joint]
            angle = float(np.clip(joint_pos[index], joints.LOWER[index], joints.UPPER[index]))
            return replace(fault, angle=angle)
        return fault

    @property
    def latency_s(self) -> tuple[float, float]:
        """s that targets and readings take, by the episode's draw and the faults together."""
        action_s, sensing_s = added_latency(self.faults)
        if not self.values:
            return action_s, sensing_s
        return action_s + float(self.values["action_latency_s"]), sensing_s + float(self.values["sensing_latency_s"])

    def nominal_model(self) -> mujoco.MjModel:
        """A copy of the model without any of it."""
        model = copy.copy(self._model)
        if self._nominal is not None:
            _restore(model, self._nominal)
        return model


def _restore(model: mujoco.MjModel, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        getattr(model, name)[...] = array

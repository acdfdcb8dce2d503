"""Where the 29 joints of hardware order are in a compiled model that may lack some of them."""

from dataclasses import replace
from typing import Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.names import nearest
from neon_sim.robot import RobotState
from neon_sim.sim.model import FREE_JOINT, NECK_HOME, NECK_JOINTS

_NAMES: Final = joints.JOINT_NAMES


class JointMap:
    """Found by name, checked to be the first hinges and the first motors of the model, in hardware order.

    So n numbers from `qpos[7:]`, `qvel[6:]`, `ctrl` and `actuator_force` are the robot's, and what follows is the
    neck's or the scene's.

    Args:
        model: in which the robot comes first.

    Attributes:
        count: n, how many of the 29 there are.
        kept: takes those that there are out of the last axis of an array (..., 29): a slice if all, else (n,) indices.
        lacking: (29 - n,) hardware indices of the others.

    Raises:
        ValueError: the robot does not come first, or its motors are not those of its joints.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        found = [model.joint(index).name for index in range(model.njnt)]
        self.names = tuple(name for name in _NAMES if name in set(found))
        self.count = count = len(self.names)
        motors = [model.actuator(index).name for index in range(min(count, model.nu))]
        if found[: count + 1] != [FREE_JOINT, *self.names] or motors != [n.removesuffix("_joint") for n in self.names]:
            raise ValueError(
                f"The robot's joints and motors must come first in the model, in hardware order; got joints"
                f" {found[: count + 1]} and motors {motors}. Build on build_spec() and add to the scene afterwards."
            )
        there = np.array([name in self.names for name in _NAMES])
        self.lacking = np.flatnonzero(~there)
        self.kept: slice | np.ndarray = np.flatnonzero(there) if self.lacking.size else slice(None)
        self._neck = tuple(zip(NECK_JOINTS, NECK_HOME, strict=True)) if NECK_JOINTS[0] in found else ()

    def spread(self, values: np.ndarray) -> np.ndarray:
        """A new array (29,) in hardware order of the model's own numbers (n,), zero for joints that it lacks."""
        if not self.lacking.size:
            return values.copy()
        whole = np.zeros(joints.NUM_JOINTS)
        whole[self.kept] = values
        return whole

    def cleared(self, values: np.ndarray) -> np.ndarray:
        """(29,) with zeros for joints that the model lacks; the array itself if it lacks none."""
        if not self.lacking.size:
            return values
        values = values.copy()
        values[self.lacking] = 0.0
        return values

    def cleared_state(self, state: RobotState) -> RobotState:
        """The state without what noise and wrong offsets make of encoders and motors that are not there."""
        pos, vel, torque = (self.cleared(part) for part in (state.joint_pos, state.joint_vel, state.joint_torque))
        return replace(state, joint_pos=pos, joint_vel=vel, joint_torque=torque)

    def place(self, data: mujoco.MjData, joint_pos: np.ndarray) -> None:
        """Put the joints at joint_pos (29,) rad, and a neck at `NECK_HOME`, where its servos will hold it."""
        data.qpos[7 : 7 + self.count] = joint_pos[self.kept]
        for name, angle in self._neck:
            data.joint(name).qpos[:] = angle
            data.actuator(name.removesuffix("_joint")).ctrl[:] = angle

    def require(self, name: str) -> None:
        """Raise ValueError, naming the nearest, unless the robot has the joint."""
        if name not in self.names:
            raise nearest("joint of this robot", name, self.names)

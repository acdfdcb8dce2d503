"""What force plates, a stroboscope and a clash detector would see: every physics step of an episode."""

from typing import Final, NamedTuple

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.sim.model import ROBOT_GROUP, SOLE_GROUP
from neon_sim.sim.sim_robot import SimRobot

_SIDES: Final = ("left", "right")
_LEG_LINKS: Final = ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll")


class Readings(NamedTuple):
    """One row per control period; peaks are over its physics steps."""

    load: np.ndarray  # (T, 2) N, largest vertical force under each foot
    slip: np.ndarray  # (T,) m/s, speed of the sole points over the ground, weighted with their load
    pressed: np.ndarray  # (T,) N s, the weight of that mean
    joint_speed: np.ndarray  # (T, 29) rad/s, largest
    gyro: np.ndarray  # (T,) rad/s, largest
    leg_gap: np.ndarray  # (T,) m between the legs, at most GAP_SEEN; negative = they overlap
    arm_on_trunk: np.ndarray  # (T,) bool, whether an arm touched pelvis, waist or torso
    arm_on_leg: np.ndarray  # (T,) bool


GAP_SEEN: Final = 0.02  # m
_TRUNK, _LEG, _ARM = 1, 2, 3  # parts of the robot; 0 is the rest of the world
_ARM_LINKS: Final = ("shoulder", "elbow", "wrist")


class Probe:
    """Steps a robot through its control periods and notes what happens within them."""

    def __init__(self, model: mujoco.MjModel, steps: int) -> None:
        self._model = model
        self._side = np.full(model.ngeom, -1)
        self._foot = [model.body(f"{side}_ankle_roll_link").id for side in _SIDES]
        for side, body in enumerate(self._foot):
            self._side[(model.geom_bodyid == body) & (model.geom_group == SOLE_GROUP)] = side
        self._legs = [_leg_geoms(model, side) for side in _SIDES]
        self._reach = np.add.outer(*(model.geom_rbound[geoms] for geoms in self._legs)) + GAP_SEEN
        self._load = np.zeros((steps, 2))
        self._slip, self._pressed = np.zeros(steps), np.zeros(steps)
        self._joint_speed, self._gyro = np.zeros((steps, joints.NUM_JOINTS)), np.zeros(steps)
        self._leg_gap = np.full(steps, GAP_SEEN)
        self._part = _parts(model)
        self._touched = np.zeros((2, steps), dtype=bool)  # an arm the trunk, an arm a leg

    def advance(self, robot: SimRobot, row: int) -> None:
        """`robot.advance()` one physics step at a time, to the same state to the bit."""
        model, data = robot.model, robot.data
        count = round(robot.dt / model.opt.timestep)
        robot.substeps = 1  # the first of them; whoever lends the robot puts the number back
        robot.advance()
        self.look(data, row)
        for _ in range(count - 1):
            mujoco.mj_step(model, data)
            self.look(data, row)
        mujoco.mj_kinematics(model, data)
        self._leg_gap[row] = self.gap_between_legs(data)

    def readings(self, steps: int) -> Readings:
        """The first `steps` rows."""
        slip = self._slip[:steps] / np.maximum(self._pressed[:steps], 1e-9)
        rows = (self._load, self._pressed, self._joint_speed, self._gyro, self._leg_gap, *self._touched)
        load, *others = (array[:steps] for array in rows)
        return Readings(load, slip, *others)

    def look(self, data: mujoco.MjData, row: int) -> None:
        """Note one physics step, of which `data` still holds the contacts, in the row of its control period."""
        speed = np.abs(data.qvel[3 : 6 + joints.NUM_JOINTS])
        np.maximum(self._joint_speed[row], speed[3:], out=self._joint_speed[row])
        self._gyro[row] = max(self._gyro[row], float(np.sqrt(speed[:3] @ speed[:3])))
        contact = data.contact
        parts = np.sort(self._part[contact.geom], axis=1)  # (C, 2); the arm is last
        for touched, part in zip(self._touched, (_TRUNK, _LEG), strict=True):
            touched[row] |= bool((parts == (part, _ARM)).all(axis=1).any())
        side = self._side[contact.geom].max(axis=1, initial=-1)
        found = np.flatnonzero(side >= 0)
        if not len(found):
            return
        side, dt = side[found], self._model.opt.timestep
        force = np.array([self._force(data, int(index)) for index in found])
        frame = contact.frame[found].reshape(-1, 3, 3)  # rows: normal, two tangents
        vertical = np.abs(np.einsum("ci,ci->c", force, frame[:, :, 2]))
        np.maximum(self._load[row], np.bincount(side, vertical, minlength=2), out=self._load[row])
        sliding = np.einsum("cij,cj->ci", frame[:, 1:], self._velocity(data, side, contact.pos[found]))
        self._slip[row] += dt * force[:, 0] @ np.sqrt(np.square(sliding).sum(axis=1))
        self._pressed[row] += dt * force[:, 0].sum()

    def gap_between_legs(self, data: mujoco.MjData) -> float:
        """m between the nearest solids of the left and the right leg, at most `GAP_SEEN`."""
        left, right = self._legs
        between = data.geom_xpos[left][:, None] - data.geom_xpos[right][None]
        near = np.argwhere(np.einsum("abi,abi->ab", between, between) < self._reach**2)
        ends = np.empty(6)
        gaps = [mujoco.mj_geomDistance(self._model, data, int(left[a]), int(right[b]), GAP_SEEN, ends) for a, b in near]
        return min(gaps, default=GAP_SEEN)

    def _force(self, data: mujoco.MjData, index: int) -> np.ndarray:
        """Force (3,) N of one contact in its own frame: normal, two tangents."""
        wrench = np.empty(6)
        mujoco.mj_contactForce(self._model, data, index, wrench)
        return wrench[:3]

    def _velocity(self, data: mujoco.MjData, side: np.ndarray, pos: np.ndarray) -> np.ndarray:
        """Velocity (C, 3) m/s in the world of the points of the feet `side` (C,) at `pos` (C, 3)."""
        motion = np.empty((2, 6))
        for row, body in zip(motion, self._foot, strict=True):
            mujoco.mj_objectVelocity(self._model, data, mujoco.mjtObj.mjOBJ_XBODY, body, row, 0)
        turn, lever = motion[side, :3], pos - data.xpos[self._foot][side]
        turned = turn[:, [1, 2, 0]] * lever[:, [2, 0, 1]] - turn[:, [2, 0, 1]] * lever[:, [1, 2, 0]]
        return motion[side, 3:] + turned


def _leg_geoms(model: mujoco.MjModel, side: str) -> np.ndarray:
    """The visible solids of one leg; their shapes are fitted to the robot's, the drawn foot's box included."""
    bodies = [model.body(f"{side}_{link}_link").id for link in _LEG_LINKS]
    return np.flatnonzero(np.isin(model.geom_bodyid, bodies) & (model.geom_group == ROBOT_GROUP))


def _parts(model: mujoco.MjModel) -> np.ndarray:
    """Which part of the robot each geom belongs to, (ngeom,)."""
    pelvis = model.body("pelvis").id
    parts = np.zeros(model.nbody, dtype=np.intp)
    for body in range(1, model.nbody):
        name = model.body(body).name
        if model.body_rootid[body] == pelvis:
            arm, leg = (any(link in name for link in links) for links in (_ARM_LINKS, _LEG_LINKS))
            parts[body] = _ARM if arm else _LEG if leg else _TRUNK
    return parts[model.geom_bodyid]

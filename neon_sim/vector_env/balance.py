"""The standing balance controller of `locomotion.balance`, for many robots in one go: the same law on rows.

A test holds it to the single one. Rows are robots; `rows` picks those that stand.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import GRAVITY, TOTAL_MASS, stance
from neon_sim.g1.links import LINKS
from neon_sim.locomotion.balance import CONTROL_DT, Balance, BalanceConfig
from neon_sim.locomotion.posture import HEIGHT_RANGE, crouch

_OWN: Final = slice(0, 15)
_WEIGHT: Final = TOTAL_MASS * GRAVITY  # N
_EFFORT: Final = joints.EFFORT[_OWN]  # N m
# Where `kinematics.limb_poses` keeps each joint's link: depth, and limb (left leg, right leg, left arm, right arm).
_DEPTH: Final = np.array([*range(3, 9), *range(3, 9), *range(3), *range(3, 10), *range(3, 10)])
_LIMB: Final = np.array([0] * 6 + [1] * 6 + [2] * 3 + [2] * 7 + [3] * 7)
_AXIS: Final = np.array(["xyz".index(link.axis) for link in LINKS[1:]])
_JOINTS: Final = np.arange(joints.NUM_JOINTS)
_NEXT_AFTER: Final = np.array([[1, 2, 0], [2, 0, 1]])
_AFTER_NEXT: Final = _NEXT_AFTER[::-1].copy()


def _carried() -> np.ndarray:
    """(29, 29): 1 where the joint of the row carries the link of the column."""
    carried = np.zeros((joints.NUM_JOINTS, joints.NUM_JOINTS))
    for group in ("left_leg", "right_leg", "waist", "left_arm", "right_arm"):
        chain = joints.GROUPS[group]
        carried[np.ix_(chain, chain)] = np.triu(np.ones((len(chain), len(chain))))
    carried[np.ix_(joints.GROUPS["waist"], joints.GROUPS["arms"])] = 1.0
    return carried


_CARRIED: Final = _carried()
_MASS: Final = np.array([link.mass for link in LINKS[1:]])
_MOMENT: Final = np.array([(*(link.mass * np.array(link.com)), link.mass) for link in LINKS[1:]])  # (29, 4)
_BEYOND: Final = (_CARRIED @ _MASS)[:, None, None]  # kg behind each joint
_PELVIS: Final = LINKS[0].mass * np.array(LINKS[0].com)


class StanceRows(NamedTuple):
    """`kinematics.Stance` of R robots, joints first where there are some; pelvis frame."""

    com: np.ndarray  # (R, 3) m
    com_gradient: np.ndarray  # (29, R, 3) m/rad
    sole_pos: np.ndarray  # (R, 2, 3) m
    sole_matrix: np.ndarray  # (R, 2, 3, 3)
    sole_moved: np.ndarray  # (12, R, 3) m/rad: how each leg's joints move its own sole
    axis: np.ndarray  # (29, R, 3) unit vectors


def stance_rows(poses: np.ndarray) -> StanceRows:
    """Centre of mass and soles, and how joints move them, from `kinematics.limb_poses` (10, R, 4, 4, 4)."""
    links = poses[_DEPTH, :, _LIMB]  # (29, R, 4, 4)
    axis, origin = links[_JOINTS, :, :3, _AXIS], links[..., :3, 3]
    moment = (links[..., :3, :] @ _MOMENT[:, None, :, None])[..., 0]
    behind = (_CARRIED @ moment.reshape(joints.NUM_JOINTS, -1)).reshape(moment.shape)
    soles = poses[-1, :, :2]
    lever = soles[:, :, :3, 3].swapaxes(0, 1).repeat(6, axis=0) - origin[:12]
    return StanceRows(
        com=(moment.sum(axis=0) + _PELVIS) / TOTAL_MASS,
        com_gradient=_cross(axis, behind - _BEYOND * origin) / TOTAL_MASS,
        sole_pos=soles[..., :3, 3],
        sole_matrix=soles[..., :3, :3],
        sole_moved=_cross(axis[:12], lever),
        axis=axis,
    )


class BalanceBatch:
    """N robots that stand; attributes are rows of what `Balance` keeps.

    Args:
        count: N.
        config: gains; the walker's by default.
    """

    def __init__(self, count: int, config: BalanceConfig | None = None) -> None:
        self.config = config or BalanceConfig()
        self._kp, self._kd = np.array(self.config.com_kp), np.array(self.config.com_kd)
        self._low, self._high = np.array(self.config.com_low), np.array(self.config.com_high)
        self._push_limit = np.array(self.config.push_limit)
        self._home_pelvis = -stance(joints.HOME).sole_pos.mean(axis=0)[:2]
        self.velocity = np.zeros((count, 2))  # m/s
        self.heading = np.full(count, np.nan)  # rad; NaN until the first step
        self.twist = np.zeros(count)  # N m
        self.height = np.full(count, joints.HOME_HEIGHT)  # m
        self.astride = np.zeros((count, 15))  # rad
        self.eased = np.zeros(count)
        self.bent = np.zeros((count, 15))  # rad
        self.shifted = np.zeros((count, 2))  # m
        self.leaned = np.zeros((count, 2))

    def take_over(self, rows: np.ndarray, joint_pos: np.ndarray, gravity_b: np.ndarray, height: np.ndarray) -> None:
        """As `Balance.take_over`, one after the other: few robots come to stand in the same step.

        Args:
            rows: (R,) which robots.
            joint_pos, gravity_b: (R, 29) rad and (R, 3).
            height: (R,) m.
        """
        single = Balance(self.config)
        for row, posture, down_b, commanded in zip(rows, joint_pos, gravity_b, height, strict=True):
            single.take_over(posture, down_b, float(commanded))
            self.load(int(row), single.get_state())

    def load(self, row: int | slice, state: Mapping[str, Any]) -> None:
        """Take over what one `Balance.get_state` says, for one robot or for some."""
        self.velocity[row], self.astride[row] = state["com_vel"], state["astride"]
        self.heading[row], self.twist[row], self.height[row] = state["heading"], state["twist"], state["height"]
        self.eased[row], self.bent[row] = state["eased"], state["bent"]
        self.shifted[row], self.leaned[row] = state["shifted"], state["leaned"]

    def state_of(self, row: int) -> dict[str, Any]:
        """One row as `Balance.set_state` takes it."""
        return {
            "com_vel": self.velocity[row].copy(),
            "heading": float(self.heading[row]),
            "twist": float(self.twist[row]),
            "height": float(self.height[row]),
            "astride": self.astride[row].copy(),
            "eased": float(self.eased[row]),
            "bent": self.bent[row].copy(),
            "shifted": self.shifted[row].copy(),
            "leaned": self.leaned[row].copy(),
        }

    def step(
        self,
        rows: np.ndarray,
        poses: np.ndarray,
        joint_vel: np.ndarray,
        quat_wxyz: np.ndarray,
        gyro: np.ndarray,
        gravity_b: np.ndarray,
        height: np.ndarray,
    ) -> np.ndarray:
        """Targets (R, 15) rad of legs and waist, of the robots `rows` (R,); the other arguments are theirs alone."""
        wanted, reach = _between(height, *HEIGHT_RANGE), self.config.height_speed * CONTROL_DT
        approached = self.height[rows]
        approached += _between(wanted - approached, -reach, reach)
        self.height[rows] = approached
        own = crouch(approached) + self.astride[rows] + self.eased[rows, None] * self.bent[rows]
        own += self._torque(rows, poses, joint_vel, quat_wxyz, gyro, gravity_b) / joints.KP[_OWN]
        self.eased[rows] *= self.config.ease
        return own

    def _torque(
        self,
        rows: np.ndarray,
        poses: np.ndarray,
        joint_vel: np.ndarray,
        quat_wxyz: np.ndarray,
        gyro: np.ndarray,
        gravity_b: np.ndarray,
    ) -> np.ndarray:
        """Torques (R, 15) N m that carry the body and make the floor push where it should."""
        body, up_b = stance_rows(poses), -gravity_b
        frame = _stance_frames(body.sole_matrix, up_b)
        middle = 0.5 * (body.sole_pos[:, 0] + body.sole_pos[:, 1])
        turned = np.empty((len(rows), 3, 3))
        turned[..., 0], turned[..., 1], turned[..., 2] = body.com - middle, gyro, self._relative_vel(body, joint_vel)
        com, turn, com_vel = (frame @ turned).transpose(2, 0, 1)
        com_vel = com_vel + _cross(turn, com)
        pelvis = -(frame[:, :2] @ middle[:, :, None])[..., 0]
        push = self._push_point(rows, com[:, :2], pelvis, com_vel[:, :2])
        force, moment = np.empty_like(com), np.empty_like(com)
        force[:, :2] = (_WEIGHT / np.maximum(com[:, 2], 0.3))[:, None] * (com[:, :2] - push)
        force[:, :2] += self.config.tilt_kp * (frame[:, :2, 2] - self.eased[rows, None] * self.leaned[rows])
        force[:, 0] += self.config.tilt_kd * turn[:, 1]
        force[:, 1] -= self.config.tilt_kd * turn[:, 0]
        force[:, 2] = _WEIGHT
        twist = self._heading_torque(rows, quat_wxyz, turn[:, 2])
        moment[:, 0], moment[:, 1] = 0.0, -push[:, 0] * _WEIGHT
        moment[:, 2] = push[:, 0] * force[:, 1] + twist
        left_y, right_y = np.vecdot(frame[:, 1, None], body.sole_pos - middle[:, None]).T
        left = _between((push[:, 1] - right_y) / np.maximum(left_y - right_y, 0.05), 0.0, 1.0)
        pressed = np.vecdot(body.sole_moved, (force[:, None] @ frame)[:, 0])
        pressed += np.vecdot(body.axis[:12], (moment[:, None] @ frame)[:, 0])  # (12, R)
        torque = np.vecdot(body.com_gradient[_OWN], _WEIGHT * up_b)
        torque[:6] -= left * pressed[:6]
        torque[6:12] -= (1.0 - left) * pressed[6:]
        return _between(torque.T, -_EFFORT, _EFFORT)

    @staticmethod
    def _relative_vel(body: StanceRows, joint_vel: np.ndarray) -> np.ndarray:
        """Velocity (R, 3) m/s of the centre of mass over the middle of the soles while the pelvis does not turn."""
        speed = joint_vel.T[:, :, None]
        return (body.com_gradient * speed).sum(axis=0) - 0.5 * (body.sole_moved * speed[:12]).sum(axis=0)

    def _push_point(self, rows: np.ndarray, com: np.ndarray, pelvis: np.ndarray, com_vel: np.ndarray) -> np.ndarray:
        keep = self.config.smoothing
        self.velocity[rows] = velocity = keep * self.velocity[rows] + (1.0 - keep) * com_vel
        place = self._home_pelvis + self.eased[rows, None] * self.shifted[rows]
        wanted = _between(com - pelvis + place, self._low, self._high)
        push = com + self._kp * (com - wanted) + self._kd * velocity
        return _between(push, -self._push_limit, self._push_limit)

    def _heading_torque(self, rows: np.ndarray, quat_wxyz: np.ndarray, yaw_rate: np.ndarray) -> np.ndarray:
        w, x, y, z = quat_wxyz.T
        heading = np.arctan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
        kept = self.heading[rows]
        error = (heading - kept + np.pi) % (2.0 * np.pi) - np.pi
        lost = ~(np.abs(error) < self.config.yaw_reach)  # also where there was no heading yet
        self.heading[rows] = np.where(lost, heading, kept)
        error = np.where(lost, 0.0, error)
        limit = self.config.yaw_limit
        twist = np.where(lost, 0.0, self.twist[rows]) - self.config.yaw_ki * CONTROL_DT * error
        self.twist[rows] = twist = _between(twist, -limit, limit)
        return _between(twist - self.config.yaw_kp * error - self.config.yaw_kd * yaw_rate, -limit, limit)


def _stance_frames(sole_matrix: np.ndarray, up_b: np.ndarray) -> np.ndarray:
    """(R, 3, 3) rows forward, left, up in the pelvis frame: forward is where the feet point, levelled."""
    frame = np.empty((len(up_b), 3, 3))
    forward = sole_matrix[:, 0, :, 0] + sole_matrix[:, 1, :, 0]
    forward = forward - up_b * np.vecdot(forward, up_b)[:, None]
    frame[:, 0] = forward / np.maximum(np.sqrt(np.vecdot(forward, forward)), 1e-6)[:, None]
    frame[:, 1], frame[:, 2] = _cross(up_b, frame[:, 0]), up_b
    return frame


def _cross(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cross product over the last axis; numpy's own takes several times as long."""
    both = left.take(_NEXT_AFTER, -1) * right.take(_AFTER_NEXT, -1)
    return both[..., 0, :] - both[..., 1, :]


def _between(value: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """`value.clip(low, high)`, whose wrapper takes longer than the work on a few rows."""
    return np.minimum(np.maximum(value, low), high)

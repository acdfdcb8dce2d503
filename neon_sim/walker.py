"""The standing balance controller: it keeps the robot up and its pelvis still while somebody else moves the arms.

Each control step it decides where under the feet the floor should push (the centre of pressure), asks statics which leg
torques make the floor push there, and folds those torques into position targets: a servo of gain kp turns an offset of
tau / kp into tau. It reads encoders and the IMU only: the centre of mass comes from kinematics, its speed from the
standing feet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import GRAVITY, TOTAL_MASS, Stance, link_transforms, stance
from neon_sim.robot import RobotState

CONTROL_DT: Final = 0.02  # s, the walker is stepped at 50 Hz in simulation as on the robot

_LEGS, _WAIST = joints.GROUPS["legs"], joints.GROUPS["waist"]
_LEGS_AND_WAIST: Final = slice(0, 15)  # hardware order begins with them
_WEIGHT: Final = TOTAL_MASS * GRAVITY  # N
_HEIGHTS: Final = (0.64, 0.80)  # m, pelvis above the floor, what the legs can do with flat feet


@dataclass(frozen=True)
class WalkerConfig:
    """Gains of the balance controller. Pairs are (forward, left). Found by random search on seeds 100-107 of arm motions,
    pushes and sensor noise at physics steps of 2 and 5 ms."""

    com_kp: tuple[float, float] = (0.7, 0.7)  # m of pressure point per m of offset, beyond the 1.0 that gravity takes
    com_kd: tuple[float, float] = (0.35, 0.35)  # m of pressure point per m/s
    tilt_kp: float = 0.0  # N per unit of pelvis tilt, pushed sideways at the feet to turn the body upright
    tilt_kd: float = 0.0  # N per rad/s
    yaw_kp: float = 0.0  # N m/rad, holds the heading that the robot had at reset
    yaw_kd: float = 0.0  # N m s/rad
    yaw_ki: float = 0.0
    com_low: tuple[float, float] = (-0.045, -0.06)  # m from the middle between the soles: how far the arms may carry the
    com_high: tuple[float, float] = (0.055, 0.06)  # centre of mass before the pelvis moves to make up for it
    cop_low: tuple[float, float] = (-0.075, -0.10)  # m, where the floor may push; the soles end at +-0.085, +-0.146
    cop_high: tuple[float, float] = (0.075, 0.10)
    smoothing: float = 0.0  # share of the last velocity kept in the new one, against encoder noise


class Walker:
    max_velocity = np.zeros(3)

    def __init__(self, config: WalkerConfig | None = None) -> None:
        self.config = config or WalkerConfig()
        c=self.config
        self._kp=np.array(c.com_kp); self._kd=np.array(c.com_kd)
        self._limits=[np.array(x) for x in (c.com_low,c.com_high,c.cop_low,c.cop_high)]
        st = stance(joints.HOME)
        self._home_pelvis = -st.sole_pos.mean(axis=0)[:2]
        self.reset()

    def reset(self) -> None:
        self._vel = np.zeros(2)
        self._yaw = None
        self._twist=0.

    def get_state(self) -> dict[str, Any]:
        return {"vel": self._vel.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._vel = np.array(state["vel"])

    def step(self, state: RobotState, command, owned_mask, external_targets, residual=None):
        if owned_mask.all():
            return np.array(external_targets, dtype=np.float64)
        c = self.config
        st = stance(state.joint_pos)
        up = -state.gravity_b
        frame = _stance_frame(st.sole_matrix, up)
        middle = st.sole_pos.mean(axis=0)
        sole = (st.sole_pos - middle) @ frame.T
        com = frame @ (st.com - middle)
        pelvis = frame @ -middle
        turn = frame @ state.gyro  # rad/s
        sole_vel = (st.sole_jacobian[:, :3] @ state.joint_vel[:12].reshape(2, 6, 1)).sum(axis=(0, 2)) * .5
        vel = frame @ (st.com_jacobian @ state.joint_vel - sole_vel)
        vel = vel[:2] + np.array([turn[1] * com[2] - turn[2] * com[1], turn[2] * com[0] - turn[0] * com[2]])
        self._vel = vel = c.smoothing * self._vel + (1 - c.smoothing) * vel
        lo, hi, clo, chi = self._limits
        ref = np.clip(com[:2] - pelvis[:2] + self._home_pelvis, lo, hi)
        cop = com[:2] + self._kp * (com[:2] - ref) + self._kd * vel
        cop = np.clip(cop, clo, chi)
        # attitude
        q=state.quat_wxyz
        yaw=np.arctan2(2*(q[1]*q[2]+q[0]*q[3]),1-2*(q[2]**2+q[3]**2))
        if self._yaw is None: self._yaw=yaw
        err=(yaw-self._yaw+np.pi)%(2*np.pi)-np.pi
        self._twist=np.clip(self._twist+c.yaw_ki*err*.02,-20,20)
        mz=np.clip(-c.yaw_kp*err-c.yaw_kd*turn[2]-self._twist,-20,20)
        fh = _WEIGHT / com[2] * (com[:2] - cop) - c.tilt_kp * frame[:2,2] - c.tilt_kd * np.array([turn[1], -turn[0]])
        share = min(max(0.5 + (cop[1] - sole[1, 1]) / (sole[0, 1] - sole[1, 1]) - 0.5, 0.0), 1.0)
        F = np.array([fh[0], fh[1], _WEIGHT])
        # push at (cop_x, 0, 0) of each sole: moment about sole centre = r x F
        Mo = np.array([0.0, -cop[0] * F[2], cop[0] * F[1]+mz])
        Mo[0]=0
        wrench = np.concatenate([frame.T @ F, frame.T @ Mo])
        tau = np.empty(15)
        tau = (_WEIGHT * up) @ st.com_jacobian[:, :15]
        tau[:6] -= share * (wrench @ st.sole_jacobian[0])
        tau[6:12] -= (1 - share) * (wrench @ st.sole_jacobian[1])
        own = joints.HOME.copy()
        own[:15] += tau / joints.KP[:15]
        if residual is not None:
            own += residual
        return np.where(owned_mask, external_targets, own)

def _stance_frame(sole_matrix: np.ndarray, up: np.ndarray) -> np.ndarray:
    forward = sole_matrix[0, :, 0] + sole_matrix[1, :, 0]
    forward = forward - up * (forward @ up)
    forward /= np.sqrt(forward @ forward)
    (a, b, c), (d, e, f) = up.tolist(), forward.tolist()
    return np.array([(d, e, f), (b * f - c * e, c * d - a * f, a * e - b * d), (a, b, c)])

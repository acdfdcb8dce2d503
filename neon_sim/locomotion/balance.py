"""The standing balance controller: it keeps the robot up and its pelvis still while somebody else moves the arms.

Each control step it decides where under the feet the floor should push (the centre of pressure), asks statics which leg
torques make the floor push there, and folds those torques into position targets: a servo of gain kp turns an offset of
tau / kp into tau. It reads encoders and the IMU only: the centre of mass comes from kinematics, its speed from the
standing feet. It does not step, so it cannot follow a velocity.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import GRAVITY, TOTAL_MASS, Stance, stance, stance_of
from neon_sim.locomotion.alike import Vector, clip, cross, dot, plus, scaled, turned
from neon_sim.locomotion.posture import HEIGHT_RANGE, crouch, crouched
from neon_sim.locomotion.residual import own_part
from neon_sim.robot import RobotState

CONTROL_DT: Final = 0.02  # s; stepped at 50 Hz in simulation as on the robot

_OWN: Final = slice(0, 15)  # legs and waist, the first in hardware order; the arms are never the walker's
_OWN_KP, _OWN_EFFORT = joints.KP[_OWN], joints.EFFORT[_OWN]
_LEFT_LEG, _RIGHT_LEG = slice(0, 6), slice(6, 12)
_WEIGHT: Final = TOTAL_MASS * GRAVITY  # N
_DAMPING: Final = 0.02  # of the legs' inverse kinematics: straight knees leave no way up
_LEVELLING_STEPS: Final = 4
_LOWERED: Final = 0.01  # m that the pelvis gives when it becomes level, so that both legs reach the floor


@dataclass(frozen=True)
class BalanceConfig:
    """Gains of the balance controller; pairs are (forward, left).

    Found by random search over arm motions, reaches, pushes, sensor noise and changed masses, gains and friction on
    seeds 100-105 with physics of 2 and 5 ms, then rounded.
    """

    # m that the push point moves per m of offset, on top of the 1 that balances gravity; then per m/s.
    com_kp: tuple[float, float] = (2.6, 2.5)
    com_kd: tuple[float, float] = (0.48, 0.27)
    # m from between the soles: as far as the arms may carry the centre of mass before the pelvis moves the other way.
    com_low: tuple[float, float] = (-0.05, -0.05)
    com_high: tuple[float, float] = (0.055, 0.05)
    push_limit: tuple[float, float] = (0.083, 0.10)  # m; a sole reaches 0.085 each way, the feet are 0.237 apart
    tilt_kp: float = 60.0  # N of sideways push at the feet per unit of lean: turns the body upright
    tilt_kd: float = 6.5  # N per rad/s; 20 is unstable at 50 Hz
    yaw_kp: float = 40.0  # N m/rad towards the heading of the first step
    yaw_ki: float = 100.0  # N m/(rad s)
    yaw_kd: float = 3.0  # N m s/rad
    yaw_limit: float = 20.0  # N m; friction under the feet gives about 30
    yaw_reach: float = 0.25  # rad; beyond it the feet have slipped, and the heading to keep is the new one
    smoothing: float = 0.1  # share of the last velocity kept in the new one
    height_speed: float = 0.1  # m/s, for following the height command
    ease: float = 0.95  # per step: how the posture of a walker that stopped gives way to a level one


class _Body(NamedTuple):
    """Where things are in the stance frame: x along the feet, y left, z up, origin midway between the soles."""

    axes: tuple[Vector, Vector, Vector]  # of the stance frame, in the pelvis frame
    com: Vector  # m
    com_vel: Vector  # m/s
    turn: Vector  # rad/s
    pelvis: Vector  # m
    sole_y: tuple[float, float]  # m, left and right


class Balance:
    """Holds the feet where they are and the rest of the body above them.

    Attributes:
        max_velocity: (3,) m/s, m/s, rad/s that a command may ask for and get: zeros, it only stands.
        velocity: (2,) m/s, forward and left, of the centre of mass over the feet.
        height: m, the pelvis height that it holds or approaches.
    """

    max_velocity = np.zeros(3)

    def __init__(self, config: BalanceConfig | None = None) -> None:
        self.config = config or BalanceConfig()
        self._home_pelvis = (-stance(joints.HOME).sole_pos.mean(axis=0)[:2]).tolist()
        self.reset()

    def reset(self) -> None:
        """Forget the past; the heading of the next step becomes the one to keep."""
        self.velocity = np.zeros(2)
        self._heading = np.nan  # rad; compares false, so that the first step sets it
        self._twist = 0.0  # N m, what the heading error has added up to
        self.height = joints.HOME_HEIGHT
        self._astride = np.zeros(15)  # rad, how the level posture differs from the crouch
        self._eased = 0.0  # share of what follows that is still there
        self._bent = np.zeros(15)  # rad, how the posture at the beginning differed from the level one
        self._shifted = np.zeros(2)  # m, how far the pelvis was from its place over the feet then
        self._leaned = np.zeros(2)  # the lean then

    def take_over(self, joint_pos: np.ndarray, gravity_b: np.ndarray, height: float) -> None:
        """Begin with the feet where they are, and the body as it is; it becomes level within a second or two.

        Args:
            joint_pos: (29,) rad.
            gravity_b: (3,) direction of gravity in the pelvis frame.
            height: m, the commanded one that this posture answers to.
        """
        self.reset()
        body, up_b = stance(joint_pos), -gravity_b
        frame: np.ndarray = np.array(_stance_axes(body.sole_matrix, up_b.tolist()))
        pelvis = frame @ (-0.5 * (body.sole_pos[0] + body.sole_pos[1]))
        level = _levelled(joint_pos, frame, np.array([*self._home_pelvis, pelvis[2] - _LOWERED]))
        self.height, self._eased = height, 1.0
        self._astride[:12] = level - crouch(height)[:12]
        self._bent[:12] = joint_pos[:12] - level
        self._shifted, self._leaned = pelvis[:2] - self._home_pelvis, frame[:2, 2].copy()

    def get_state(self) -> dict[str, Any]:
        """Everything that the next step depends on, in plain copies."""
        return {
            "com_vel": self.velocity.copy(),
            "heading": self._heading,
            "twist": self._twist,
            "height": self.height,
            "astride": self._astride.copy(),
            "eased": self._eased,
            "bent": self._bent.copy(),
            "shifted": self._shifted.copy(),
            "leaned": self._leaned.copy(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned; the steps that follow are equal to the bit."""
        self.velocity = np.array(state["com_vel"])
        self._heading, self._twist, self.height = state["heading"], state["twist"], state["height"]
        self._astride, self._bent = np.array(state["astride"]), np.array(state["bent"])
        self._shifted, self._leaned = np.array(state["shifted"]), np.array(state["leaned"])
        self._eased = state["eased"]

    def step(
        self,
        state: RobotState,
        command: np.ndarray,
        owned_mask: np.ndarray,
        external_targets: np.ndarray,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        """Joint targets (29,) rad for the next control period.

        Args:
            state: what the robot senses; joint_pos, joint_vel, quat_wxyz, gyro and gravity_b are read.
            command: (4,) vx, vy m/s, yaw rate rad/s, pelvis height m. Only the height is followed, in `HEIGHT_RANGE`.
            owned_mask: (29,) bool; True = the caller commands the joint, its external target passes through.
            external_targets: (29,) rad.
            residual: (29,) rad, added to the targets of the joints that the walker owns, `residual.LIMIT` at most.
        """
        targets, free = np.array(external_targets, dtype=np.float64), ~owned_mask[_OWN]
        if np.count_nonzero(free):
            own = self.own_targets(state, float(command[3]))
            np.copyto(targets[_OWN], own if residual is None else own + own_part(residual), where=free)
        return targets

    def own_targets(self, state: RobotState, height: float) -> np.ndarray:
        """Targets (15,) rad of legs and waist for the next control period, with the pelvis on its way to `height` m."""
        own = self._posture(height) + self._torque(state) / _OWN_KP
        self._eased *= self.config.ease
        return own

    def _posture(self, height: float) -> np.ndarray:
        """Legs and waist (15,) rad of a symmetric stance that approaches `height`."""
        wanted = min(max(height, HEIGHT_RANGE[0]), HEIGHT_RANGE[1])
        reach = self.config.height_speed * CONTROL_DT
        self.height += min(max(wanted - self.height, -reach), reach)
        return np.array(crouched(self.height)) + self._astride + self._eased * self._bent

    def _torque(self, state: RobotState) -> np.ndarray:
        """Torques (15,) N m that carry the body and make the floor push where it should."""
        body, down_b = stance_of(state.limb_poses), state.gravity_b.tolist()
        balance = _balance(body, state, scaled(down_b, -1.0))
        forward, left, up = balance.axes
        push_x, push_y = self._push_point(balance)
        force_x, force_y = self._force(balance, push_x, push_y)
        twist = self._heading_torque(state.quat_wxyz, balance.turn[2])
        force = plus(plus(scaled(forward, force_x), scaled(left, force_y)), scaled(up, _WEIGHT))
        moment = plus(scaled(left, -push_x * _WEIGHT), scaled(up, push_x * force_y + twist))
        left_y, right_y = balance.sole_y
        left_share = clip((push_y - right_y) / max(left_y - right_y, 0.05), 0.0, 1.0)
        wrench = np.array([*force, *moment])
        torque = np.array(scaled(down_b, -_WEIGHT)) @ body.com_jacobian[:, _OWN]
        torque[_LEFT_LEG] -= left_share * (wrench @ body.sole_jacobian[0])
        torque[_RIGHT_LEG] -= (1.0 - left_share) * (wrench @ body.sole_jacobian[1])
        return torque.clip(-_OWN_EFFORT, _OWN_EFFORT)

    def _force(self, balance: _Body, push_x: float, push_y: float) -> tuple[float, float]:
        """N forward and left at the floor: what carries the centre of mass there, and turns the body upright."""
        (x, y, height), (turn_x, turn_y, _) = balance.com, balance.turn
        lean_x, lean_y = self._leaned.tolist()
        lean_x, lean_y = balance.axes[0][2] - self._eased * lean_x, balance.axes[1][2] - self._eased * lean_y
        stiffness, kp, kd = _WEIGHT / max(height, 0.3), self.config.tilt_kp, self.config.tilt_kd
        return (
            stiffness * (x - push_x) + kp * lean_x + kd * turn_y,
            stiffness * (y - push_y) + kp * lean_y - kd * turn_x,
        )

    def _push_point(self, balance: _Body) -> list[float]:
        """Where the floor should push, m forward and left: under the centre of mass, and beyond it to bring it back.

        The centre of mass belongs where it is when the pelvis is at home above the feet, so that the pelvis stays while
        the arms carry weight about; only when that leaves the safe area does the pelvis give way.
        """
        config, push = self.config, []
        velocity, shifted = self.velocity.tolist(), self._shifted.tolist()
        for i in (0, 1):
            com = balance.com[i]
            velocity[i] = config.smoothing * velocity[i] + (1.0 - config.smoothing) * balance.com_vel[i]
            place = self._home_pelvis[i] + self._eased * shifted[i]
            wanted = clip(com - balance.pelvis[i] + place, config.com_low[i], config.com_high[i])
            point = com + config.com_kp[i] * (com - wanted) + config.com_kd[i] * velocity[i]
            push.append(clip(point, -config.push_limit[i], config.push_limit[i]))
        self.velocity = np.array(velocity)
        return push

    def _heading_torque(self, quat_wxyz: np.ndarray, yaw_rate: float) -> float:
        """Moment N m about the vertical that the floor should put on the feet to keep the heading."""
        w, x, y, z = quat_wxyz.tolist()
        heading = math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
        error = (heading - self._heading + math.pi) % (2.0 * math.pi) - math.pi
        if not abs(error) < self.config.yaw_reach:
            self._heading, self._twist, error = heading, 0.0, 0.0
        limit = self.config.yaw_limit
        self._twist = min(max(self._twist - self.config.yaw_ki * CONTROL_DT * error, -limit), limit)
        return min(max(self._twist - self.config.yaw_kp * error - self.config.yaw_kd * yaw_rate, -limit), limit)


def _balance(body: Stance, state: RobotState, up_b: Vector) -> _Body:
    """Turn the pelvis frame's picture into the stance frame's, with speeds over the floor."""
    axes = _stance_axes(body.sole_matrix, up_b)
    left, right = body.sole_pos.tolist()
    below = scaled(plus(left, right), -0.5)  # from between the soles to the pelvis
    left_vel, right_vel = (body.sole_jacobian[:, :3] @ state.joint_vel[:12].reshape(2, 6, 1)).reshape(2, 3).tolist()
    moving = (body.com_jacobian @ state.joint_vel).tolist()
    com, turn = turned(axes, plus(body.com.tolist(), below)), turned(axes, state.gyro.tolist())
    com_vel = plus(turned(axes, plus(moving, scaled(plus(left_vel, right_vel), -0.5))), cross(turn, com))
    sole_y = (dot(axes[1], plus(left, below)), dot(axes[1], plus(right, below)))
    return _Body(axes, com, com_vel, turn, turned(axes, below), sole_y)


def _stance_axes(sole_matrix: np.ndarray, up_b: Vector) -> tuple[Vector, Vector, Vector]:
    """Forward, left and up in the pelvis frame: forward is where the feet point, levelled."""
    left, right = sole_matrix[:, :, 0].tolist()
    forward = plus(left, right)
    forward = plus(forward, scaled(up_b, -dot(forward, up_b)))
    forward = scaled(forward, 1.0 / max(math.sqrt(dot(forward, forward)), 1e-6))
    return forward, cross(up_b, forward), up_b


def _levelled(joint_pos: np.ndarray, frame: np.ndarray, pelvis: np.ndarray) -> np.ndarray:
    """Legs (12,) rad with the soles where they stand and the pelvis level at `pelvis` (3,) m in the stance frame.

    Damped Newton steps from `joint_pos` (29,) rad, which is near.
    """
    joint_pos, body = joint_pos.copy(), stance(joint_pos)
    middle = 0.5 * (body.sole_pos[0] + body.sole_pos[1])
    sole_pos, sole_matrix = (body.sole_pos - middle) @ frame.T - pelvis, frame @ body.sole_matrix
    for _ in range(_LEVELLING_STEPS):
        turned = sole_matrix @ body.sole_matrix.transpose(0, 2, 1)
        error = np.empty((2, 6, 1))
        error[:, :3, 0] = sole_pos - body.sole_pos
        error[:, 3:, 0] = 0.5 * (turned[:, [2, 0, 1], [1, 2, 0]] - turned[:, [1, 2, 0], [2, 0, 1]])
        across = body.sole_jacobian.transpose(0, 2, 1)
        step = np.linalg.solve(across @ body.sole_jacobian + _DAMPING**2 * np.eye(6), across @ error)
        joint_pos[:12] += step.reshape(12).clip(-0.2, 0.2)
        body = stance(joint_pos)
    return joint_pos[:12]

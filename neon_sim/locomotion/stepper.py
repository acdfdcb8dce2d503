"""Stepper: clock, odometry, base gait and policy of B walking robots; training and the robot run this same code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import limb_poses
from neon_sim.locomotion import gait
from neon_sim.locomotion.alike import Number, Vector, clip, cos, dot, exp, numbers, rows, sin
from neon_sim.locomotion.odometry import Odometry, leg_odometry
from neon_sim.locomotion.posture import HEIGHT_RANGE, crouched

CONTROL_DT: Final = 0.02  # s; 50 Hz in simulation as on the robot
OWN: Final = slice(0, 15)  # legs and waist come first in hardware order
# Wrists weigh little and are left out of what the policy sees: legs, waist, shoulders and elbows.
SEEN_JOINTS: Final = np.concatenate([np.arange(15), np.arange(15, 19), np.arange(22, 26)])

# rad per unit of action: hip pitch, roll, yaw, knee, ankle pitch, roll; then waist yaw, roll, pitch.
_LEG_SCALE: Final = (0.4, 0.25, 0.25, 0.5, 0.4, 0.25)
_SCALE: Final = np.array([*_LEG_SCALE, *_LEG_SCALE, 0.35, 0.25, 0.35])
ACTION_LIMIT: Final = 3.0
ACTION_SIZE: Final = 16  # 15 joints and the pace of the clock

_HEIGHT_STEP: Final = 0.15 * CONTROL_DT  # m per step, for following the height command
_EMA: Final = CONTROL_DT / 0.4  # share of the new velocity in the slow average over 0.4 s
_CALM: Final = CONTROL_DT / 0.1
_NEW: Final = 0.6  # share of the new velocity in the fast filter
_AMPLITUDE_SHARE: Final = 0.2

# The clock runs when there is something to walk for, or to catch.
_STILL_COMMAND: Final = 0.05  # m/s and rad/s
_STILL_SPEED: Final = 0.22  # m/s
_STILL_LEAN: Final = 0.12  # sine of the tilt

# What the policy reads, in order: name, how it looks in a mirror (sign of each entry), and for paired entries the swap.
_POLAR, _AXIAL = (1.0, -1.0, 1.0), (-1.0, 1.0, -1.0)


def _layout() -> tuple[dict[str, slice], np.ndarray, np.ndarray]:
    """Slices of the observation, and the permutation and signs that mirror it."""
    seen_swap, seen_sign = _mirror_of(SEEN_JOINTS)
    leg_swap, leg_sign = seen_swap[:12], seen_sign[:12]
    own_sign = np.append(seen_sign[:15], 1.0)
    own_swap = np.append(seen_swap[:15], 15)
    feet_swap = np.array([3, 4, 5, 0, 1, 2])
    parts: tuple[tuple[str, np.ndarray, np.ndarray], ...] = (
        ("velocity", np.arange(2), np.array([1.0, -1.0])),
        ("velocity_calm", np.arange(2), np.array([1.0, -1.0])),
        ("velocity_slow", np.arange(3), np.array([1.0, -1.0, -1.0])),
        ("gyro", np.arange(3), np.array(_AXIAL)),
        ("gravity", np.arange(3), np.array(_POLAR)),
        ("command", np.arange(4), np.array([1.0, -1.0, -1.0, 1.0])),
        ("joint_pos", seen_swap, seen_sign),
        ("joint_vel", seen_swap, seen_sign),
        ("leg_vel_before", leg_swap, leg_sign),
        ("gyro_before", np.arange(3), np.array(_AXIAL)),
        ("gravity_before", np.arange(3), np.array(_POLAR)),
        ("action", own_swap, own_sign),
        ("clock", np.arange(3), np.array([-1.0, -1.0, 1.0])),
        ("base", leg_swap, leg_sign),
        ("foot_pos", feet_swap, np.array(_POLAR * 2)),
        ("foot_gap", np.array([1, 0]), np.ones(2)),
        ("foot_vel", feet_swap, np.array(_POLAR * 2)),
        ("com", np.arange(3), np.array(_POLAR)),
        ("com_vel", np.arange(3), np.array(_POLAR)),
        ("height", np.arange(1), np.ones(1)),
        ("owns_waist", np.arange(1), np.ones(1)),
    )
    slices, swap, sign, start = {}, [], [], 0
    for name, part_swap, part_sign in parts:
        slices[name] = slice(start, start + len(part_swap))
        swap.append(part_swap + start)
        sign.append(part_sign)
        start += len(part_swap)
    return slices, np.concatenate(swap), np.concatenate(sign)


def _mirror_of(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How `joints.mirror` acts on a choice of joints that is closed under it."""
    swap = joints.mirror(np.arange(1.0, 30.0))
    place = {int(joint): index for index, joint in enumerate(chosen)}
    return np.array([place[int(abs(swap[j])) - 1] for j in chosen]), np.sign(swap[chosen])


_HOME_ARMS: Final = joints.HOME[SEEN_JOINTS[15:]].tolist()
LAYOUT, _MIRROR_SWAP, _MIRROR_SIGN = _layout()
OBSERVATION_SIZE: Final = len(_MIRROR_SWAP)
_ACTION_SWAP = _MIRROR_SWAP[LAYOUT["action"]] - LAYOUT["action"].start
_ACTION_SIGN = _MIRROR_SIGN[LAYOUT["action"]]


def mirror_observation(observation: np.ndarray) -> np.ndarray:
    """What the robot's mirror image would observe: (..., OBSERVATION_SIZE)."""
    return observation.take(_MIRROR_SWAP, axis=-1) * _MIRROR_SIGN


def mirror_action(action: np.ndarray) -> np.ndarray:
    """What the mirror image would do: (..., ACTION_SIZE)."""
    return action.take(_ACTION_SWAP, axis=-1) * _ACTION_SIGN


@dataclass(frozen=True)
class _Memory:
    """What a robot carries from step to step, one row each: views into the stepper's arrays, but for `fresh`."""

    velocity: np.ndarray  # (B, 3) m/s
    calm: np.ndarray  # (B, 2) m/s, over 0.1 s: noise enough is gone to judge by
    slow: np.ndarray  # (B, 3) m/s, m/s, rad/s
    com: np.ndarray  # (B, 3) m
    com_vel: np.ndarray  # (B, 3) m/s
    phase: np.ndarray  # (B,)
    amplitude: np.ndarray  # (B,)
    height: np.ndarray  # (B,) m, the height command being approached
    leg_vel: np.ndarray  # (B, 12) rad/s of the step before
    gyro: np.ndarray  # (B, 3)
    gravity: np.ndarray  # (B, 3)
    action: np.ndarray  # (B, 16) within its limits, mirrored back where the policy saw a mirror image
    fresh: np.ndarray  # (B,) bool: no step yet, so nothing before


def _remembering(smooth: np.ndarray, past: np.ndarray, fresh: np.ndarray) -> _Memory:
    """Names for the parts of `smooth` (17, B), what is filtered or counted on, and `past` (B, 34), what was."""
    return _Memory(
        velocity=smooth[:3].T,
        calm=smooth[3:5].T,
        slow=smooth[5:8].T,
        com=smooth[8:11].T,
        com_vel=smooth[11:14].T,
        phase=smooth[14],
        amplitude=smooth[15],
        height=smooth[16],
        leg_vel=past[:, :12],
        gyro=past[:, 12:15],
        gravity=past[:, 15:18],
        action=past[:, 18:],
        fresh=fresh,
    )


class Stepper:
    """B robots that step.

    In the second half of the cycle the policy is shown the mirror image and its action is mirrored back, so that what
    it learns for one leg holds for the other.

    Args:
        count: B.
        gains: (18,) or (B, 18), `gait.GAINS`.
    """

    def __init__(self, count: int, gains: np.ndarray) -> None:
        gains = np.asarray(gains, dtype=np.float64)
        self.count, self._gains = count, gains.tolist() if gains.ndim == 1 else numbers(gains.T)
        self._smooth, self._past = np.zeros((17, count)), np.zeros((count, 18 + ACTION_SIZE))
        self.memory = _remembering(self._smooth, self._past, np.ones(count, dtype=bool))
        self.memory.phase[:], self.memory.height[:] = gait.REST_PHASE, HEIGHT_RANGE[1]
        self.odometry: Odometry
        self._base = np.zeros((count, 15))
        self._moving: Number = np.zeros(count, dtype=bool)
        self.mirrored = np.zeros(count, dtype=bool)

    def reset(self, rows: np.ndarray | slice = slice(None)) -> None:
        """Forget the past of some robots; they stand with feet side by side."""
        memory = self.memory
        for name in ("amplitude", "velocity", "calm", "slow", "action", "com_vel"):
            getattr(memory, name)[rows] = 0.0
        memory.phase[rows], memory.height[rows], memory.fresh[rows] = gait.REST_PHASE, HEIGHT_RANGE[1], True

    def get_state(self) -> dict[str, Any]:
        """Everything that the next `observe` depends on, in plain copies."""
        return {name: value.copy() for name, value in vars(self.memory).items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned."""
        for name, value in state.items():
            getattr(self.memory, name)[...] = value

    def observe(
        self,
        joint_pos: np.ndarray,
        joint_vel: np.ndarray,
        gyro: np.ndarray,
        gravity_b: np.ndarray,
        command: np.ndarray,
        owns_waist: np.ndarray | float = 1.0,
        poses: np.ndarray | None = None,
    ) -> np.ndarray:
        """What the policy reads (B, OBSERVATION_SIZE); call `targets` before the next one.

        Args:
            joint_pos, joint_vel: (B, 29) rad and rad/s from the encoders.
            gyro, gravity_b: (B, 3) from the IMU.
            command: (B, 4) vx, vy m/s, yaw rate rad/s, pelvis height m.
            owns_waist: (B,) 1.0 where the waist is the walker's, else 0.0.
            poses: `limb_poses` of joint_pos, if somebody has them already.
        """
        self.odometry = now = leg_odometry(
            limb_poses(joint_pos) if poses is None else poses, joint_vel, gyro, gravity_b
        )
        if np.count_nonzero(self.memory.fresh):
            self._begin(now, joint_vel, gyro, gravity_b)
        turn, down_b = numbers(gyro.T), numbers(gravity_b.T)
        filtered = self._filtered(now, numbers(command.T), -dot(turn, down_b))
        self._moving = _moves(filtered.command, filtered.calm, down_b)
        offsets = gait.leg_offsets(
            self._gains, filtered.phase, filtered.amplitude, filtered.command, filtered.velocity, turn, down_b
        )
        posture = rows([*crouched(filtered.command[3]), *_HOME_ARMS], self.count)
        seen = joint_pos.take(SEEN_JOINTS, axis=1) - posture
        observation = self._put_together(now, filtered, turn, down_b, seen, joint_vel, offsets, owns_waist)
        posture[:, :12] += rows(offsets, self.count)
        self._base = posture[:, OWN]
        past = self._past
        past[:, :12], past[:, 12:15], past[:, 15:18] = joint_vel[:, :12], gyro, gravity_b
        self.mirrored = self.memory.phase >= 0.5
        return _where_mirrored(self.mirrored, observation, mirror_observation)

    def _put_together(
        self,
        now: Odometry,
        filtered: "_Filtered",
        turn: list[Number],
        down_b: list[Number],
        seen: np.ndarray,
        joint_vel: np.ndarray,
        offsets: list[Number],
        owns_waist: np.ndarray | float,
    ) -> np.ndarray:
        """The observation (B, OBSERVATION_SIZE) in the order of `LAYOUT`, not mirrored."""
        count, angle, wide = self.count, 2.0 * np.pi * filtered.phase, filtered.amplitude
        left, right = now.foot_pos
        left_vel, right_vel = now.foot_vel
        waist = owns_waist if isinstance(owns_waist, float) else numbers(owns_waist)
        first = [*filtered.velocity[:2], *filtered.calm, *filtered.slow, *turn, *down_b, *filtered.command]
        last = [wide * cos(angle), wide * sin(angle), wide, *offsets, *left, *right, *now.gap, *left_vel, *right_vel]
        last += [*now.com, *filtered.com_vel, now.height, waist]
        return np.concatenate(
            [
                rows(first, count),
                seen,
                joint_vel.take(SEEN_JOINTS, axis=1),
                self._past,
                rows(last, count),
            ],
            axis=1,
        )

    def targets(self, action: np.ndarray) -> np.ndarray:
        """Joint targets (B, 15) rad for an action (B, 16) as the policy gave it; moves the clock on by one step."""
        memory = self.memory
        action = _where_mirrored(self.mirrored, action, mirror_action).clip(-ACTION_LIMIT, ACTION_LIMIT)
        memory.action[:] = action
        phase, amplitude = numbers(memory.phase), numbers(memory.amplitude)
        pace = exp(clip(0.3 * numbers(action[:, 15]), -0.5, 0.75)) * (CONTROL_DT / gait.PERIOD_S)
        runs = self._moving | (phase % 0.5 >= 2.0 * gait.REST_PHASE)
        memory.phase[:] = (phase + pace * runs) % 1.0
        memory.amplitude[:] = amplitude + _AMPLITUDE_SHARE * (runs - amplitude)
        return self._base + action[:, :15] * _SCALE

    def _filtered(self, now: Odometry, command: list[Number], yaw_rate: Number) -> "_Filtered":
        """What is remembered moved on to the present, and kept."""
        vx, vy, vz, calm_x, calm_y, slow_x, slow_y, slow_yaw, *rest = numbers(self._smooth)
        x, y, z, speed_x, speed_y, speed_z, phase, amplitude, height = rest
        (now_x, now_y, now_z), (com_x, com_y, com_z) = now.velocity, now.com
        velocity = (_mixed(vx, now_x, _NEW), _mixed(vy, now_y, _NEW), _mixed(vz, now_z, _NEW))
        calm = (_mixed(calm_x, now_x, _CALM), _mixed(calm_y, now_y, _CALM))
        slow = (_mixed(slow_x, velocity[0], _EMA), _mixed(slow_y, velocity[1], _EMA), _mixed(slow_yaw, yaw_rate, _EMA))
        com_vel = (
            _mixed(speed_x, (com_x - x) * (1.0 / CONTROL_DT), _NEW),
            _mixed(speed_y, (com_y - y) * (1.0 / CONTROL_DT), _NEW),
            _mixed(speed_z, (com_z - z) * (1.0 / CONTROL_DT), _NEW),
        )
        height = height + clip(clip(command[3], *HEIGHT_RANGE) - height, -_HEIGHT_STEP, _HEIGHT_STEP)
        kept = [*velocity, *calm, *slow, com_x, com_y, com_z, *com_vel, phase, amplitude, height]
        self._smooth[:] = rows(kept, self.count).T
        return _Filtered(velocity, calm, slow, com_vel, phase, amplitude, (*command[:3], height))

    def _begin(self, now: Odometry, joint_vel: np.ndarray, gyro: np.ndarray, gravity_b: np.ndarray) -> None:
        """Robots without a past: it was like the present."""
        memory, new = self.memory, self.memory.fresh
        velocity, com = rows(now.velocity, self.count), rows(now.com, self.count)
        memory.velocity[new] = memory.slow[new] = velocity[new]
        memory.slow[new, 2] = -(gyro[new] * gravity_b[new]).sum(axis=1)
        memory.calm[new] = velocity[new, :2]
        memory.com[new], memory.com_vel[new] = com[new], 0.0
        memory.leg_vel[new] = joint_vel[new, :12]
        memory.gyro[new], memory.gravity[new] = gyro[new], gravity_b[new]
        memory.fresh[:] = False


class _Filtered(NamedTuple):
    """Speeds without most of their noise, the clock, and the command with a height that is approached slowly."""

    velocity: Vector  # m/s
    calm: tuple[Number, Number]  # m/s
    slow: Vector  # m/s, m/s, rad/s
    com_vel: Vector  # m/s
    phase: Number
    amplitude: Number
    command: tuple[Number, Number, Number, Number]  # m/s, m/s, rad/s, m


def _mixed(old: Number, new: Number, share: float) -> Number:
    """A low-pass filter's next value; `share` is how much of the new it takes."""
    return old + share * (new - old)


def _moves(command: Sequence[Number], calm: Sequence[Number], gravity_b: Sequence[Number]) -> Number:
    """Whether the clock has a reason to run."""
    return (
        (abs(command[0]) > _STILL_COMMAND)
        | (abs(command[1]) > _STILL_COMMAND)
        | (abs(command[2]) > _STILL_COMMAND)
        | (calm[0] * calm[0] + calm[1] * calm[1] > _STILL_SPEED**2)
        | (gravity_b[0] * gravity_b[0] + gravity_b[1] * gravity_b[1] > _STILL_LEAN**2)
    )


def _where_mirrored(mirrored: np.ndarray, rows: np.ndarray, mirror: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The rows (B, N), those that are to be mirrored by `mirror`."""
    count = np.count_nonzero(mirrored)
    if count == 0:
        return rows
    return mirror(rows) if count == len(rows) else np.where(mirrored[:, None], mirror(rows), rows)

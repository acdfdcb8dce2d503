"""Stepper: clock, odometry, base gait and policy of B walking robots; training and the robot run this same code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import limb_poses
from neon_sim.locomotion import gait
from neon_sim.locomotion.odometry import Odometry, leg_odometry
from neon_sim.locomotion.posture import HEIGHT_RANGE, crouch

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
_KEPT: Final = 0.4  # share of the old velocity in the fast filter
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


_HOME_ARMS: Final = joints.HOME[SEEN_JOINTS[15:]]
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


@dataclass
class _Memory:
    """What a robot carries from step to step, one row each."""

    phase: np.ndarray  # (B,)
    amplitude: np.ndarray  # (B,)
    height: np.ndarray  # (B,) m, the height command being approached
    velocity: np.ndarray  # (B, 3) m/s
    calm: np.ndarray  # (B, 2) m/s, over 0.1 s: noise enough is gone to judge by
    slow: np.ndarray  # (B, 3) m/s, m/s, rad/s
    action: np.ndarray  # (B, 16) within its limits, mirrored back where the policy saw a mirror image
    leg_vel: np.ndarray  # (B, 12) rad/s of the step before
    gyro: np.ndarray  # (B, 3)
    gravity: np.ndarray  # (B, 3)
    com: np.ndarray  # (B, 3) m
    com_vel: np.ndarray  # (B, 3) m/s
    fresh: np.ndarray  # (B,) bool: no step yet, so nothing before


class Stepper:
    """B robots that step.

    In the second half of the cycle the policy is shown the mirror image and its action is mirrored back, so that what
    it learns for one leg holds for the other.

    Args:
        count: B.
        gains: (18,) or (B, 18), `gait.GAINS`.
    """

    def __init__(self, count: int, gains: np.ndarray) -> None:
        self.count, self.gains = count, np.asarray(gains, dtype=np.float64)
        self.memory = _Memory(
            phase=np.full(count, gait.REST_PHASE),
            amplitude=np.zeros(count),
            height=np.full(count, HEIGHT_RANGE[1]),
            velocity=np.zeros((count, 3)),
            calm=np.zeros((count, 2)),
            slow=np.zeros((count, 3)),
            action=np.zeros((count, ACTION_SIZE)),
            leg_vel=np.zeros((count, 12)),
            gyro=np.zeros((count, 3)),
            gravity=np.zeros((count, 3)),
            com=np.zeros((count, 3)),
            com_vel=np.zeros((count, 3)),
            fresh=np.ones(count, dtype=bool),
        )
        self.odometry: Odometry
        self._base = np.zeros((count, 15))
        self._moving = np.zeros(count, dtype=bool)
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
        self.memory = _Memory(**{name: np.array(value) for name, value in state.items()})

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
        memory = self.memory
        self.odometry = leg_odometry(limb_poses(joint_pos) if poses is None else poses, joint_vel, gyro, gravity_b)
        command = self._followed(command)
        self._remember(self.odometry, joint_vel, gyro, gravity_b)
        self._decide(command, gravity_b)
        posture = crouch(command[:, 3])
        self._base = gait.base_targets(
            self.gains, memory.phase, memory.amplitude, command, posture, memory.velocity[:, :2], gyro, gravity_b
        )
        observation = self._put_together(joint_pos, joint_vel, gyro, gravity_b, command, posture, owns_waist)
        memory.leg_vel, memory.gyro, memory.gravity = joint_vel[:, :12].copy(), gyro.copy(), gravity_b.copy()
        self.mirrored = memory.phase >= 0.5
        return _where_mirrored(self.mirrored, observation, mirror_observation)

    def _put_together(
        self,
        joint_pos: np.ndarray,
        joint_vel: np.ndarray,
        gyro: np.ndarray,
        gravity_b: np.ndarray,
        command: np.ndarray,
        posture: np.ndarray,
        owns_waist: np.ndarray | float,
    ) -> np.ndarray:
        """The observation (B, OBSERVATION_SIZE) in the order of `LAYOUT`, not mirrored."""
        memory, odometry, count = self.memory, self.odometry, self.count
        offset = joint_pos.take(SEEN_JOINTS, axis=1)
        offset[:, OWN] -= posture
        offset[:, 15:] -= _HOME_ARMS
        angle = 2.0 * np.pi * memory.phase
        clock, waist = np.ones((count, 3)), np.empty((count, 1))
        clock[:, 0], clock[:, 1] = np.cos(angle), np.sin(angle)
        clock *= memory.amplitude[:, None]
        waist[:, 0] = owns_waist
        return np.concatenate(
            [
                memory.velocity[:, :2],
                memory.calm,
                memory.slow,
                gyro,
                gravity_b,
                command,
                offset,
                joint_vel.take(SEEN_JOINTS, axis=1),
                memory.leg_vel,
                memory.gyro,
                memory.gravity,
                memory.action,
                clock,
                self._base[:, :12] - posture[:, :12],
                odometry.foot_pos.reshape(count, 6),
                odometry.gap,
                odometry.foot_vel.reshape(count, 6),
                odometry.com,
                memory.com_vel,
                odometry.height[:, None],
                waist,
            ],
            axis=1,
        )

    def targets(self, action: np.ndarray) -> np.ndarray:
        """Joint targets (B, 15) rad for an action (B, 16) as the policy gave it; moves the clock on by one step."""
        memory = self.memory
        action = _where_mirrored(self.mirrored, action, mirror_action).clip(-ACTION_LIMIT, ACTION_LIMIT)
        memory.action = action
        pace = np.exp((0.3 * action[:, 15]).clip(-0.5, 0.75)) * (CONTROL_DT / gait.PERIOD_S)
        runs = self._moving | (memory.phase % 0.5 >= 2.0 * gait.REST_PHASE)
        memory.phase = (memory.phase + pace * runs) % 1.0
        memory.amplitude = memory.amplitude + _AMPLITUDE_SHARE * (runs - memory.amplitude)
        return self._base + action[:, :15] * _SCALE

    def _followed(self, command: np.ndarray) -> np.ndarray:
        """The command with its height limited and approached slowly."""
        memory = self.memory
        command = np.array(command, dtype=np.float64)
        wanted = command[:, 3].clip(*HEIGHT_RANGE)
        memory.height = memory.height + (wanted - memory.height).clip(-_HEIGHT_STEP, _HEIGHT_STEP)
        command[:, 3] = memory.height
        return command

    def _remember(self, odometry: Odometry, joint_vel: np.ndarray, gyro: np.ndarray, gravity_b: np.ndarray) -> None:
        """Filter velocities; where there is no past, the present stands for it."""
        memory = self.memory
        if np.count_nonzero(memory.fresh):
            self._begin(odometry, joint_vel, gyro, gravity_b)
        now = odometry.velocity
        memory.velocity = _KEPT * memory.velocity + (1.0 - _KEPT) * now
        com_vel = (odometry.com - memory.com) * ((1.0 - _KEPT) / CONTROL_DT)
        memory.com_vel = _KEPT * memory.com_vel + com_vel
        memory.com = odometry.com.copy()
        memory.calm = memory.calm + _CALM * (now[:, :2] - memory.calm)
        turning = memory.velocity.copy()
        turning[:, 2] = -np.vecdot(gyro, gravity_b)
        memory.slow = memory.slow + _EMA * (turning - memory.slow)

    def _begin(self, odometry: Odometry, joint_vel: np.ndarray, gyro: np.ndarray, gravity_b: np.ndarray) -> None:
        """Robots without a past: it was like the present."""
        memory, rows = self.memory, self.memory.fresh
        memory.velocity[rows] = memory.slow[rows] = odometry.velocity[rows]
        memory.slow[rows, 2] = -(gyro[rows] * gravity_b[rows]).sum(axis=1)
        memory.calm[rows] = odometry.velocity[rows, :2]
        memory.com[rows], memory.com_vel[rows] = odometry.com[rows], 0.0
        memory.leg_vel[rows] = joint_vel[rows, :12]
        memory.gyro[rows], memory.gravity[rows] = gyro[rows], gravity_b[rows]
        memory.fresh = np.zeros(self.count, dtype=bool)

    def _decide(self, command: np.ndarray, gravity_b: np.ndarray) -> None:
        """Whether the clock has a reason to run."""
        calm, tilt = self.memory.calm, gravity_b[:, :2]
        self._moving = (
            (np.abs(command[:, :3]).max(axis=1) > _STILL_COMMAND)
            | (np.vecdot(calm, calm) > _STILL_SPEED**2)
            | (np.vecdot(tilt, tilt) > _STILL_LEAN**2)
        )


def _where_mirrored(mirrored: np.ndarray, rows: np.ndarray, mirror: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The rows (B, N), those that are to be mirrored by `mirror`."""
    count = np.count_nonzero(mirrored)
    if count == 0:
        return rows
    return mirror(rows) if count == len(rows) else np.where(mirrored[:, None], mirror(rows), rows)

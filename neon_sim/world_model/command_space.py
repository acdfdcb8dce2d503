"""What a plan is made of: a task's commands, and how one of them moves the robot for one model step of 0.1 s.

| task     | command, in [-1, 1] of its box                        | arms                              |
|----------|-------------------------------------------------------|-----------------------------------|
| navigate | vx, vy, yaw rate                                      | hang                              |
| reach    | where each palm should be, pelvis frame: left, right  | go there by inverse kinematics    |
| push_box | vx, vy, yaw rate                                      | hold both palms ahead, for a push |

The walker and the arms' position servos carry a command out; of the robot they need `obs["proprio"]` and nothing else,
so a plan runs on the robot as it does here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.arm_rows import gravity_torque_rows, inverse_palm_rows
from neon_sim.g1.kinematics import ARM_JOINTS, UnreachableError, gravity_torque, inverse_palm
from neon_sim.names import nearest

STEP_TICKS: Final = 5  # control ticks of a model step
STEP_S: Final = 0.1
_VELOCITY: Final = ("vx", "vy", "yaw_rate")
_PALMS: Final = ("left_x", "left_y", "left_z", "right_x", "right_y", "right_z")
_MAX_SPEED: Final = 0.036  # rad a tick: below the 2 rad/s that safety allows the arms
_SHOULDERS_B: Final = np.array([[0.0, 0.10, 0.29], [0.0, -0.10, 0.29]])  # m, pelvis frame
_NEAREST_M, _FARTHEST_M = 0.16, 0.385  # from the shoulder: what a palm comes to without folding or stretching its arm
_ELBOW_OUT: Final = np.array([-0.5, 0.5, -0.8, 0.6, 0.0, 0.0, 0.0])  # rad, left arm: what a reaching arm prefers
_MIN_SHOULDER_ROLL: Final = 0.03  # rad: the upper arm stays off the trunk
_ARM_MIRROR: Final = joints.mirror(np.ones(joints.NUM_JOINTS))[joints.GROUPS["right_arm"]]
_ACTIONS: Final = G1ActionSpace("arms_only")
_LOCOMOTION: Final = _ACTIONS.groups["locomotion"]


@dataclass(frozen=True)
class CommandSpace:
    """A task's commands and what they mean. `names`, `low` and `high` have one entry for each number of a command.

    goal_move, goal_near: how far from the start a goal is at least, and how near counts as there; m.
    """

    task: str
    names: tuple[str, ...]
    low: tuple[float, ...]  # m/s, m/s, rad/s or m, at -1
    high: tuple[float, ...]  # at 1
    posture: tuple[float, ...] | None  # (7,) rad, left arm, mirrored for the right; None: the palms are commanded
    goal_move: float
    goal_near: float

    @property
    def dim(self) -> int:
        """Width of a command."""
        return len(self.names)

    def to_units(self, command: np.ndarray) -> np.ndarray:
        """(..., dim) in [-1, 1] -> m/s, rad/s or m. What lies outside the box is cut to it."""
        low, high = np.array(self.low), np.array(self.high)
        return low + 0.5 * (np.clip(command, -1.0, 1.0) + 1.0) * (high - low)

    def from_units(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `to_units`, cut to [-1, 1]."""
        low, high = np.array(self.low), np.array(self.high)
        return np.clip(2.0 * (values - low) / (high - low) - 1.0, -1.0, 1.0)


_HANGING: Final = tuple(joints.HOME[joints.GROUPS["left_arm"]].tolist())
_PUSHING: Final = (-0.21, 0.06, -0.35, 0.5, 0.0, -0.32, 1.35)  # rad: as the task's expert holds its left arm
# m, left then right palm: the room that the balls are in, and the way to it.
_PALMS_LOW, _PALMS_HIGH = (0.14, -0.12, -0.04, 0.14, -0.26, -0.04), (0.38, 0.26, 0.32, 0.38, 0.12, 0.32)
COMMAND_SPACES: Final[Mapping[str, CommandSpace]] = {
    "navigate": CommandSpace("navigate", _VELOCITY, (-0.2, -0.2, -0.8), (0.5, 0.2, 0.8), _HANGING, 0.5, 0.2),
    "reach": CommandSpace("reach", _PALMS, _PALMS_LOW, _PALMS_HIGH, None, 0.15, 0.05),
    "push_box": CommandSpace("push_box", _VELOCITY, (-0.2, -0.2, -0.5), (0.4, 0.2, 0.5), _PUSHING, 0.15, 0.08),
}


def command_space(task: str) -> CommandSpace:
    """A task's commands. Raises ValueError for a task that nobody plans."""
    if task not in COMMAND_SPACES:
        raise nearest("task to plan", task, COMMAND_SPACES)
    return COMMAND_SPACES[task]


def at_rest(space: CommandSpace, command: np.ndarray) -> np.ndarray:
    """The command (dim,) for coming to rest after `command`: to stand, or for palms to stay where they are told."""
    return command if space.posture is None else space.from_units(np.zeros(space.dim))


def carry_out(space: CommandSpace, command: np.ndarray, proprio: np.ndarray) -> np.ndarray:
    """Actions (5, 17) of arms_only that carry a command out for 0.1 s.

    command: (dim,) in [-1, 1]. proprio: (125,), `obs["proprio"]` of now. A palm that cannot come to where it is told
    stays where it was told to be before. Raises ValueError for a command of another width.
    """
    if np.shape(command) != (space.dim,):
        raise ValueError(f"{space.task} takes commands of width {space.dim} {space.names}, got {np.shape(command)}.")
    values = space.to_units(np.asarray(command, dtype=np.float64))
    proprio = np.asarray(proprio, dtype=np.float64)
    told = proprio[:29] + proprio[87:116]  # rad, the last targets sent: position and tracking error
    goal = joints.HOME.copy()
    for hand, chain in enumerate(ARM_JOINTS):
        if space.posture is not None:
            goal[chain] = _of_hand(np.array(space.posture), hand)
        else:
            found = arm_posture(hand, *values[3 * hand : 3 * hand + 3].tolist())
            goal[chain] = told[chain] if found is None else found
    arms = joints.GROUPS["arms"]
    goal[arms] += gravity_torque(goal, proprio[119:122]) / joints.KP[arms]  # a PD motor sags by that much
    velocity = values if space.posture is not None else np.zeros(3)
    targets = np.empty((STEP_TICKS, joints.NUM_JOINTS))
    for tick in range(STEP_TICKS):
        told = told + np.clip(0.2 * (goal - told), -_MAX_SPEED, _MAX_SPEED)
        targets[tick] = told
    return _ACTIONS.encode(targets, np.tile(velocity, (STEP_TICKS, 1)))


def carry_out_rows(space: CommandSpace, commands: np.ndarray, proprio: np.ndarray) -> np.ndarray:
    """`carry_out` for N robots: commands (N, dim) and proprio (N, 125) -> actions (5, N, 17)."""
    values, proprio = space.to_units(np.asarray(commands, np.float64)), np.asarray(proprio, np.float64)
    told = proprio[:, :29] + proprio[:, 87:116]
    goal = np.tile(joints.HOME, (len(values), 1))
    for hand, chain in enumerate(ARM_JOINTS):
        if space.posture is not None:
            goal[:, chain] = _of_hand(np.array(space.posture), hand)
        else:
            found = _arm_postures(hand, values[:, 3 * hand : 3 * hand + 3].tobytes())
            goal[:, chain] = np.where(np.isnan(found), told[:, chain], found)
    arms = joints.GROUPS["arms"]
    goal[:, arms] += gravity_torque_rows(goal, proprio[:, 119:122]) / joints.KP[arms]
    velocity = values if space.posture is not None else np.zeros((len(values), 3))
    targets = np.empty((STEP_TICKS, *told.shape))
    for tick in range(STEP_TICKS):
        told = told + np.clip(0.2 * (goal - told), -_MAX_SPEED, _MAX_SPEED)
        targets[tick] = told
    return _ACTIONS.encode(targets, np.tile(velocity, (STEP_TICKS, 1, 1)))


@lru_cache(maxsize=4096)
def arm_posture(hand: int, x: float, y: float, z: float) -> np.ndarray | None:
    """Arm joints (7,) rad, read only, that bring a palm to a point of the pelvis frame (m), or to the nearest point on
    the way to its shoulder that the arm comes to without stretching; None: there is no such posture.

    The waist is taken to be straight, so that one point has one answer.
    """
    point = reachable_point(hand, np.array([x, y, z]))
    try:
        arm = inverse_palm(joints.HOME, hand, point, posture=_of_hand(_ELBOW_OUT, hand), limits=_arm_limits(hand))
    except UnreachableError:
        return None
    arm.flags.writeable = False
    return arm


@lru_cache(maxsize=2)  # both hands: a command that is held is not worked out again
def _arm_postures(hand: int, points_b: bytes) -> np.ndarray:
    """`arm_posture` for float64 points (N, 3): (N, 7), read only, NaN where there is none."""
    points = np.array([reachable_point(hand, point) for point in np.frombuffer(points_b).reshape(-1, 3)])
    found = inverse_palm_rows(hand, points, _of_hand(_ELBOW_OUT, hand), _arm_limits(hand))
    found.flags.writeable = False
    return found


def _arm_limits(hand: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper (7,) rad of a reaching arm."""
    lower, upper = joints.LOWER[ARM_JOINTS[hand]] + 0.05, joints.UPPER[ARM_JOINTS[hand]] - 0.05
    if hand == 0:
        lower[1] = _MIN_SHOULDER_ROLL
    else:
        upper[1] = -_MIN_SHOULDER_ROLL
    return lower, upper


def reachable_point(hand: int, point_b: np.ndarray) -> np.ndarray:
    """The point (3,) m of the pelvis frame on the line from a hand's shoulder that is neither too near nor too far."""
    lever = point_b - _SHOULDERS_B[hand]
    length = float(np.linalg.norm(lever))
    return _SHOULDERS_B[hand] + lever * np.clip(length, _NEAREST_M, _FARTHEST_M) / max(length, 1e-9)


def expert_command(space: CommandSpace, env: Any) -> np.ndarray:
    """What the task's scripted solution would tell here: (dim,) in [-1, 1]. Simulation only, it knows the truth.

    env: the unwrapped NeonG1-v0 of the task. reach brings the named palm to the named ball, the other one waits low.
    """
    if space.posture is not None:
        _, velocity = env.action_map.decode(env.expert_action())
        return space.from_units(velocity)
    truth = env.privileged()
    return palm_command(space, int(truth["hand"]), truth["target_pos_b"])


def palm_command(space: CommandSpace, hand: int, point_b: np.ndarray) -> np.ndarray:
    """The command of reach that brings one palm to a point (3,) m of the pelvis frame while the other waits low."""
    values = np.array([0.14, 0.20, -0.02, 0.14, -0.20, -0.02])
    values[3 * hand : 3 * hand + 3] = point_b
    return space.from_units(values)


def _of_hand(arm_left: np.ndarray, hand: int) -> np.ndarray:
    return arm_left if hand == 0 else arm_left * _ARM_MIRROR

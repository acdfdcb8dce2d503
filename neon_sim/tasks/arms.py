"""What tasks and their experts know of arms: names, palms, postures for a palm's place, targets that get there.

The motors are PD servos: told where to be, they sag under the arm's weight and lag behind a moving target. Both are
known beforehand, so an expert adds them to what it asks for.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.kinematics import (
    GRAVITY,
    UnreachableError,
    gravity_torque,
    inverse_palm,
    palm_jacobian,
    palm_poses,
)
from neon_sim.robot import RobotState
from neon_sim.sim.faults import Fault, Payload, as_faults, motor_faults

HANDS: Final = ("left", "right")
PALMS: Final = tuple(f"{hand}_palm" for hand in HANDS)  # sites of the robot
SHOULDERS_B: Final = np.array([[0.0, 0.10, 0.29], [0.0, -0.10, 0.29]])  # m, pelvis frame (golden body poses at qpos0)
EYE_B: Final = np.array([0.071, 0.0, 0.474])  # m, roughly the task camera
MAX_SPEED: Final = 0.036  # rad a control step of 20 ms: below the 2 rad/s that safety allows the arms
# rad, left arm: what a reaching arm prefers, elbow out, and how far the upper arm stays off the trunk.
POSTURE: Final = np.array([-0.5, 0.5, -0.8, 0.6, 0.0, 0.0, 0.0])
_MIN_SHOULDER_ROLL: Final = 0.03
_ARM_MIRROR: Final = joints.mirror(np.ones(joints.NUM_JOINTS))[joints.GROUPS["right_arm"]]
_LAG: Final = joints.KD / joints.KP  # s by which a PD motor runs behind a target that moves evenly


def of_hand(arm_left: np.ndarray, hand: int) -> np.ndarray:
    """Left-arm joints (..., 7) rad as they are (hand 0), or their mirror image for the right arm (hand 1)."""
    return arm_left if hand == 0 else arm_left * _ARM_MIRROR


def palms_b(joint_pos: np.ndarray) -> np.ndarray:
    """Left and right palm (2, 3) m in the pelvis frame, from joint_pos (29,) rad."""
    return palm_poses(joint_pos)[0]


def reach_posture(
    joint_pos: np.ndarray, hand: int, target_b: np.ndarray, posture: np.ndarray = POSTURE, wrist: float | None = None
) -> np.ndarray:
    """Arm joints (7,) rad that bring a palm to `target_b` (3,) m with the upper arm clear of the trunk.

    Args:
        joint_pos: (29,) rad, where the search begins and where the other joints are.
        hand: 0 left, 1 right.
        target_b: (3,) m, pelvis frame.
        posture: (7,) rad of the left arm, mirrored for the right: what the arm prefers.
        wrist: rad, how far each of the three wrist joints may turn; None = to its limits.

    Raises:
        UnreachableError: no such posture.
    """
    arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
    lower, upper, roll = joints.LOWER[arm] + 0.05, joints.UPPER[arm] - 0.05, 1
    if hand == 0:
        lower[roll] = _MIN_SHOULDER_ROLL
    else:
        upper[roll] = -_MIN_SHOULDER_ROLL
    if wrist is not None:
        lower[4:], upper[4:] = -wrist, wrist
    return inverse_palm(joint_pos, hand, target_b, posture=of_hand(posture, hand), limits=(lower, upper))


def lift_against_gravity(
    joint_pos: np.ndarray, gravity_b: np.ndarray, known: Fault | Iterable[Fault] | None = None
) -> np.ndarray:
    """Targets (29,) rad at which the arms' PD motors come to rest at `joint_pos` (29,) rad.

    known: faults that are made up for, of motors and of what lies in a hand; a motor without any strength is left.
    """
    arms, faults = joints.GROUPS["arms"], as_faults(known)
    torque = np.zeros(joints.NUM_JOINTS)
    torque[arms] = gravity_torque(joint_pos, gravity_b)
    for fault in faults:
        if isinstance(fault, Payload) and fault.body != "torso":
            torque += _torque_of_load(joint_pos, gravity_b, fault)
    lift = torque / joints.KP
    if faults:
        strength, bias = motor_faults(faults)
        lift = np.divide(lift, strength, out=lift, where=strength > 0.0) - bias
    return joint_pos + lift


def _torque_of_load(joint_pos: np.ndarray, gravity_b: np.ndarray, load: Payload) -> np.ndarray:
    """(29,) N m that hold a weight in a palm."""
    hand = HANDS.index(load.body.removesuffix("_hand"))
    up_b = -np.asarray(gravity_b, dtype=np.float64) / np.linalg.norm(gravity_b)
    torque = np.zeros(joints.NUM_JOINTS)
    lifted = load.mass * GRAVITY * up_b
    torque[joints.GROUPS[f"{HANDS[hand]}_arm"]] = palm_jacobian(joint_pos, hand)[:3].T @ lifted
    return torque


def approach(
    start: np.ndarray, goal: np.ndarray, steps: int, gain: float = 0.2, speed: float = MAX_SPEED
) -> np.ndarray:
    """Targets (steps, 29) rad from `start` to `goal`: a fraction `gain` of the way, at most `speed` rad a step."""
    return pursue(start, np.broadcast_to(goal, (steps, len(goal))), gain, speed)


def pursue(start: np.ndarray, goals: np.ndarray, gain: float = 1.0, speed: float = MAX_SPEED) -> np.ndarray:
    """Targets (steps, 29) rad that chase goals (steps, 29): a share `gain` of the way, `speed` rad a step at most."""
    targets = np.empty(goals.shape)
    for i, goal in enumerate(goals):
        start = start + np.clip(gain * (goal - start), -speed, speed)
        targets[i] = start
    return targets


def lead(postures: np.ndarray, gravity_b: np.ndarray, dt: float) -> np.ndarray:
    """Targets (T - 1, 29) rad that keep PD motors on a moving posture: lifted against gravity, ahead by their lag.

    postures (T, 29) rad, one each `dt` s; the speeds are their differences.
    """
    velocity = np.diff(postures, axis=0) / dt
    lifted = np.array([lift_against_gravity(posture, gravity_b) for posture in postures[1:]])
    arms = joints.GROUPS["arms"]
    lifted[:, arms] += _LAG[arms] * velocity[:, arms]
    return lifted


def follow_path(state: RobotState, hand: int, path_b: np.ndarray, dt: float) -> np.ndarray:
    """Targets (steps, 29) rad that take one palm along path_b (steps + 1, 3) m, pelvis frame, one point each `dt` s.

    The first point is where the palm should be now. Where the path leaves the arm's reach, the arm waits.
    """
    posture = joints.HOME.copy()
    posture[joints.GROUPS["waist"]] = state.joint_pos[joints.GROUPS["waist"]]
    arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
    postures = np.empty((len(path_b), joints.NUM_JOINTS))
    for i, point in enumerate(path_b):
        try:
            posture[arm] = reach_posture(posture, hand, point)
        except UnreachableError:
            if i == 0:
                posture[arm] = state.joint_pos[arm]
        postures[i] = posture
    return pursue(state.joint_target, lead(postures, state.gravity_b, dt))

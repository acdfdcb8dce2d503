"""Palms that press: where a hand touches, postures that lay it flat on a wall, and what pushes from there.

`arms` brings a palm to a point. Here the palm also faces the way it presses, so that its flat side meets the object.
A PD motor told tau / kp beyond where it is gives the torque tau, so a wanted force is one more offset of the target.
"""

from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import quat_to_matrix
from neon_sim.g1.kinematics import ARM_JOINTS, UnreachableError, palm_jacobian, palm_poses
from neon_sim.tasks.arms import of_hand

# The middle of the hand's inner side, in the wrist_yaw frame of the left hand: face of the box in assets/g1/g1.xml.
TOUCH: Final = np.array([0.108, -0.027, 0.004])  # m
_PALM: Final = np.array([0.08, 0.0, 0.0])  # m, the palm site in the same frame
_MIRROR_Y: Final = np.array([1.0, -1.0, 1.0])
_DAMPING: Final = 0.015  # m
_TURN_WEIGHT: Final = 0.15  # m per rad: what a wrong direction weighs beside a wrong place
_MAX_STEP: Final = 0.3  # rad
_MIN_SHOULDER_ROLL: Final = 0.03  # rad: the upper arm stays off the trunk
_STEPS: Final = 40
_EXACT, _EXACT_TURN = 0.004, 0.15  # m, rad: where the search ends
_JUDGED: Final = np.array([1.0, 0.05])  # m and rad in one number


def touch_points(joint_pos: np.ndarray) -> np.ndarray:
    """Middle of the inner side of both hands (2, 3) m in the pelvis frame, from joint_pos (29,) rad."""
    return np.array([_hand(joint_pos, hand)[0] for hand in (0, 1)])


def finger_directions(joint_pos: np.ndarray) -> np.ndarray:
    """Where the fingers of both hands point (2, 3), unit vectors in the pelvis frame, from joint_pos (29,) rad."""
    return quat_to_matrix(palm_poses(joint_pos)[1])[:, :, 0]


def touch_jacobian(joint_pos: np.ndarray, hand: int) -> np.ndarray:
    """How that point of one hand moves with its arm's joints: (6, 7), m/rad then rad/rad, pelvis frame."""
    palm_b = palm_poses(joint_pos)[0][hand]
    point, _, _ = _hand(joint_pos, hand)
    jacobian = palm_jacobian(joint_pos, hand)
    jacobian[:3] += np.cross(jacobian[3:].T, point - palm_b).T
    return jacobian


def press_posture(
    joint_pos: np.ndarray,
    hand: int,
    point_b: np.ndarray,
    normal_b: np.ndarray,
    posture: np.ndarray,
    fingers_b: np.ndarray | None = None,
    tolerance: float = 0.02,
    max_turn: float = 0.3,
) -> np.ndarray:
    """Arm joints (7,) rad that bring the inner side of a hand to a point, facing along a direction.

    Damped least squares over the hand's place and direction; what freedom is left goes to `posture`. Near the end of
    its reach an arm gives what it can: the best posture found, if that is near enough.

    Args:
        joint_pos: (29,) rad, where the search begins and where the other joints are.
        hand: 0 left, 1 right.
        point_b: (3,) m, pelvis frame.
        normal_b: (3,) unit vector that the inner side faces, pelvis frame.
        posture: (7,) rad of the left arm, mirrored for the right: what the arm prefers.
        fingers_b: (3,) where the fingers point as far as the normal allows, pelvis frame; None = anywhere.
        tolerance: m, accepted distance from the point.
        max_turn: rad, accepted angle between hand and direction.

    Raises:
        UnreachableError: no such posture was found.
    """
    chain = ARM_JOINTS[hand]
    low, high = _limits(hand)
    preferred = of_hand(posture, hand)
    now = np.array(joint_pos, dtype=np.float64)
    best, best_error = now[chain], np.full(2, np.inf)  # m, rad
    for start in (now[chain], preferred):
        now[chain] = np.clip(start, low, high)
        for count in range(_STEPS):
            error, facing = _error(now, hand, point_b, normal_b, fingers_b)
            size = np.array([np.linalg.norm(error[:3]), np.linalg.norm(error[3:])])
            if size @ _JUDGED < best_error @ _JUDGED:
                best, best_error = now[chain], size
            if size[0] < _EXACT and size[1] < _EXACT_TURN:
                return best
            jacobian = touch_jacobian(now, hand)
            if fingers_b is None:
                jacobian[3:] -= np.outer(facing, facing @ jacobian[3:])
            pull = 0.1 * 0.9**count * (preferred - now[chain])
            now[chain] = _step(now[chain], jacobian, error, pull, (low, high))
    if best_error[0] <= tolerance and best_error[1] <= max_turn:
        return best
    raise UnreachableError(
        f"The {('left', 'right')[hand]} hand should face {np.round(normal_b, 2)} at {np.round(point_b, 3)} m in the"
        f" pelvis frame but came no nearer than {best_error[0] * 1000:.0f} mm and {best_error[1]:.2f} rad. Choose a"
        " point nearer to its shoulder."
    )


def push_with(joint_pos: np.ndarray, forces_b: np.ndarray) -> np.ndarray:
    """Offsets (29,) rad of the targets with which both hands push with forces_b (2, 3) N, pelvis frame; left first."""
    offset = np.zeros(joints.NUM_JOINTS)
    for hand, force in enumerate(forces_b):
        chain = ARM_JOINTS[hand]
        offset[chain] = touch_jacobian(joint_pos, hand)[:3].T @ force / joints.KP[chain]
    return offset


def _hand(joint_pos: np.ndarray, hand: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The touching point (3,) m, the direction (3,) that the inner side faces and that of the fingers, pelvis frame."""
    pos, quat = palm_poses(joint_pos)
    matrix = quat_to_matrix(quat[hand])
    side = 1.0 if hand == 0 else -1.0
    lever = (TOUCH if hand == 0 else TOUCH * _MIRROR_Y) - _PALM
    return pos[hand] + matrix @ lever, -side * matrix[:, 1], matrix[:, 0]


def _limits(hand: int) -> tuple[np.ndarray, np.ndarray]:
    chain = ARM_JOINTS[hand]
    low, high = joints.LOWER[chain] + 0.05, joints.UPPER[chain] - 0.05
    if hand == 0:
        low[1] = _MIN_SHOULDER_ROLL
    else:
        high[1] = -_MIN_SHOULDER_ROLL
    return low, high


def _error(
    joint_pos: np.ndarray, hand: int, point_b: np.ndarray, normal_b: np.ndarray, fingers_b: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """What the hand lacks (6,): m to its place, rad to its direction; and the direction (3,) that it faces."""
    point, facing, fingers = _hand(joint_pos, hand)
    axis = np.cross(facing, normal_b)
    sine, cosine = np.linalg.norm(axis), facing @ normal_b
    turn = axis * (np.arctan2(sine, cosine) / max(sine, 1e-9))
    if fingers_b is not None:
        turn = turn + facing * np.arctan2(facing @ np.cross(fingers, fingers_b), fingers @ fingers_b)
    return np.concatenate([point_b - point, turn]), facing


def _step(
    arm: np.ndarray, jacobian: np.ndarray, error: np.ndarray, pull: np.ndarray, limits: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Arm joints (7,) after one damped step over `error` (6,), with `pull` (7,) rad where the hand does not mind.

    Joints that would leave their limits are held there and the others share the work.
    """
    weight = np.array([1.0] * 3 + [_TURN_WEIGHT] * 3)
    weighted = weight[:, None] * jacobian
    free, target = np.ones(7), arm
    for _ in range(3):
        held = weighted * free
        inverse = held.T @ np.linalg.inv(held @ held.T + _DAMPING**2 * np.eye(6))
        rest = pull * free
        step = inverse @ (weight * error - held @ rest) + rest
        step *= min(1.0, _MAX_STEP / np.abs(step).max(initial=1e-9))
        target = np.clip(arm + step, *limits)
        out = (arm + step < limits[0]) | (arm + step > limits[1])
        if not out.any():
            break
        free = free * ~out
    return target

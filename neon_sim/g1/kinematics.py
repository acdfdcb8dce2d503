"""Where the links, palms, soles and the centre of mass are, from the joint angles alone, and the way back for a palm.

Everything is in the pelvis frame and takes plain arrays: no simulator, so that the robot computes the same numbers.
A joint's transform is offset + sin(q) A + cos(q) B with constant 4 x 4 matrices, so the 29 of them are three array
operations, and the two legs and two arms then grow link by link side by side.
"""

from typing import Final, NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import entries_to_quat, matrix_to_quat, quat_to_matrix
from neon_sim.g1.links import LINKS, PALM_OFFSET, SOLE_CENTER, Link

GRAVITY: Final = 9.81  # m/s^2
ARM_JOINTS: Final[tuple[np.ndarray, np.ndarray]] = (joints.GROUPS["left_arm"], joints.GROUPS["right_arm"])
TOTAL_MASS: Final = sum(link.mass for link in LINKS)  # kg

_PALM: Final = np.array([*PALM_OFFSET, 1.0])
_DAMPING: Final = 0.03  # m, keeps steps finite where the arm is straight
_MAX_STEP: Final = 0.3  # rad, largest change of one joint in one step
# rad, left arm: raised forward, overhead, to the side, backward. Tried when the search from nearer postures is stuck.
_ARM_STARTS: Final = np.array(
    [[-0.9, 0.2, 0, 0.5, 0, 0, 0], [-2.4, 0.3, 0, 0.5, 0, 0, 0], [0, 1.3, 0, 0.5, 0, 0, 0], [1.0, 0.3, 0, 0.8, 0, 0, 0]]
)
_HAND_SIGNS: Final = np.array([np.ones(7), [joints.MIRROR_SIGN[name[5:-6]] for name in joints.JOINT_NAMES[15:22]]])
_NEXT, _AFTER = np.array([1, 2, 0]), np.array([2, 0, 1])


def _joint_matrices(link: Link) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constant, sin and cos part (4, 4) of the link's transform in its parent (Rodrigues' formula)."""
    fixed = np.eye(4)
    fixed[:3, :3] = quat_to_matrix(np.array(link.quat_wxyz))
    fixed[:3, 3] = link.pos
    axis = np.eye(3)["xyz".index(link.axis)]
    constant, sine, cosine = np.zeros((3, 4, 4))
    constant[:3, :3] = np.outer(axis, axis)
    constant[3, 3] = 1.0
    sine[:3, :3] = np.cross(np.eye(3), axis)
    cosine[:3, :3] = np.eye(3) - np.outer(axis, axis)
    return fixed @ constant, fixed @ sine, fixed @ cosine


# Four limbs of ten links side by side: left leg, right leg, left arm, right arm. The arms begin with the waist; the
# legs stand behind three links that do not move and end with the sole, so that one loop over the depth serves all.
_DEPTH, _LIMBS, _WAIST_DEPTH = 10, 4, 3
_JOINT: Final = np.zeros((_DEPTH, _LIMBS), dtype=np.intp)
_OFFSET, _SINE, _COSINE = np.zeros((3, _DEPTH, _LIMBS, 4, 4))
_OFFSET[:] = np.eye(4)
for _limb, _group in enumerate(("left_leg", "right_leg", "left_arm", "right_arm")):
    _chain = (
        joints.GROUPS[_group] if "leg" in _group else np.concatenate([joints.GROUPS["waist"], joints.GROUPS[_group]])
    )
    for _depth, _joint in enumerate(_chain, start=_WAIST_DEPTH if "leg" in _group else 0):
        _JOINT[_depth, _limb] = _joint
        _OFFSET[_depth, _limb], _SINE[_depth, _limb], _COSINE[_depth, _limb] = _joint_matrices(LINKS[_joint + 1])
_OFFSET[-1, :2, :3, 3] = SOLE_CENTER
# The same for all four limbs and for the arms alone, each in one piece of memory.
_TABLES: Final[dict[int, tuple[np.ndarray, ...]]] = {
    first: (
        _JOINT[:, first:, None, None].copy(),
        *(np.ascontiguousarray(table[:, first:]) for table in (_OFFSET, _SINE, _COSINE)),
    )
    for first in (0, 2)
}
_AXIS: Final = np.array(["xyz".index(link.axis) for link in LINKS[1:]])[_JOINT]
# A link's transform times m (com, 1) is its mass moment; the CoM is the sum of them over the total mass.
_MASS_MOMENT: Final = np.zeros((_DEPTH, _LIMBS, 4))
# Where joint i's link is found in the arrays above.
_LINK_DEPTH, _LINK_LIMB = np.array(
    [np.argwhere(np.any(_SINE != 0.0, axis=(-2, -1)) & (joint == _JOINT))[0] for joint in range(29)]
).T
for _link, _depth, _limb in zip(LINKS[1:], _LINK_DEPTH, _LINK_LIMB, strict=True):
    _MASS_MOMENT[_depth, _limb] = _link.mass * np.array([*_link.com, 1.0])
# The same as one matrix (640, 3): from all entries of one posture's poses to their share of its centre of mass.
_COM_OF_ENTRIES: Final = np.einsum("dlc,rs->dlrcs", _MASS_MOMENT / TOTAL_MASS, np.eye(4)[:, :3]).reshape(-1, 3)
_PELVIS_COM: Final = np.array(LINKS[0].com) * LINKS[0].mass / TOTAL_MASS


def _carried_links() -> np.ndarray:
    """(29, 40) 1 where the joint of the row carries the link in the place, depth by limb, of the column."""
    carried = np.zeros((joints.NUM_JOINTS, _DEPTH, _LIMBS))
    for joint, (depth, limb) in enumerate(zip(_LINK_DEPTH, _LINK_LIMB, strict=True)):
        carried[joint, depth:, limb] = 1.0
    carried[joints.GROUPS["waist"], :, -1] = 1.0  # the waist stands in the left arm's chain and carries the right too
    return carried.reshape(joints.NUM_JOINTS, -1)


_CARRIED: Final = _carried_links()
_CARRIED_MASS: Final = _CARRIED @ _MASS_MOMENT.reshape(-1, 4)[:, 3:]  # (29, 1) kg
_CARRIED_SHARE: Final = _CARRIED_MASS / TOTAL_MASS
_MEAN: Final = np.vstack([_CARRIED / _CARRIED_MASS, np.full(_CARRIED.shape[1], 1.0 / TOTAL_MASS)])
# Where one posture's 640 entries hold each joint's axis and origin, those of the legs' twelve once more at the end, and
# the sole's centre for each of these.
_ENTRIES: Final = np.arange(_DEPTH * _LIMBS * 16).reshape(_DEPTH, _LIMBS, 4, 4)[:, :, :3]
_PLACES: Final = (np.append(_LINK_DEPTH, _LINK_DEPTH[:12]), np.append(_LINK_LIMB, _LINK_LIMB[:12]))
_AXIS_ENTRIES: Final = _ENTRIES[(*_PLACES, slice(None), _AXIS[_PLACES])]
_ORIGIN_ENTRIES: Final = _ENTRIES[(*_PLACES, slice(None), 3)]
_SOLE_ENTRIES: Final = _ENTRIES[-1, :2, :, 3].repeat(6, axis=0)


def _joint_transforms(joint_pos: np.ndarray, first: int = 0) -> np.ndarray:
    """Each link's pose in its parent, depth first: (10, ..., 4 - first, 4, 4) for the limbs from number `first` on."""
    joint, offset, sine, cosine = _TABLES[first]
    angle = joint_pos.take(joint, axis=-1)
    local = np.sin(angle) * sine
    local += np.cos(angle) * cosine
    local += offset
    return local if local.ndim == 4 else np.moveaxis(local, -4, 0)


def limb_poses(joint_pos: np.ndarray, first: int = 0) -> np.ndarray:
    """Each link's pose in the pelvis frame, depth first: (10, ..., 4 - first, 4, 4) from joint_pos (..., 29) rad.

    The limbs are left leg, right leg, left arm, right arm, those before number `first` (0 or 2) left out. An arm ends
    with its wrist_yaw link, a leg with its sole. `stance` and `palms_of` read places off it without computing it again.
    """
    local = _joint_transforms(joint_pos, first)
    poses = np.empty_like(local)
    poses[0] = local[0]
    for parent, child, pose in zip(poses[:-1], local[1:], poses[1:], strict=True):
        np.matmul(parent, child, out=pose)
    return poses


def _wrist_poses(joint_pos: np.ndarray) -> np.ndarray:
    """Both wrist_yaw links, pelvis frame, (..., 2, 4, 4). Ten links multiplied as a tree: four steps, not nine."""
    local = _joint_transforms(joint_pos, first=2)
    pairs = local[0::2] @ local[1::2]
    fours = pairs[0:4:2] @ pairs[1:4:2]
    return fours[0] @ fours[1] @ pairs[4]


def link_transforms(joint_pos: np.ndarray) -> np.ndarray:
    """Poses (..., 30, 4, 4) of `links.LINKS`, in their order, in the pelvis frame, from joint_pos (..., 29) rad."""
    joint_pos = np.asarray(joint_pos, dtype=np.float64)
    poses = np.empty((*joint_pos.shape[:-1], 30, 4, 4))
    poses[..., 0, :, :] = np.eye(4)
    poses[..., 1:, :, :] = np.moveaxis(limb_poses(joint_pos), 0, -4)[..., _LINK_DEPTH, _LINK_LIMB, :, :]
    return poses


def joint_places(poses: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Where one joint of each robot is (B, 3) m in its pelvis frame, from `limb_poses` (10, B, 4, 4, 4), joint (B,)."""
    return poses[_LINK_DEPTH[joint], np.arange(len(joint)), _LINK_LIMB[joint], :3, 3]


def palm_poses(joint_pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left and right palm, pelvis frame: pos (..., 2, 3) m and quat_wxyz (..., 2, 4), from joint_pos (..., 29) rad."""
    wrist = _wrist_poses(np.asarray(joint_pos, dtype=np.float64))
    return (wrist @ _PALM)[..., :3], matrix_to_quat(wrist[..., :3, :3])


def palms_of(poses: np.ndarray) -> tuple[float, ...]:
    """`palm_poses` as 14 plain floats from one `limb_poses`: left pos 3, quat_wxyz 4, right pos 3, quat 4."""
    left, right = poses[-1, 2:, :3].tolist()
    return (*_palm(*left), *_palm(*right))


def _palm(x: list[float], y: list[float], z: list[float]) -> tuple[float, ...]:
    """Palm position and orientation from the rows of the wrist's pose."""
    a, b, c = PALM_OFFSET
    pos = (row[0] * a + row[1] * b + row[2] * c + row[3] for row in (x, y, z))
    return (*pos, *entries_to_quat(*x[:3], *y[:3], *z[:3]))


def center_of_mass(joint_pos: np.ndarray) -> np.ndarray:
    """Whole-body centre of mass (..., 3) m in the pelvis frame, from joint_pos (..., 29) rad."""
    return centers_of_mass(limb_poses(np.asarray(joint_pos, dtype=np.float64)))


def centers_of_mass(poses: np.ndarray) -> np.ndarray:
    """`center_of_mass` (..., 3) m from the `limb_poses` (10, ..., 4, 4, 4) of the joint angles."""
    entries = poses.reshape(_DEPTH, -1, _LIMBS * 16).swapaxes(0, 1).reshape(-1, len(_COM_OF_ENTRIES))
    return (entries @ _COM_OF_ENTRIES).reshape(*poses.shape[1:-3], 3) + _PELVIS_COM


class Stance(NamedTuple):
    """The body as a balance controller sees it, in the pelvis frame."""

    com: np.ndarray  # (3,) m
    com_jacobian: np.ndarray  # (3, 29) m/rad
    sole_pos: np.ndarray  # (2, 3) m, left and right sole centres
    sole_matrix: np.ndarray  # (2, 3, 3) orientation of the soles, x towards the toes
    sole_jacobian: np.ndarray  # (2, 6, 6): rows 0-2 m/rad, rows 3-5 rad/rad; columns are the joints of that leg


def stance(joint_pos: np.ndarray) -> Stance:
    """Centre of mass and soles with their Jacobians, from joint_pos (29,) rad."""
    return stance_of(limb_poses(np.asarray(joint_pos, dtype=np.float64)))


def stance_of(poses: np.ndarray) -> Stance:
    """`stance` from the `limb_poses` of one posture.

    With a Jacobian J, a force F at its point and joint speeds dq: the point moves at J dq, and J.T F is what F does to
    the joints. So the torques that carry the body's weight are GRAVITY * TOTAL_MASS * com_jacobian.T @ up.
    """
    entries, mean = poses.reshape(-1), _mass_means(poses)
    axis, lever = entries.take(_AXIS_ENTRIES), entries.take(_ORIGIN_ENTRIES)
    lever[:29] -= mean[:29]
    lever[29:] -= entries.take(_SOLE_ENTRIES)
    moved = _cross(lever, axis)
    return Stance(
        com=mean[29] + _PELVIS_COM,
        com_jacobian=(moved[:29] * _CARRIED_SHARE).T,
        sole_pos=poses[-1, :2, :3, 3],
        sole_matrix=poses[-1, :2, :3, :3],
        sole_jacobian=np.concatenate([moved[29:], axis[29:]], axis=1).reshape(2, 6, 6).transpose(0, 2, 1),
    )


def _mass_means(poses: np.ndarray) -> np.ndarray:
    """Centres of mass (30, 3) m of what each joint carries and, less the pelvis' part, of the whole body."""
    return (_MEAN @ np.einsum("dlij,dlj->dli", poses, _MASS_MOMENT).reshape(-1, 4))[:, :3]


def palm_jacobian(joint_pos: np.ndarray, hand: int) -> np.ndarray:
    """How one palm moves with its own arm's joints: (6, 7), rows 0-2 in m/rad, rows 3-5 in rad/rad, pelvis frame.

    Args:
        joint_pos: (29,) rad.
        hand: 0 left, 1 right.
    """
    poses = limb_poses(np.asarray(joint_pos, dtype=np.float64), first=2)[:, _checked(hand)]
    return _palm_jacobian(poses)


def _checked(hand: int) -> int:
    if hand not in (0, 1):
        raise ValueError(f"hand must be 0 (left) or 1 (right), got {hand!r}.")
    return hand


def _palm_jacobian(poses: np.ndarray) -> np.ndarray:
    """`palm_jacobian` from one arm's link poses (10, 4, 4)."""
    arm = poses[_WAIST_DEPTH:]
    axis = arm[np.arange(7), :3, _AXIS[_WAIST_DEPTH:, 2]]
    lever = (poses[-1] @ _PALM)[:3] - arm[:, :3, 3]
    return np.concatenate([_cross(axis, lever), axis], axis=1).T


def _cross(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cross product over the last axis; numpy's own takes four times as long on a handful of vectors."""
    return left.take(_NEXT, -1) * right.take(_AFTER, -1) - left.take(_AFTER, -1) * right.take(_NEXT, -1)


def gravity_torque(joint_pos: np.ndarray, gravity_b: np.ndarray) -> np.ndarray:
    """Torques (14,) N m that hold both arms still against gravity, left arm first, in hardware order.

    A position servo told `q + gravity_torque / kp` comes to rest at q.

    Args:
        joint_pos: (29,) rad.
        gravity_b: (3,) direction of gravity in the pelvis frame; its length is not used.
    """
    poses, arms = limb_poses(np.asarray(joint_pos, dtype=np.float64)), joints.GROUPS["arms"]
    axis, origin = (poses.reshape(-1).take(entries[arms]) for entries in (_AXIS_ENTRIES, _ORIGIN_ENTRIES))
    gradient = _CARRIED_MASS[arms] * _cross(axis, _mass_means(poses)[arms] - origin)
    down_b = np.asarray(gravity_b, dtype=np.float64) / np.linalg.norm(gravity_b)
    return gradient @ (-GRAVITY * down_b)


class UnreachableError(ValueError):
    """No posture within the joint limits was found that brings the palm to the wanted point."""


def inverse_palm(
    joint_pos_start: np.ndarray,
    hand: int,
    pos_b: np.ndarray,
    posture: np.ndarray | None = None,
    tolerance: float = 0.001,
    limit_margin: float = 0.05,
    max_steps: int = 60,
    limits: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Arm joints (7,) rad that bring one palm to a point; orientation is left free.

    Damped least squares from the start posture and, if that gets stuck, from a few others; what freedom is left pulls
    towards `posture`. The waist and the legs stay where `joint_pos_start` has them.

    Args:
        joint_pos_start: (29,) rad.
        hand: 0 left, 1 right.
        pos_b: (3,) m, wanted palm position in the pelvis frame.
        posture: (7,) rad that the arm prefers; the home pose by default.
        tolerance: m, accepted distance from the point.
        limit_margin: rad, kept between the joints and their limits.
        max_steps: Newton steps for each starting posture.
        limits: (7,) and (7,) rad, lower and upper, in place of the joints' own with the margin.

    Raises:
        UnreachableError: the palm came no nearer than `tolerance`; the message says how near.
    """
    chain = ARM_JOINTS[_checked(hand)]
    joint_pos = np.array(joint_pos_start, dtype=np.float64)
    posture = joints.HOME[chain] if posture is None else np.asarray(posture, dtype=np.float64)
    low, high = limits or (joints.LOWER[chain] + limit_margin, joints.UPPER[chain] - limit_margin)
    nearest = np.inf
    for start in (joint_pos[chain], joints.HOME[chain], *(_ARM_STARTS * _HAND_SIGNS[hand])):
        joint_pos[chain] = np.clip(start, low, high)
        for count in range(max_steps):
            poses = limb_poses(joint_pos, first=2)[:, hand]
            error = pos_b - (poses[-1] @ _PALM)[:3]
            distance = np.sqrt(error @ error)
            if distance <= tolerance:
                return joint_pos[chain]
            nearest = min(nearest, distance)
            pull = 0.1 * 0.9**count * (posture - joint_pos[chain])
            joint_pos[chain] = _palm_step(joint_pos[chain], _palm_jacobian(poses)[:3], error, pull, (low, high))
    raise UnreachableError(
        f"The {('left', 'right')[hand]} palm should reach {np.round(pos_b, 3)} m in the pelvis frame but came no nearer"
        f" than {nearest * 1000:.0f} mm. Choose a point nearer to its shoulder, or move the waist."
    )


def _palm_step(
    arm: np.ndarray, jacobian: np.ndarray, error: np.ndarray, pull: np.ndarray, limits: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Arm joints (7,) after one damped step over `error` (3,) m, with `pull` (7,) rad where the palm does not mind.

    Joints that would leave their limits are held there and the others share the work.
    """
    low, high = limits
    free = np.ones(7)
    target = arm
    for _ in range(3):
        held = jacobian * free
        inverse = held.T @ np.linalg.inv(held @ held.T + _DAMPING**2 * np.eye(3))
        rest = pull * free
        step = inverse @ (error - held @ rest) + rest
        step *= min(1.0, _MAX_STEP / np.abs(step).max(initial=1e-9))
        target = np.clip(arm + step, low, high)
        out = (arm + step < low) | (arm + step > high)
        if not out.any():
            break
        free = free * ~out
    return target

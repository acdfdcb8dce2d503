"""The G1's kinematics and gravity torques in torch: batched, differentiable, for losses over action chunks.

The same layout and the same numbers as `neon_sim.g1.kinematics`, which is numpy and serves the control loop: four
limbs of ten links side by side, grown link by link. All is in the pelvis frame; dtype and device are the input's.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neon_sim.g1 import joints
from neon_sim.g1.geometry import quat_to_matrix
from neon_sim.g1.kinematics import GRAVITY
from neon_sim.g1.links import LINKS, PALM_OFFSET, SOLE_CENTER

LIMBS: Final = ("left_leg", "right_leg", "left_arm", "right_arm")
DEPTH: Final = 10  # links of a limb: waist yaw, roll, torso and seven of the arm; three fixed, six of the leg, the sole
WAIST_DEPTH: Final = 3
TORSO_DEPTH: Final = 2  # where an arm's limb has the torso link
# kg m^2 that each joint turns, rotor included: the diagonal of MuJoCo's mass matrix in the home pose, pelvis held.
INERTIA: Final = np.array(
    [
        *([0.913, 0.7581, 0.0841, 0.1386, 0.01, 0.0076] * 2),  # legs, hanging
        *(0.2806, 0.8038, 0.5583),  # waist
        *([0.2016, 0.1801, 0.0083, 0.0381, 0.004, 0.0091, 0.0061] * 2),  # arms
    ]
)
INERTIA.flags.writeable = False
UPRIGHT: Final = (0.0, 0.0, -1.0)  # direction of gravity in the pelvis frame of a robot that stands straight


class _Tables(NamedTuple):
    """Constants per depth and limb. A link's pose in its parent is offset + sin(q) sine + cos(q) cosine."""

    offset: Tensor  # (10, 4, 4, 4)
    sine: Tensor  # (10, 4, 4, 4)
    cosine: Tensor  # (10, 4, 4, 4)
    axis: Tensor  # (10, 4, 3, 1) the joint's axis in its own link, zero where there is no joint
    moment: Tensor  # (10, 4, 4, 1) kg m (com, 1): the link's pose times this is its mass moment and its mass
    palm: Tensor  # (4, 1) m, the palm in the wrist_yaw link
    place: Tensor  # (40, 29) adds up what was computed per depth and limb, one column per joint


def limb_poses(joint_pos: Tensor) -> Tensor:
    """Each link's pose in the pelvis frame, depth first: (10, ..., 4, 4, 4) from joint_pos (..., 29) rad.

    The limbs are `LIMBS`. An arm begins with the waist and ends with its wrist_yaw link; a leg ends with its sole.
    """
    tables = _tables(joint_pos.dtype, joint_pos.device)
    angle = joint_pos[..., _JOINT.to(joint_pos.device)].movedim(-2, 0)[..., None, None]  # (10, ..., 4, 1, 1)
    shape = (DEPTH, *[1] * (joint_pos.dim() - 1), len(LIMBS), 4, 4)
    offset, sine, cosine = (table.view(shape) for table in (tables.offset, tables.sine, tables.cosine))
    local = offset + angle.sin() * sine + angle.cos() * cosine
    poses = [local[0]]
    for link in local[1:].unbind(0):
        poses.append(poses[-1] @ link)
    return torch.stack(poses)


def link_transforms(joint_pos: Tensor) -> Tensor:
    """Poses (..., 30, 4, 4) of `links.LINKS`, in their order, in the pelvis frame, from joint_pos (..., 29) rad."""
    poses = limb_poses(joint_pos).movedim(0, -4)[..., _LINK_DEPTH, _LINK_LIMB, :, :]
    pelvis = torch.eye(4, dtype=poses.dtype, device=poses.device).expand(*poses.shape[:-3], 1, 4, 4)
    return torch.cat([pelvis, poses], dim=-3)


def palm_positions(joint_pos: Tensor) -> Tensor:
    """Left and right palm (..., 2, 3) m in the pelvis frame, from joint_pos (..., 29) rad."""
    return palms_of(limb_poses(joint_pos))


def palms_of(poses: Tensor) -> Tensor:
    """`palm_positions` from `limb_poses` (10, ..., 4, 4, 4)."""
    palm = _tables(poses.dtype, poses.device).palm
    return (poses[-1, ..., 2:, :, :] @ palm)[..., :3, 0]


def gravity_torque(joint_pos: Tensor, gravity_b: Tensor | None = None, hand_mass: Tensor | None = None) -> Tensor:
    """Torques (..., 29) N m that hold every joint still against gravity while the pelvis is held.

    For arms and waist that is the torque of a standing robot too; not for legs, which hang here and carry nothing.

    Args:
        joint_pos: (..., 29) rad, hardware order.
        gravity_b: (..., 3) direction of gravity in the pelvis frame, its length not used; upright by default.
        hand_mass: (..., 2) kg in the left and right palm on top of the robot's own; none by default.
    """
    return gravity_torque_of(limb_poses(joint_pos), gravity_b, hand_mass)


def gravity_torque_of(poses: Tensor, gravity_b: Tensor | None = None, hand_mass: Tensor | None = None) -> Tensor:
    """`gravity_torque` from `limb_poses` (10, ..., 4, 4, 4); gravity_b and hand_mass broadcast against its batch.

    With m the mass beyond a joint at p, c their centre and u the unit vector up, the torque about the axis a is
    g m u . (a x (c - p)), here as g (u x a) . (m c - m p).
    """
    tables = _tables(poses.dtype, poses.device)
    batch = poses.shape[1:-3]
    shape = (DEPTH, *[1] * len(batch), len(LIMBS))
    beyond = (poses @ tables.moment.view(*shape, 4, 1))[..., 0].flip(0).cumsum(0).flip(0)
    if hand_mass is not None:
        held = (poses[-1, ..., 2:, :, :] @ tables.palm)[..., 0] * hand_mass[..., None]
        beyond = beyond + F.pad(held, (0, 0, 2, 0))  # the palm lies beyond every joint of its limb; legs hold nothing
    lever = beyond[..., :3] - beyond[..., 3:] * poses[..., :3, 3]
    axis = (poses[..., :3, :3] @ tables.axis.view(*shape, 3, 1))[..., 0]
    up = -poses.new_tensor(UPRIGHT) if gravity_b is None else -F.normalize(gravity_b, dim=-1)
    torque = GRAVITY * (torch.linalg.cross(up[..., None, :].expand_as(axis), axis) * lever).sum(-1)
    return torque.movedim(0, -2).flatten(-2) @ tables.place


def servo_response(steps: int, dt: float = 0.02) -> np.ndarray:
    """Torque (steps, 29) N m/rad of each servo 0, dt, 2 dt ... seconds after its target jumped by one radian.

    Each joint alone, with the gains KP and KD of `joints` and `INERTIA`: I q'' = kp (u - q) - kd q'. With r and s the
    roots of I x^2 + kd x + kp, the torque is I q'' = kp (r e^(r t) - s e^(s t)) / (r - s).
    """
    root = np.sqrt(joints.KD.astype(complex) ** 2 - 4.0 * INERTIA * joints.KP)
    r, s = (-joints.KD + root) / (2.0 * INERTIA), (-joints.KD - root) / (2.0 * INERTIA)
    time_s = dt * np.arange(steps)[:, None]
    return (joints.KP * (r * np.exp(r * time_s) - s * np.exp(s * time_s)) / (r - s)).real


def _joint_grid() -> tuple[np.ndarray, np.ndarray]:
    """Joint of each depth and limb (10, 4), -1 where a link does not move; True (10, 4) where it stands first."""
    joint = np.full((DEPTH, len(LIMBS)), -1)
    for limb, name in enumerate(LIMBS):
        if "leg" in name:
            joint[WAIST_DEPTH:-1, limb] = joints.GROUPS[name]
        else:
            joint[:, limb] = [*joints.GROUPS["waist"], *joints.GROUPS[name]]
    first = joint >= 0
    first[:WAIST_DEPTH, 3] = False  # the waist stands in both arms, its mass counts once
    return joint, first


_GRID, _FIRST = _joint_grid()
_JOINT: Final = torch.from_numpy(np.maximum(_GRID, 0))
_LINK_DEPTH, _LINK_LIMB = torch.from_numpy(
    np.array([np.argwhere(_FIRST & (joint == _GRID))[0] for joint in range(joints.NUM_JOINTS)]).T.copy()
)


def _joint_matrices(joint: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constant, sin and cos part (4, 4) of the pose in its parent of the link that a joint moves (Rodrigues)."""
    link = LINKS[joint + 1]
    fixed = np.eye(4)
    fixed[:3, :3], fixed[:3, 3] = quat_to_matrix(np.array(link.quat_wxyz)), link.pos
    axis = np.eye(3)["xyz".index(link.axis)]
    constant, sine, cosine = np.zeros((3, 4, 4))
    constant[:3, :3], constant[3, 3] = np.outer(axis, axis), 1.0
    sine[:3, :3] = np.cross(np.eye(3), axis)
    cosine[:3, :3] = np.eye(3) - np.outer(axis, axis)
    return fixed @ constant, fixed @ sine, fixed @ cosine


def _arrays() -> tuple[np.ndarray, ...]:
    """The fields of `_Tables` in float64."""
    grid = (DEPTH, len(LIMBS))
    offset, sine, cosine = np.zeros((3, *grid, 4, 4))
    axis, moment = np.zeros((*grid, 3, 1)), np.zeros((*grid, 4, 1))
    place = np.zeros((*grid, joints.NUM_JOINTS))
    offset[:] = np.eye(4)
    for depth, limb in np.argwhere(_GRID >= 0):
        joint = _GRID[depth, limb]
        link = LINKS[joint + 1]
        offset[depth, limb], sine[depth, limb], cosine[depth, limb] = _joint_matrices(joint)
        axis[depth, limb, "xyz".index(link.axis)] = 1.0
        place[depth, limb, joint] = 1.0
        if _FIRST[depth, limb]:
            moment[depth, limb, :, 0] = link.mass * np.array([*link.com, 1.0])
    offset[-1, :2, :3, 3] = SOLE_CENTER
    return offset, sine, cosine, axis, moment, np.array([*PALM_OFFSET, 1.0])[:, None], place.reshape(-1, 29)


@lru_cache(maxsize=8)
def _tables(dtype: torch.dtype, device: torch.device) -> _Tables:
    # Not as inference tensors, whoever asks first: autograd could not use those later.
    with torch.inference_mode(False):
        return _Tables(*(torch.tensor(array, dtype=dtype, device=device) for array in _arrays()))

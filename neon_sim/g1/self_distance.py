"""How far the G1's arms are from its trunk, its legs and each other, and targets that keep them apart.

Arms are spheres, all else boxes rounded by a radius (a capsule is a box with one size only). Both follow the collision
geoms of `assets/g1/g1.xml` and are the shapes of `neon_sim.model.collision`, here in numpy alone: the robot computes
the same numbers. Shoulders are left out: they cannot leave the trunk.
"""

from typing import Final, NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import quat_to_matrix
from neon_sim.g1.kinematics import limb_poses

# Spheres of the left arm: depth of the link in its limb, centre in the link (m), radius (m). The right arm's are their
# mirror image, y negative.
_ARM: Final = np.array(
    [
        [5, 0.0012, 0.0, 0.0037, 0.0375],  # upper arm
        [5, 0.0067, -0.0036, -0.0386, 0.0375],
        [5, 0.0121, -0.0071, -0.0809, 0.0375],
        [6, 0.0104, 0.0150, -0.0032, 0.0316],  # forearm
        [6, 0.0434, 0.0078, -0.0073, 0.0316],
        [6, 0.0763, 0.0006, -0.0113, 0.0316],
        [7, 0.0242, -0.0004, -0.0002, 0.0302],  # wrist
        [8, -0.0011, -0.0009, -0.0002, 0.0293],
        [8, 0.0233, -0.0005, -0.0002, 0.0293],
        [8, 0.0476, -0.0001, -0.0002, 0.0293],
        [9, 0.0150, 0.0006, -0.0007, 0.0297],
        [9, 0.0700, -0.0080, 0.0040, 0.0420],  # hand, a box in the simulator
        [9, 0.1100, -0.0080, 0.0040, 0.0420],
        [9, 0.1480, -0.0080, 0.0040, 0.0420],
    ]
)
_COUNT: Final = len(_ARM)
_PELVIS, _TORSO, _LEG = -1, 2, 0  # of `_Body.limb`: the pelvis itself, the chain of an arm, the left leg
_SHARES: Final = np.array([1.0, 0.5, 0.25])  # of a step that is too long; then none of it
_EQUAL: Final = 1e-9  # m


class _Body(NamedTuple):
    """A rounded box in the frame of a link, named by its limb and its depth there."""

    limb: int
    depth: int
    pos: tuple[float, float, float]  # m
    half_size: tuple[float, float, float]  # m
    radius: float  # m
    quat_wxyz: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)


_TRUNK: Final = (
    _Body(_PELVIS, 0, (0.0, 0.0, -0.0715), (0.047, 0.062, 0.072), 0.0),
    _Body(_TORSO, 2, (0.0048, 0.0, 0.0592), (0.0602, 0.0897, 0.062), 0.0),  # belly
    _Body(_TORSO, 2, (0.005, 0.0, 0.2076), (0.0673, 0.095, 0.0881), 0.0),  # chest
    _Body(_TORSO, 2, (-0.01, 0.0, 0.38), (0.0, 0.0, 0.04), 0.059),  # head
)
_LEFT_LEG: Final = (
    _Body(_LEG, 4, (0.0354, -0.0002, -0.0532), (0.0, 0.0, 0.0425), 0.0489, (0.9966, -0.0029, 0.0820, 0.0)),  # hip
    _Body(_LEG, 5, (-0.0386, -0.0042, -0.1038), (0.0, 0.0, 0.0813), 0.0507, (0.9724, -0.0206, 0.2324, 0.0)),  # thigh
    _Body(_LEG, 6, (0.0110, 0.0020, -0.0727), (0.0, 0.0, 0.0622), 0.0463, (0.9993, -0.0302, 0.0201, 0.0)),  # shank
)


def _mirrored(body: _Body) -> _Body:
    """The same on the right leg."""
    (x, y, z), (w, a, b, c) = body.pos, body.quat_wxyz
    return body._replace(limb=body.limb + 1, pos=(x, -y, z), quat_wxyz=(w, -a, b, -c))


_BODIES: Final = (*_TRUNK, *_LEFT_LEG, *map(_mirrored, _LEFT_LEG))
_SPHERE: Final = np.insert(_ARM[:, 1:4], 3, 1.0, axis=1)
_SPHERES: Final = np.stack([_SPHERE, _SPHERE * [1.0, -1.0, 1.0, 1.0]], axis=1)[..., None]  # (14, 2, 4, 1)
_RADII: Final = np.tile(_ARM[:, 4], 2)
_ARM_DEPTH: Final = _ARM[:, 0].astype(np.intp)
_LIMB, _DEPTH = np.array([(max(body.limb, 0), body.depth) for body in _BODIES]).T
_IN_PELVIS: Final = np.array([body.limb == _PELVIS for body in _BODIES])
_POS: Final = np.array([body.pos for body in _BODIES])
_TURN: Final = np.stack([quat_to_matrix(np.array(b.quat_wxyz) / np.linalg.norm(b.quat_wxyz)) for b in _BODIES])
_HALF: Final = np.array([body.half_size for body in _BODIES])
_RADIUS: Final = np.array([body.radius for body in _BODIES])
_MOVED_IN_TURN: Final = tuple(joints.GROUPS[name] for name in ("legs", "waist", "left_arm", "right_arm"))


def self_distances(joint_pos: np.ndarray) -> np.ndarray:
    """Free way (..., 476) m between each arm's spheres and trunk and legs, then between the arms; negative = touches.

    joint_pos: (..., 29) rad. The first 280 are 10 bodies by 28 spheres, the left arm's first; then 14 by 14 spheres.
    """
    poses = limb_poses(np.asarray(joint_pos, dtype=np.float64))
    spheres = (np.moveaxis(poses[_ARM_DEPTH][..., 2:, :, :], 0, -4) @ _SPHERES)[..., :3, 0]  # (..., 14, 2, 3)
    left, right = spheres[..., 0, :], spheres[..., 1, :]
    links = np.moveaxis(poses, 0, -4)[..., _DEPTH, _LIMB, :, :]  # (..., 10, 4, 4)
    links = np.where(_IN_PELVIS[:, None, None], np.eye(4), links)
    turn = links[..., :3, :3] @ _TURN
    pos = (links[..., :3, :3] @ _POS[..., None])[..., 0] + links[..., :3, 3]
    to_spheres = np.concatenate((left, right), axis=-2)[..., None, :, :] - pos[..., :, None, :]  # (..., 10, 28, 3)
    beyond = np.abs(to_spheres @ turn) - _HALF[:, None]
    outside = np.sqrt(np.square(np.maximum(beyond, 0.0)).sum(axis=-1)) + np.minimum(beyond.max(axis=-1), 0.0)
    from_bodies = outside - _RADIUS[:, None] - _RADII
    between = left[..., :, None, :] - right[..., None, :, :]
    from_arm = np.sqrt(np.square(between).sum(axis=-1)) - _RADII[:_COUNT, None] - _RADII[:_COUNT]
    batch = poses.shape[1:-3]
    return np.concatenate((from_bodies.reshape(*batch, -1), from_arm.reshape(*batch, -1)), axis=-1)


def keep_apart(
    target: np.ndarray, previous_target: np.ndarray, owned_mask: np.ndarray, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Shorten the steps that would bring an arm nearer than `margin` to the rest of the robot.

    A pair that is nearer already may only part. Of an arm that is in the way, joints that lead away go on: it slides.

    Args:
        target, previous_target: (29,) rad, what is asked now and what was sent last, one short step apart.
        owned_mask: (29,) bool; the others are taken to stay, and pass untouched.
        margin: m.

    Returns:
        The target (29,) rad, and the joints (29,) bool whose step was shortened.
    """
    wanted = np.where(owned_mask, target, previous_target)
    nothing = np.zeros(joints.NUM_JOINTS, dtype=bool)
    if (self_distances(wanted[None])[0] >= margin - _EQUAL).all():  # nearly always; where it was costs as much again
        return target, nothing
    before, after = self_distances(np.stack((previous_target, wanted)))
    floor = np.minimum(before, margin) - _EQUAL
    if (after >= floor).all():
        return target, nothing
    reached = previous_target.copy()
    for group in _MOVED_IN_TURN:
        step = np.zeros(joints.NUM_JOINTS)
        step[group] = (wanted - reached)[group]
        if step.any():
            reached = _go(reached, step, floor)
    return np.where(owned_mask, reached, target), owned_mask & (reached != wanted)


def _go(start: np.ndarray, step: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """As far as a step (29,) rad may go: all joints of it together, or those of them that may go alone."""
    reached = _longest(start, step, floor)
    if reached is not None:
        return reached
    moved = np.flatnonzero(step)
    alone = start + np.eye(joints.NUM_JOINTS)[moved] * step
    free = (self_distances(alone) >= floor).all(axis=1)
    rest = np.zeros(joints.NUM_JOINTS)
    rest[moved[free]] = step[moved[free]]
    reached = _longest(start, rest, floor)
    return start if reached is None else reached


def _longest(start: np.ndarray, step: np.ndarray, floor: np.ndarray) -> np.ndarray | None:
    tried = start + _SHARES[:, None] * step
    passed = (self_distances(tried) >= floor).all(axis=1)
    return tried[int(np.argmax(passed))] if passed.any() else None

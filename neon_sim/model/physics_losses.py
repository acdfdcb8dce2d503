"""Rules of physics as losses over an action chunk: torque, payload, sag, collision, smoothness, and a sum of them.

Each is zero where its rule is kept and differentiable where it is not, one number per row. They are plain functions
of a `Motion`: weigh them in training, or let `guidance.PhysicsGuide` steer a sampling head with their gradients.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.collision import TRUNK, Obstacle, arm_spheres, gaps
from neon_sim.model.g1_dynamics import TORSO_DEPTH, gravity_torque_of, limb_poses, servo_response

_LEGS: Final = frozenset(joints.GROUPS["legs"].tolist())


@dataclass(frozen=True, eq=False)
class Situation:
    """What a chunk alone does not tell. One robot for all rows, or one per row (B, ...); pelvis frame.

    posture: (29,) rad, where the joints are that the action does not own; HOME by default. gravity_b: (3,) direction
    of gravity; upright by default. executed: (A,) the action before the chunk's first step, in action units; none by
    default, and then nothing is asked of the seam.
    """

    posture: Tensor | None = None
    gravity_b: Tensor | None = None
    executed: Tensor | None = None


class Motion:
    """A chunk as the losses see it; what several of them need is computed once.

    Args:
        chunk: (B, T, A) in action units.
        space: what the numbers mean.
        situation: the rest of the robot.
        reference: (B, T, A) the chunk before any correction; `chunk` itself by default.
    """

    def __init__(
        self, chunk: Tensor, space: G1ActionSpace, situation: Situation | None = None, reference: Tensor | None = None
    ) -> None:
        if chunk.dim() != 3 or chunk.shape[-1] != space.dim:
            raise ValueError(f"Guidance wants chunks (B, T, {space.dim}) of {space}, got {tuple(chunk.shape)}.")
        self.chunk, self.space = chunk, space
        self.situation = situation or Situation()
        self.reference = chunk.detach() if reference is None else reference

    @cached_property
    def slope(self) -> Tensor:
        """(B, T, A) rad, m/s or rad/s per action unit, as the chunk has it: above and below 0 it may differ."""
        decoding = _decoding(self.space, self.chunk.dtype, self.chunk.device)
        return torch.where(self.chunk.detach() >= 0.0, decoding.above, decoding.below)

    @cached_property
    def values(self) -> Tensor:
        """(B, T, A) what the chunk commands: rad, m/s or rad/s, in action order. Every loss is a function of these."""
        return command_values(self.chunk, self.space)

    @cached_property
    def joint_target(self) -> Tensor:
        """(B, T, 29) rad, hardware order."""
        return self.joint_targets_of(self.values)

    @cached_property
    def poses(self) -> Tensor:
        """`g1_dynamics.limb_poses` (10, B, T, 4, 4, 4) of the targets."""
        return limb_poses(self.joint_target)

    @cached_property
    def executed(self) -> Tensor | None:
        """(B, 1, A) what the action before the first step commanded, as `values`."""
        given = self.situation.executed
        if given is None:
            return None
        rows = given.to(self.chunk).expand(len(self.chunk), self.space.dim)
        return command_values(rows.unsqueeze(1), self.space)

    @cached_property
    def carrying(self) -> Tensor:
        """(J,) hardware indices of the commanded joints whose load is known: arms and waist, not legs that stand."""
        owned = [index for index in self.space.joint_indices.tolist() if index not in _LEGS]
        return torch.tensor(owned, device=self.chunk.device)

    def gravity_torque(self, hand_mass: tuple[float, float] | None = None) -> Tensor:
        """(B, T, 29) N m that hold each step's posture, with kg in the left and right palm if given."""
        mass = None if hand_mass is None else self.chunk.new_tensor(hand_mass)
        gravity_b = self.situation.gravity_b
        if gravity_b is not None:
            gravity_b = gravity_b.to(self.chunk).expand(len(self.chunk), 3).unsqueeze(1)
        return gravity_torque_of(self.poses, gravity_b, mass)

    def joint_targets_of(self, values: Tensor) -> Tensor:
        """(B, T, 29) rad from values (B, T, A); joints that the action does not own stand as the situation has them."""
        posture = self.situation.posture
        decoding = _decoding(self.space, values.dtype, values.device)
        rest = (decoding.home if posture is None else posture.to(values)).expand(len(values), joints.NUM_JOINTS)
        rest = rest.unsqueeze(1).expand(-1, values.shape[1], -1)
        return torch.cat([values, rest], dim=-1).index_select(-1, decoding.order)


class _Decoding(NamedTuple):
    center: Tensor  # (A,) what action 0 means
    above: Tensor  # (A,) slope above it
    below: Tensor  # (A,) slope below it
    home: Tensor  # (29,) rad
    order: Tensor  # (29,) where each joint stands when the action's values and a posture are put in a row


def command_values(actions: Tensor, space: G1ActionSpace) -> Tensor:
    """`G1ActionSpace.decode` in torch, differentiable, in action order: (..., A) -> (..., A) rad, m/s, rad/s."""
    decoding = _decoding(space, actions.dtype, actions.device)
    return decoding.center + actions * torch.where(actions >= 0.0, decoding.above, decoding.below)


@lru_cache(maxsize=32)
def _decoding(space: G1ActionSpace, dtype: torch.dtype, device: torch.device) -> _Decoding:
    order = space.dim + np.arange(joints.NUM_JOINTS)
    order[space.joint_indices] = [i for i, name in enumerate(space.names) if name in joints.JOINT_INDEX]
    arrays = space.center, space.upper - space.center, space.center - space.lower, joints.HOME
    with torch.inference_mode(False):  # autograd could not use inference tensors later
        center, above, below, home = (torch.tensor(array, dtype=dtype, device=device) for array in arrays)
        return _Decoding(center, above, below, home, torch.tensor(order, device=device))


class PhysicsLoss(Protocol):
    """How far a chunk is from keeping a rule: 0 where it does."""

    def __call__(self, motion: Motion) -> Tensor:
        """(B,), one number per row, with a gradient to `motion.chunk`."""


@dataclass(frozen=True)
class TorqueLoss:
    """Squared excess of each joint's torque over `fraction` of its motor's effort, in shares of that, summed.

    The torque is `servo_torque`'s estimate. Legs are left out: they carry the robot.
    Raises ValueError for a fraction outside (0, 1].
    """

    fraction: float = 0.8

    def __post_init__(self) -> None:
        _check(self.fraction)

    def __call__(self, motion: Motion) -> Tensor:
        """(B,)."""
        return _excess(servo_torque(motion), self.fraction, motion)


def servo_torque(motion: Motion) -> Tensor:
    """Estimated torque (B, T, 29) N m of every motor as each step begins; not for legs that stand.

    Gravity's at the target, plus what the servo gives to catch up with the targets (`g1_dynamics.servo_response`),
    from rest at the executed action, or at the first step where that is not known. What the joints do to each other
    beyond their weight, and contacts, are left out.
    """
    target = motion.joint_target
    start = target[:, :1] if motion.executed is None else motion.joint_targets_of(motion.executed)
    jumps = torch.cat([start, target], dim=1).diff(dim=1)
    pull = torch.einsum("bsj,stj->btj", jumps, _responses(target.shape[1], target.dtype, target.device))
    return motion.gravity_torque() + pull


@lru_cache(maxsize=32)
def _responses(steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`servo_response` to a jump at each step, at each step: (jump, step, 29), zero before the jump."""
    later = np.arange(steps) - np.arange(steps)[:, None]
    table = np.where(later[..., None] >= 0, servo_response(steps)[np.maximum(later, 0)], 0.0)
    with torch.inference_mode(False):
        return torch.tensor(table, dtype=dtype, device=device)


@dataclass(frozen=True)
class PayloadLoss:
    """The torque margin with something in the hands: as `TorqueLoss`, of gravity alone, `hand_mass` kg in the palms.

    hand_mass: kg in the left and right hand. Raises ValueError for a fraction outside (0, 1] and a negative mass.
    """

    hand_mass: tuple[float, float]
    fraction: float = 0.8

    def __post_init__(self) -> None:
        _check(self.fraction, self.hand_mass)

    def __call__(self, motion: Motion) -> Tensor:
        """(B,)."""
        return _excess(motion.gravity_torque(self.hand_mass), self.fraction, motion)


@dataclass(frozen=True)
class SagLoss:
    """Squared distance, rad^2 summed, between where a loaded arm comes to rest and where the chunk wanted it.

    A position servo rests at target - torque / kp. A policy knows the sag of its own arms; the load's is new to it.
    The load's torque is taken where the arm is wanted (`Motion.reference`): that is where it is once it is lifted.
    In a guide it belongs to the last sampling step (GuidanceConfig.start_time = 1 - 1 / steps): an estimate that was
    lifted before would be taken for the wanted one and lifted again. Raises ValueError for a negative mass.
    """

    hand_mass: tuple[float, float]

    def __post_init__(self) -> None:
        _check(hand_mass=self.hand_mass)

    def __call__(self, motion: Motion) -> Tensor:
        """(B,)."""
        with torch.no_grad():
            wanted = Motion(motion.reference, motion.space, motion.situation)
            added = wanted.gravity_torque(self.hand_mass) - wanted.gravity_torque()
            lift = added / added.new_tensor(joints.KP)
        short = motion.joint_target - lift - wanted.joint_target
        return short[..., motion.carrying].square().sum((1, 2))


@dataclass(frozen=True)
class CollisionLoss:
    """Squared depth, m^2 summed, to which the spheres along both arms enter the margin of an obstacle.

    obstacles: in the pelvis frame. own_trunk: also keep away from the robot's own pelvis, belly, chest and head.
    """

    obstacles: tuple[Obstacle, ...] = ()
    own_trunk: bool = True

    def __call__(self, motion: Motion) -> Tensor:
        """(B,)."""
        centers, radii = arm_spheres(motion.poses)
        loss = motion.chunk.new_zeros(len(motion.chunk))
        trunk = TRUNK if self.own_trunk else {}
        torso = motion.poses[TORSO_DEPTH, ..., 2, :, :]
        for frame, bodies in (("pelvis", self.obstacles), *trunk.items()):
            points = (centers - torso[..., None, :3, 3]) @ torso[..., :3, :3] if frame == "torso" else centers
            if bodies:
                margin = centers.new_tensor([body.margin for body in bodies])
                depth = (margin - (gaps(points, bodies) - radii[:, None])).clamp(min=0.0)
                loss = loss + depth.square().sum((1, 2, 3))
        return loss


@dataclass(frozen=True)
class SmoothLoss:
    """Squared second differences of what is commanded, and squared distance of the first step from the one executed.

    In rad^2, and (m/s)^2 for the velocity command, summed. seam_weight: of the latter part. The executed action, if
    known, is also the step before the first in the differences.
    """

    seam_weight: float = 1.0

    def __call__(self, motion: Motion) -> Tensor:
        """(B,)."""
        if motion.executed is None:
            return motion.values.diff(n=2, dim=1).square().sum((1, 2))
        steps = torch.cat([motion.executed, motion.values], dim=1).diff(dim=1)
        return steps.diff(dim=1).square().sum((1, 2)) + self.seam_weight * steps[:, 0].square().sum(1)


@dataclass(frozen=True)
class CompositeLoss:
    """Several losses with their weights. As a number it is the weighted sum; a guide weighs their corrections.

    Raises ValueError for no part at all and for a weight that is not positive.
    """

    parts: tuple[tuple[PhysicsLoss, float], ...]

    def __post_init__(self) -> None:
        if not self.parts or not all(weight > 0.0 for _, weight in self.parts):
            raise ValueError(f"CompositeLoss wants (loss, weight) pairs with weights above 0, got {self.parts}.")

    def __call__(self, motion: Motion) -> Tensor:
        """(B,)."""
        return torch.stack([weight * loss(motion) for loss, weight in self.parts]).sum(0)


def _excess(torque: Tensor, fraction: float, motion: Motion) -> Tensor:
    """Squared excess over `fraction` of the effort (B,), in shares of that, from torques (B, T, 29) N m."""
    share = torque.abs() / (fraction * torque.new_tensor(joints.EFFORT))
    return (share[..., motion.carrying] - 1.0).clamp(min=0.0).square().sum((1, 2))


def _check(fraction: float = 1.0, hand_mass: tuple[float, float] = (0.0, 0.0)) -> None:
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction wants a share of the motor's effort in (0, 1], got {fraction}.")
    if len(hand_mass) != 2 or not all(mass >= 0.0 for mass in hand_mass):
        raise ValueError(f"hand_mass wants kg in the left and the right hand, 0 or more, got {hand_mass}.")

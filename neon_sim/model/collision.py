"""Distances between the G1's arms and what they must not touch, differentiable: spheres against rounded boxes.

One shape serves all: a box with its edges rounded by a radius is a sphere where the box has no size, and a capsule
where it has one size only. The spheres and the trunk follow the collision geoms of `assets/g1/g1.xml`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.g1.geometry import quat_to_matrix

MARGIN: Final = 0.03  # m kept between an arm and an obstacle, unless the obstacle says otherwise
TRUNK_MARGIN: Final = 0.01  # m; in the home pose the upper arms hang 0.033 m from the chest


@dataclass(frozen=True)
class Obstacle:
    """A rounded box. A sphere is `Obstacle(center, radius=0.1)`, a box `Obstacle(center, half_size=(0.1, 0.2, 0.05))`.

    pos: (3,) m, its centre. half_size: (3,) m along its own axes. radius: m added all around. quat_wxyz: its
    orientation. margin: m to be kept free. Raises ValueError for negative sizes and for no size at all.
    """

    pos: tuple[float, float, float]
    half_size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    radius: float = 0.0
    quat_wxyz: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    margin: float = MARGIN

    def __post_init__(self) -> None:
        sizes = (*self.half_size, self.radius)
        if min(sizes) < 0.0 or max(sizes) <= 0.0 or self.margin < 0.0:
            raise ValueError(f"An Obstacle wants a size or a radius above 0 and no negative one, got {self}.")


# The trunk's collision geoms, each in the frame that moves with it.
TRUNK: Final[dict[str, tuple[Obstacle, ...]]] = {
    "pelvis": (Obstacle((0.0, 0.0, -0.0715), (0.047, 0.062, 0.072), margin=TRUNK_MARGIN),),
    "torso": (
        Obstacle((0.0048, 0.0, 0.0592), (0.0602, 0.0897, 0.062), margin=TRUNK_MARGIN),  # belly
        Obstacle((0.005, 0.0, 0.2076), (0.0673, 0.095, 0.0881), margin=TRUNK_MARGIN),  # chest
        Obstacle((-0.01, 0.0, 0.38), (0.0, 0.0, 0.04), radius=0.059, margin=TRUNK_MARGIN),  # head, a capsule
    ),
}

# Spheres of the left arm from the upper arm on (the shoulder cannot leave the trunk): depth of the link in its limb,
# centre in the link (m), radius (m). The right arm's are their mirror image, y negative.
_ARM_SPHERES: Final = np.array(
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
SPHERES_PER_ARM: Final = len(_ARM_SPHERES)


def arm_spheres(poses: Tensor) -> tuple[Tensor, Tensor]:
    """Spheres along both arms: centres (..., 28, 3) m in the pelvis frame and radii (28,) m, the left arm's first.

    poses: `g1_dynamics.limb_poses` (10, ..., 4, 4, 4).
    """
    depth, both, radii = _spheres(poses.dtype, poses.device)
    links = poses[..., 2:, :, :].index_select(0, depth).movedim(0, -4)  # (..., 14, 2, 4, 4)
    places = (links @ both)[..., :3, 0].transpose(-3, -2)  # (..., 2, 14, 3)
    return places.flatten(-3, -2), radii


def gaps(points: Tensor, bodies: tuple[Obstacle, ...]) -> Tensor:
    """Distance (..., N, M) m of points (..., N, 3) to the surface of each of M bodies; negative inside."""
    pos, turn, half, radius = _tables(bodies, points.dtype, points.device)
    local = ((points[..., None, :] - pos).unsqueeze(-2) @ turn).squeeze(-2)
    beyond = local.abs() - half
    outside = torch.linalg.vector_norm(beyond.clamp(min=0.0), dim=-1)
    return outside + beyond.amax(-1).clamp(max=0.0) - radius


@lru_cache(maxsize=64)
def _tables(bodies: tuple[Obstacle, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Centres (M, 3), orientations (M, 3, 3), half sizes (M, 3) and radii (M,)."""
    arrays = (
        [body.pos for body in bodies],
        np.stack([quat_to_matrix(np.array(body.quat_wxyz)) for body in bodies]),
        [body.half_size for body in bodies],
        [body.radius for body in bodies],
    )
    with torch.inference_mode(False):  # autograd could not use inference tensors later
        pos, turn, half, radius = (torch.tensor(np.array(array), dtype=dtype, device=device) for array in arrays)
        return pos, turn, half, radius


@lru_cache(maxsize=8)
def _spheres(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Depth of each sphere's link (14,), its centre there on the left and right (14, 2, 4, 1), all radii (28,)."""
    depth, center, radius = _ARM_SPHERES[:, 0], np.insert(_ARM_SPHERES[:, 1:4], 3, 1.0, axis=1), _ARM_SPHERES[:, 4]
    both = np.stack([center, center * [1.0, -1.0, 1.0, 1.0]], axis=1)[..., None]
    with torch.inference_mode(False):
        centers, radii = (torch.tensor(array, dtype=dtype, device=device) for array in (both, np.tile(radius, 2)))
        return torch.tensor(depth.astype(np.intp), device=device), centers, radii

"""What a physics guide has to know of the robot now, out of what the robot senses."""

import numpy as np
import torch

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.joints import NUM_JOINTS
from neon_sim.inference.real_time import last_target
from neon_sim.model.physics_losses import Situation

_GRAVITY, _VELOCITY = slice(119, 122), slice(122, 125)  # of the proprio vector


def sensed_situation(proprio: np.ndarray, space: G1ActionSpace) -> Situation:
    """Posture, direction of gravity and the last executed action out of proprio (125,)."""
    body = np.asarray(proprio, dtype=np.float64)
    executed = space.encode(last_target(body), body[_VELOCITY])
    arrays = body[:NUM_JOINTS], body[_GRAVITY], executed
    posture, gravity_b, action = (torch.from_numpy(array.astype(np.float32)) for array in arrays)
    return Situation(posture, gravity_b, action)

"""BlindPolicy: a NeonVLA that learned without pictures, from the simulation's `state` and words."""

from collections.abc import Mapping

import numpy as np

from neon_sim.inference.neon_policy import NeonPolicy


class BlindPolicy(NeonPolicy):
    """Shows its backbone the black pictures that training showed it; what it is told of a camera is left out.

    `NeonPolicy`'s arguments.
    """

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Keep the observation."""
        side = self.model.config.backbone.image_size
        super().observe({**obs, "camera": np.zeros((side, side, 3), np.uint8)}, now_s)

"""Whole-body demonstrations: the task's expert moves the arms, and the standing controller shows how to stay up."""

from typing import Any, Final

import numpy as np

from neon_sim.inference.references import ExpertPolicy
from neon_sim.locomotion.balance import Balance

_OWN: Final = slice(0, 15)  # legs and waist, the first in hardware order


class StandingExpert(ExpertPolicy):
    """The expert where the policy owns every joint: chunks of one action, because balance answers to every step.

    In this mode no walker runs in the robot: a task's expert alone, which leaves the legs at home, falls. It does not
    step, so it is for tasks that are done on the spot.

    Args:
        env: in whole_body, simulated.

    Raises:
        ValueError: another control mode.
    """

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        if env.action_map.control_mode != "whole_body":
            raise ValueError(f"StandingExpert commands every joint, and this env is {env.action_map.control_mode}.")
        self._balance = Balance()

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the episode before."""
        self._balance.reset()

    def act(self) -> np.ndarray:
        """(1, 1, 29): the next action alone."""
        space = self.env.action_map
        target, _ = space.decode(self.env.expert_chunk(1)[0])
        target[_OWN] = self._balance.own_targets(self.env.robot.read(), self.env.config.height)
        return space.encode(target, np.zeros(3))[None, None]

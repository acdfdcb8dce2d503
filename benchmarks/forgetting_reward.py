"""What labels would buy: a learner that is told each episode's reward, a comparator for those that are told nothing.

Reward-weighted regression (Peters and Schaal 2007): it imitates what it did, for the goal that it was asked for, the
more the better it was rewarded. What it tries is the practice that all arms share, a place beside the ball; nobody
shows it what an episode achieved, which is what hindsight lives on.
"""

from typing import Final

import numpy as np
from torch import Tensor

from neon_sim.training.self_learner import NeonSelfLearner

TEMPERATURE: Final = 0.5  # standard deviations of reward that make an episode count e times as much; not tuned
MOST: Final = 3.0  # standard deviations, so that no single episode is all that counts
LAST: Final = 16  # steps of an episode that are rewarded: where it ended, not the way there


def reward_of(rewards: np.ndarray) -> float:
    """The label: the task's reward, mean over the end of the episode's rewards (steps,)."""
    return float(rewards[-LAST:].mean())


class RewardedLearner(NeonSelfLearner):
    """A `NeonSelfLearner` whose experience has a reward in the place of hindsight's weight.

    Attributes:
        reward: of the episode that is about to end; set it before `end_episode`.
    """

    reward: float = 0.0

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """As without labels, but rewards become weights: exp(how many deviations above the batch's mean / T)."""
        rewards = batch["weight"]
        above = (rewards - rewards.mean()) / rewards.std(correction=0).clamp(min=1e-3)
        return super().losses(batch | {"weight": (above.clamp(-MOST, MOST) / TEMPERATURE).exp()})

    def _remember(self, last_fused: Tensor, last_palms: Tensor, whole: int) -> None:
        """Each whole chunk is an answer to the goal that was read, as good as its episode was rewarded."""
        offset = self.policy.offset[0]
        self._keep(self._chunks(last_fused, lambda decision: decision.goal[0] - offset, self.reward)[:whole])

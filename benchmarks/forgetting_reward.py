"""What labels would buy: a learner that is told each episode's reward, a comparator for those that are told nothing.

Hindsight as all arms have it, and an episode counts the more the better it was rewarded: the weights of reward-weighted
regression (Peters and Schaal 2007). That regression by itself, in the place of hindsight, unlearns the task: it
imitates what it tried, a place beside the ball, as the answer to the ball (RESULTS.md, a whole life).
"""

from typing import Final

import numpy as np
from torch import Tensor

from neon_sim.training.lived_chunk import where_it_ended
from neon_sim.training.self_learner import NeonSelfLearner

TEMPERATURE: Final = 0.5  # standard deviations of reward that make an episode count e times as much; not tuned
MOST: Final = 3.0  # standard deviations, so that no single episode is all that counts
LAST: Final = 16  # steps of an episode that are rewarded: where it ended, not the way there


def reward_of(rewards: np.ndarray) -> float:
    """The label: the task's reward, mean over the end of the episode's rewards (steps,)."""
    return float(rewards[-LAST:].mean())


class RewardedLearner(NeonSelfLearner):
    """A `NeonSelfLearner` that is told how good its episodes were.

    Attributes:
        reward: of the episode that is about to end, above 0; set it before `end_episode`.
    """

    reward: float = 0.0

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """As without labels, but what arrived counts exp(how many deviations above the mean of those / T)."""
        rewards = batch["weight"]
        arrived = rewards > 0.0
        known = rewards[arrived] if bool(arrived.any()) else rewards
        above = (rewards - known.mean()) / known.std(correction=0).clamp(min=1e-3)
        return super().losses(batch | {"weight": arrived * (above.clamp(-MOST, MOST) / TEMPERATURE).exp()})

    def _remember(self, last_fused: Tensor, last_palms: Tensor, whole: int) -> None:
        """As without labels; what counts 1 there, because the palm came to rest, has its reward for a weight."""
        achieved, arrived = where_it_ended(self._episode[whole - 1], last_palms, self.config.settled_m)
        self._keep(self._chunks(last_fused, lambda _: achieved, arrived * self.reward)[:whole])

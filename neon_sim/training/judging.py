"""What is held back from learning, to judge updates by: which episodes, and whether they are enough.

Where hindsight is the only loss, a chunk whose episode ended nowhere (its weight is 0) says nothing: by such chunks
every update would look as good as any other.
"""

from collections.abc import Iterable, Sequence

from neon_sim.training.experience import Experience
from neon_sim.training.learner_config import SelfLearnerConfig


def telling(items: Iterable[Experience], config: SelfLearnerConfig) -> int:
    """How many of the chunks can tell a better update from a worse one."""
    others = config.outcome_weight or config.coherence_weight or config.consistency_weight
    return sum(item.weight > 0.0 or others > 0.0 for item in items)


def is_held_back(
    episode: Sequence[Experience], number: int, held_back: Iterable[Experience], config: SelfLearnerConfig
) -> bool:
    """Whether an episode is to judge, and not to be learned from.

    Each `hold_back_every`-th is, and as long as too few chunks can tell anything each that can.
    """
    checks = config.adoption
    if checks is None:
        return False
    if number % checks.hold_back_every == 0:
        return True
    return telling(held_back, config) < checks.least_held_back and telling(episode, config) > 0


def why_wait(held_back: Iterable[Experience], config: SelfLearnerConfig) -> str:
    """Why no update can be judged yet, in words; "" if it can."""
    checks, told = config.adoption, telling(held_back, config)
    if checks is None or told >= checks.least_held_back:
        return ""
    return f"too little is held back of this regime: {told} chunks that tell anything, {checks.least_held_back} wanted"

"""What one shard of the forgetting benchmark is: who lives, in what, and where it is written."""

from dataclasses import dataclass
from pathlib import Path

from forgetting_arms import ARMS, CANDIDATES, STRENGTHS, Arm, Preset

from neon_sim.eval.regimes import Regime


@dataclass(frozen=True)
class ShardJob:
    """One arm with one seed."""

    arm: str
    seed: int
    task: str
    regimes: tuple[Regime, ...]
    preset: Preset
    policy: str  # folder of the checkpoint that every arm begins with
    out: Path
    own: bool = True  # the policy is the task's own, see `forgetting.make_jobs`

    @property
    def kind(self) -> Arm:
        """How it lives."""
        return (ARMS | CANDIDATES | STRENGTHS)[self.arm]

    @property
    def path(self) -> Path:
        """Of the finished shard."""
        return self.out / "shards" / f"{self.arm}_{self.seed}.json"

    @property
    def state_path(self) -> Path:
        """Of the life in progress."""
        return self.out / "states" / f"{self.arm}_{self.seed}.pt"

    @property
    def rival_path(self) -> Path:
        """Of the heads of the arm `randomised`."""
        return self.out / "rival.pt"

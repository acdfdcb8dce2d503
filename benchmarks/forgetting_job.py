"""What one shard of the forgetting benchmark is: who lives, in what, and where it is written."""

from dataclasses import dataclass, replace
from pathlib import Path

from forgetting_arms import ARMS, CANDIDATES, STRENGTHS, Arm, Preset
from forgetting_randomised import RIVALS, RivalConfig

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
    def settings_path(self) -> Path:
        """Of what all shards of the arm are lived with."""
        return self.out / "settings" / f"{self.arm}.json"

    @property
    def failure_path(self) -> Path:
        """Of what went wrong when it was lived last, if anything did."""
        return self.out / "failed" / f"{self.arm}_{self.seed}.txt"

    @property
    def rival(self) -> RivalConfig:
        """Of heads that remember: what is taught in a life is its own, of the arm `randomised` there are `RIVALS`."""
        return replace(self.preset.rival, seed=self.seed if self.kind.plan == "taught" else self.seed % RIVALS)

    @property
    def rival_path(self) -> Path:
        """Of the heads of the arm `randomised` with this seed."""
        return self.out / f"rival_{self.rival.seed}.pt"

"""The settings of a `NeonSelfLearner`."""

from dataclasses import dataclass
from typing import Final

from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.drift import DriftConfig
from neon_sim.training.protection import ProtectionConfig, ReplayConfig

# The documents' three losses, weighed so that each has a say beside hindsight: `SelfLearnerConfig(**DOCUMENTS_LOSSES)`.
DOCUMENTS_LOSSES: Final = {"outcome_weight": 0.002, "coherence_weight": 0.0001, "consistency_weight": 0.02}
# So it was measured: with the shipped heads, as much memory as online EWC takes for its anchor and Fisher, 2.7 MB.
# A chunk is larger for heads that look at the backbone's tokens: of those as many as fit into the bytes.
REHEARSED: Final = ReplayConfig(budget_bytes=2**28, rows=818)


@dataclass(frozen=True)
class SelfLearnerConfig:
    """Weights of the losses and of the protection; the documents give the cycle, the constants are ours.

    Learning rate, `adam_eps` and which losses are on were chosen on short lives with seeds that are not reported:
    `benchmarks/forgetting.py --choose`, whose table is in RESULTS.md. `DOCUMENTS_LOSSES` turns the documents' three on.
    The protection is the one that did best there on whole lives; EWC is `OnlineEWCConfig()`.
    """

    learning_rate: float = 1e-4
    adam_eps: float = 1e-5  # a weight whose gradients are smaller moves by less than the learning rate
    updates_per_chunk: int = 2
    batch_size: int = 64  # rows of a step, those that are rehearsed among them
    least_chunks: int | None = None  # to learn from, in batches as small as they are; None = a whole batch
    buffer_size: int = 4000  # chunks
    hindsight_weight: float = 20.0  # as in pretraining: a chunk's MSE is small
    outcome_weight: float = 0.0  # this and the next two were not seen to help
    coherence_weight: float = 0.0
    consistency_weight: float = 0.0
    protection: ProtectionConfig = REHEARSED  # NoneConfig() = naive fine-tuning, which forgets
    drift: DriftConfig | None = None  # when to learn; None = always
    drift_ends_regimes: bool = True  # a change that drift notices ends a regime; False: only the script says so
    adoption: AdoptionConfig | None = None  # what an update must stand up to; None = nothing
    fisher_samples: int = 512
    practice_noise_m: float = 0.0  # spread of the goals practised around the one that was read
    settled_m: float = 0.02  # a palm that moves less than this over a chunk has arrived
    known_m: float = 0.05  # a palm that came to rest so near to where it was asked to: such chunks are protected
    max_grad_norm: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        weights = [getattr(self, f"{name}_weight") for name in ("hindsight", "outcome", "coherence", "consistency")]
        if not (min(weights) >= 0.0 and max(weights) > 0.0):
            raise ValueError(f"A learner wants at least one loss, and no weight below 0, got {weights}.")

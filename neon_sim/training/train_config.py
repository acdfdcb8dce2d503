"""TrainConfig: one training of the action layer, from data to checkpoint."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from neon_sim.data.data_soup import DataSoupConfig
from neon_sim.model.neon_vla import NeonConfig
from neon_sim.names import nearest

OPTIMIZERS: Final = ("paged_adamw_8bit", "adamw")


@dataclass
class TrainConfig:
    """Everything a training depends on. Not frozen: the documents' code sets fields of a preset.

    Optimiser defaults are the paper's (table 3). An epoch is as many samples as cut every episode once.
    """

    model: NeonConfig = field(default_factory=NeonConfig)
    data: DataSoupConfig | None = None
    output_dir: str = "runs/train"
    epochs: int = 3
    max_steps: int | None = None  # optimiser steps, in place of `epochs`
    batch_size: int = 4  # samples in one forward pass of one process
    gradient_accumulation: int = 8  # forward passes in one optimiser step
    learning_rate: float = 2e-4
    optim: str = "paged_adamw_8bit"  # needs bitsandbytes; without it torch's AdamW, said aloud
    adam_betas: tuple[float, float] = (0.85, 0.99)
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1  # share of the steps
    max_grad_norm: float = 0.3
    bf16: bool = True  # where the device has it
    ema_decay: float = 0.0  # of an average of the weights that is saved in their place; 0 = none
    goal_weight: float = 0.05  # of reading the goal, in samples that say what it was
    group_weights: dict[str, float] = field(default_factory=dict)  # loss weight of a joint group; 1 where not named
    feature_cache: str | None = None  # folder; what a frozen backbone says about a clip is kept there
    feature_cache_gb: float = 64.0  # disk that this folder may take for one backbone; beyond it nothing is added
    reworded: float = 0.0  # share of the samples whose words are said otherwise; for a text side that has word vectors
    stride: int = 16  # control steps between two samples of an episode
    num_workers: int = 0  # processes that read data; 0 = in this one
    sample_cache_gb: float = 32.0  # disk that a run may take for samples that were cut and decoded, until it ends
    shard_backbone: bool = False  # several processes: each keeps a share of a trained backbone's weights (FSDP2)
    seed: int = 0
    device: str = "auto"  # cuda, mps or cpu
    save_every_s: float = 300.0
    evaluate_every: int = 200  # optimiser steps
    evaluate_samples: int = 256
    push_to_hub: bool = True  # only ever with a `hub_model_id`
    hub_model_id: str | None = None
    hub_private: bool = True
    push_every_s: float = 1800.0  # at least so long between two pushes of a new best; the end is pushed in any case
    teacher: str | None = None  # folder of a checkpoint whose chunks are learned beside the data's
    teacher_weight: float = 0.5

    def check(self) -> None:
        """Raise ValueError for a value that makes no sense, naming the field, the value and what is wanted."""
        if self.optim not in OPTIMIZERS:
            raise nearest("optimiser", self.optim, OPTIMIZERS)
        positive = ("epochs", "batch_size", "gradient_accumulation", "learning_rate", "max_grad_norm", "stride")
        for name in (*positive, "evaluate_every", "evaluate_samples"):
            if not getattr(self, name) > 0:
                raise ValueError(f"TrainConfig.{name} must be positive, got {getattr(self, name)}.")
        for name in ("warmup_ratio", "ema_decay", "teacher_weight"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"TrainConfig.{name} wants a number in [0, 1), got {getattr(self, name)}.")
        if not 0.0 <= self.reworded <= 1.0:
            raise ValueError(f"TrainConfig.reworded wants a number in [0, 1], got {self.reworded}.")
        for name in ("num_workers", "sample_cache_gb", "feature_cache_gb"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"TrainConfig.{name} must not be negative, got {getattr(self, name)}.")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"TrainConfig.max_steps wants at least 1, got {self.max_steps}.")
        if self.shard_backbone:
            self._check_shards()
        if self.data is None:
            raise ValueError("TrainConfig.data is missing: say what to learn from, DataSoupConfig(sources=[...]).")

    def _check_shards(self) -> None:
        if self.model.backbone.freeze_backbone:
            raise ValueError(
                "TrainConfig.shard_backbone is for a backbone that is trained: set BackboneConfig.freeze_backbone to "
                "False, or leave it out; every process keeps a frozen one whole."
            )
        if self.optim != "adamw" or self.ema_decay:
            raise ValueError(
                "TrainConfig.shard_backbone wants optim 'adamw' and ema_decay 0: neither 8-bit states nor the average "
                f"can be cut into shares. Got {self.optim!r} and {self.ema_decay}."
            )

    def decides(self) -> dict[str, Any]:
        """The fields that change the weights: a run that goes on must have the same ones.

        Of the data, whether what cannot be read is left out and how much is kept in memory are none of them: nothing
        that was learned so far would have been other.
        """
        free = {"output_dir", "num_workers", "sample_cache_gb", "feature_cache_gb", "save_every_s"}
        free |= {"push_to_hub", "hub_model_id", "hub_private", "push_every_s"}
        free |= {name for name in ("shard_backbone", "reworded") if not getattr(self, name)}  # runs from before them
        decisive = {name: value for name, value in vars(self).items() if name not in {*free, "feature_cache", "device"}}
        if self.data is not None:  # the defaults stand for any value, so that runs that began with them go on
            decisive["data"] = replace(self.data, skip_bad=False, memory_mb=DataSoupConfig.memory_mb)
        return decisive

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return Path(self.output_dir)

"""The optimiser and its schedule."""

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from neon_sim.training.train_config import TrainConfig


def make_optimizer(params: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over `params`: bitsandbytes' paged 8-bit one if the config asks for it and it is there, else torch's."""
    options: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.adam_betas,
        "weight_decay": config.weight_decay,
    }
    if config.optim == "paged_adamw_8bit":
        try:
            from bitsandbytes.optim import PagedAdamW8bit
        except ImportError:
            warnings.warn(
                "bitsandbytes is not installed: AdamW with 32-bit states. pip install 'neon-sim[vla]'", stacklevel=2
            )
        else:
            optimizer: torch.optim.Optimizer = PagedAdamW8bit(list(params), **options)
            return optimizer
    return torch.optim.AdamW(params, **options)


def rate_at(step: int, total: int, config: TrainConfig) -> float:
    """Learning rate of optimiser step `step` (from 0) of `total`: linear warm-up, then half a cosine down to 0."""
    warmup = config.warmup_ratio * total
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1.0)))

"""How a learner keeps what it knew: interchangeable strategies behind the few calls of `Protection`."""

from collections.abc import Mapping

import numpy as np
from torch import nn

from neon_sim.names import nearest
from neon_sim.training.protection.replay import EWCReplay, EWCReplayConfig, Replay, ReplayConfig
from neon_sim.training.protection.reservoir import Reservoir, finite_rows
from neon_sim.training.protection.springs import L2, EWCConfig, L2Config, OnlineEWC, OnlineEWCConfig, SeparateEWC
from neon_sim.training.protection.strategy import NoneConfig, Protection

ProtectionConfig = NoneConfig | L2Config | EWCConfig | OnlineEWCConfig | ReplayConfig | EWCReplayConfig

PROTECTIONS: dict[str, type[ProtectionConfig]] = {
    "none": NoneConfig,
    "l2": L2Config,
    "ewc": EWCConfig,
    "online_ewc": OnlineEWCConfig,
    "replay": ReplayConfig,
    "ewc_replay": EWCReplayConfig,
}

__all__ = [
    "L2",
    "PROTECTIONS",
    "EWCConfig",
    "EWCReplay",
    "EWCReplayConfig",
    "L2Config",
    "NoneConfig",
    "OnlineEWC",
    "OnlineEWCConfig",
    "Protection",
    "ProtectionConfig",
    "Replay",
    "ReplayConfig",
    "Reservoir",
    "SeparateEWC",
    "finite_rows",
    "make_protection",
    "protection_config",
]


def make_protection(
    config: ProtectionConfig, params: Mapping[str, nn.Parameter], rng: np.random.Generator
) -> Protection:
    """Build the strategy that a config describes.

    Args:
        config: one of `PROTECTIONS`' configs.
        params: the parameters that learn, by name.
        rng: for strategies that keep samples; it becomes part of the strategy's state.

    Raises:
        ValueError: something else than such a config.
    """
    match config:
        case NoneConfig():
            return Protection()
        case L2Config():
            return L2(params, config)
        case EWCConfig():
            return SeparateEWC(params, config)
        case OnlineEWCConfig():
            return OnlineEWC(params, config)
        case ReplayConfig():
            return Replay(config, rng)
        case EWCReplayConfig():
            return EWCReplay(params, config, rng)
    raise nearest("protection", config, PROTECTIONS)


def protection_config(name: str) -> ProtectionConfig:
    """The named strategy's config with its defaults; vary it with `dataclasses.replace`.

    Raises:
        ValueError: no such strategy.
    """
    if name not in PROTECTIONS:
        raise nearest("protection", name, PROTECTIONS)
    return PROTECTIONS[name]()

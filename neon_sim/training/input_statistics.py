"""Mean and spread of the vector senses, so that encoders see numbers of about one."""

from typing import Final

import numpy as np
import torch

from neon_sim.data.data_soup import DataSoup
from neon_sim.model.encoders import VectorEncoder
from neon_sim.model.neon_vla import NeonVLA

_SMALLEST: Final = 0.03  # rad, rad/s, N m, m: a channel that hardly moved must not blow up when something breaks


def set_statistics(model: NeonVLA, soup: DataSoup, samples: int = 1024) -> None:
    """Standardise every vector sense by the first samples of the mixture; a visit's share one reading."""
    values: dict[str, list[np.ndarray]] = {}
    for number in range(samples):
        for name, value in soup[number].senses.items():
            values.setdefault(name, []).append(value.ravel())
    for name in model.senses:
        encoder = getattr(model, f"{name}_encoder")
        if name in values and isinstance(encoder, VectorEncoder):
            column = torch.from_numpy(np.stack(values[name]))
            encoder.set_statistics(column.mean(0), column.std(0).clamp(min=_SMALLEST))

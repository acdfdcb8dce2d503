"""What the inputs of a mixture are like: mean and spread of the vector senses, and where its wordings lie."""

from typing import Final

import numpy as np
import torch

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.windows import Window
from neon_sim.model.encoders import VectorEncoder
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.batches import group_windows
from neon_sim.training.chunk_loss import encode_group

_SMALLEST: Final = 0.03  # rad, rad/s, N m, m: a channel that hardly moved must not blow up when something breaks
_BATCH: Final = 32  # samples whose words are encoded at once


def set_statistics(model: NeonVLA, soup: DataSoup, samples: int = 1024) -> None:
    """Standardise every vector sense by the first samples of the mixture; a visit's share one reading.

    Where the heads hear words as a choice, its places are spread over the instructions of these samples.
    """
    values: dict[str, list[np.ndarray]] = {}
    said: dict[str, Window] = {}
    for number in range(samples):
        window = soup[number]
        if model.config.word_choices:
            said.setdefault(window.instruction, window)
        for name, value in window.senses.items():
            values.setdefault(name, []).append(value.ravel())
    for name in model.senses:
        encoder = getattr(model, f"{name}_encoder")
        if name in values and isinstance(encoder, VectorEncoder):
            column = torch.from_numpy(np.stack(values[name]))
            encoder.set_statistics(column.mean(0), column.std(0).clamp(min=_SMALLEST))
    if said:
        _place_words(model, list(said.values()))


@torch.no_grad()
def _place_words(model: NeonVLA, windows: list[Window]) -> None:
    device = next(model.parameters()).device
    batches = (group_windows(windows[first : first + _BATCH]) for first in range(0, len(windows), _BATCH))
    groups = [group.to(device) for batch in batches for group in batch]
    model.word_choice.set_places(torch.cat([encode_group(model, model.encode, group).text for group in groups]))

"""Episodes that are held back while a policy learns, and how far its chunks are from theirs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.windows import WindowConfig
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.batches import group_windows
from neon_sim.training.chunk_loss import Encoder, encode_group
from neon_sim.training.train_config import TrainConfig


def held_back_soup(config: TrainConfig, soup: DataSoup, windows: WindowConfig) -> DataSoup | None:
    """The episodes that are held back, listened to and kept as the others are, or None where there are none."""
    assert config.data is not None
    if not any(len(episodes) for episodes in soup.others.values()):
        return None
    held_back = DataSoup(config.data, soup.action_space, windows, config.seed, validation=True)
    held_back.listen, held_back.samples = soup.listen, soup.samples
    return held_back


@torch.no_grad()
def chunk_errors(
    model: NeonVLA,
    encode: Encoder,
    soup: DataSoup,
    config: TrainConfig,
    device: torch.device,
    in_place: Callable[[], AbstractContextManager[Any]],
) -> dict[str, float]:
    """Mean squared error of the chunk on `config.evaluate_samples` of a soup: "mse", each joint group, "mse/SOURCE".

    As many samples of each source, and every source counts alike, however long its episodes are. {} where nothing could
    be read. in_place: the weights and the precision that are judged, for each forward pass.
    Raises BadEpisodeError for an episode that cannot be learned from, unless `skip_bad`.
    """
    places = soup.each(config.evaluate_samples)
    judged = [
        _source_errors(model, encode, soup, [place for place in places if place[0] == name], config, device, in_place)
        for name in soup.names
    ]
    found = {name: errors for name, errors in zip(soup.names, judged, strict=True) if errors}
    parts = next(iter(found.values()), {})
    means = {part: sum(errors[part] for errors in found.values()) / len(found) for part in parts}
    by_source = {f"mse/{name}": errors["mse"] for name, errors in found.items()} if len(soup.names) > 1 else {}
    return means | by_source


def _source_errors(
    model: NeonVLA,
    encode: Encoder,
    soup: DataSoup,
    places: list[tuple[str, int, int]],
    config: TrainConfig,
    device: torch.device,
    in_place: Callable[[], AbstractContextManager[Any]],
) -> dict[str, float]:
    squared: dict[str, float] = {}
    entries = 0.0
    for first in range(0, len(places), config.batch_size):
        for group in group_windows(soup.readable(places[first : first + config.batch_size])):
            group = group.to(device)
            with in_place():
                chunk, _ = model(encode_group(model, encode, group), group.senses)
            error = (chunk.float() - group.chunk).square() * group.mask[..., None]
            for name, where in {**model.action_space.groups, "mse": slice(None)}.items():
                squared[name] = squared.get(name, 0.0) + float(error[..., where].mean(-1).sum())
            entries += float(group.mask.sum())
    return {name: value / entries for name, value in squared.items()}

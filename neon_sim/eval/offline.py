"""How near a policy's chunks are to recorded ones: mean squared errors beside what knowing nothing would give."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from neon_sim.data.data_soup import DataSoup, DataSoupConfig
from neon_sim.data.source import DataSourceConfig
from neon_sim.data.windows import WindowConfig
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.training.batches import Group, group_windows
from neon_sim.training.chunk_loss import encode_group

TOTAL = "total"


@dataclass(frozen=True)
class OfflineResult:
    """Mean squared errors in action units squared, over unmasked steps: by joint group, and "total"."""

    mse: dict[str, float]
    zero: dict[str, float]  # of the home pose and standing: what doing nothing would give
    random: dict[str, float]  # of uniform actions
    trajectories: int
    chunks: int

    def improvement(self, name: str = TOTAL) -> float:
        """Share of the zero action's error that the policy takes away: 1 is perfect, below 0 is worse than nothing."""
        return 1.0 - self.mse[name] / self.zero[name] if self.zero[name] else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "improvement_over_zero": {name: self.improvement(name) for name in self.mse}}


def open_dataset(
    path: str,
    kind: str,
    model: NeonVLA,
    options: Mapping[str, Any] | None = None,
    skip_bad: bool = False,
    relative_actions: bool = False,
    max_episodes: int | None = None,
) -> DataSoup:
    """The first `max_episodes` episodes of one data set, or all, cut as the policy would see them.

    options: what this kind of data source asks for. skip_bad: leave out and count episodes that cannot be read.
    relative_actions: `DataSourceConfig.use_relative_actions`.
    """
    backbone = model.config.backbone
    windows = WindowConfig(
        model.config.num_action_steps,
        model.config.num_action_steps,
        backbone.fps,
        backbone.max_frames,
        backbone.image_size,
        model.config.sound_memory_s,
        model.config.microphones,
        ("camera", *model.senses),
    )
    source = DataSourceConfig(
        "dataset",
        kind,
        path,
        max_episodes=max_episodes,
        use_relative_actions=relative_actions,
        options=options or {},
    )
    config = DataSoupConfig([source], validation_share=0.0, skip_bad=skip_bad)
    return DataSoup(config, model.action_space, windows)


@torch.no_grad()
def evaluate_offline(
    model: NeonVLA, soup: DataSoup, trajectories: int, seed: int = 0, batch: int = 16
) -> OfflineResult:
    """Compare every chunk of the first `trajectories` episodes; `seed` is of the random baseline and of heads that
    sample.

    Raises BadEpisodeError for an episode that cannot be read, unless the soup leaves such out, and ValueError if none
    can be.
    """
    model.eval()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    places = [place for place in soup.each() if place[1] < trajectories]
    sums: dict[str, dict[str, float]] = {"mse": {}, "zero": {}, "random": {}}
    steps, chunks = 0.0, 0
    for first in tqdm(range(0, len(places), batch), desc="evaluating", disable=len(places) <= batch):
        for group in group_windows(soup.readable(places[first : first + batch])):
            chunks += len(group)
            group = group.to(next(model.parameters()).device)
            chunk, _ = model(encode_group(model, model.encode, group), group.senses)
            blind = torch.from_numpy(rng.uniform(-1.0, 1.0, chunk.shape)).to(chunk)
            for name, guess in (("mse", chunk), ("zero", torch.zeros_like(chunk)), ("random", blind)):
                _add(sums[name], guess.float(), group, model.action_space.groups)
            steps += float(group.mask.sum())
    if not chunks:
        raise ValueError("Not one episode could be read.")
    means = {kind: {name: value / steps for name, value in parts.items()} for kind, parts in sums.items()}
    played = {place[:2] for place in places} - soup.bad.keys()
    return OfflineResult(means["mse"], means["zero"], means["random"], len(played), chunks)


def _add(sums: dict[str, float], chunk: Tensor, group: Group, parts: Mapping[str, slice]) -> None:
    error = (chunk - group.chunk).square() * group.mask[..., None]
    for name, where in {TOTAL: slice(None), **parts}.items():
        sums[name] = sums.get(name, 0.0) + float(error[..., where].mean(-1).sum())


def plot_trajectory(model: NeonVLA, soup: DataSoup, index: int, path: Path) -> None:
    """One episode's actions and the policy's chunks over them, one small panel an action entry, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names, steps = model.action_space.names, model.config.num_action_steps
    episode = soup.episode("dataset", index)
    figure, panels = plt.subplots(-(-len(names) // 4), 4, figsize=(12, 1.6 * -(-len(names) // 4)), sharex=True)
    time_s = np.arange(len(episode)) / episode.rate_hz
    for start in range(0, len(episode), steps):
        (group,) = group_windows([soup.window("dataset", index, start)])
        group = group.to(next(model.parameters()).device)
        with torch.no_grad():
            chunk, _ = model.eval()(encode_group(model, model.encode, group), group.senses)
        real = int(group.mask.sum())
        for i, panel in enumerate(panels.flat[: len(names)]):
            panel.plot(time_s[start : start + real], group.chunk[0, :real, i].cpu(), color="#999999", linewidth=2.5)
            panel.plot(time_s[start : start + real], chunk[0, :real, i].cpu(), color="#1f5f8b", linewidth=1.0)
    for name, panel in zip(names, panels.flat, strict=False):
        panel.set_title(name.removesuffix("_joint").replace("_", " "), fontsize=7)
        panel.set_ylim(-1.05, 1.05)
        panel.tick_params(labelsize=6)
    for panel in panels.flat[len(names) :]:
        panel.axis("off")
    figure.suptitle("grey: recorded, blue: the policy's chunks; action units over seconds", fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)

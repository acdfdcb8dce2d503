"""What the heads of benchmarks/foreign_arm.py learn from: the G1's own reaches, and a foreign arm's as its own."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from report import replace_file
from tqdm import tqdm

from neon_sim.data.data_soup import DataSoupConfig
from neon_sim.data.source import BadEpisodeError, DataSourceConfig
from neon_sim.data.sources import open_source
from neon_sim.episode import NeonEpisode
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.kinematics import palm_poses
from neon_sim.training.recording import Collecting, Recorder, as_judged

HANDS: Final = ("left", "right")
FIRST_SEED: Final = 5_500_000  # of the G1's own episodes; it is judged on seeds from 10 million on
KNOWN: Final = np.isin(np.arange(125), joints.GROUPS["arms"])  # of proprio: the arms' angles, what both robots know
Senses = TypeVar("Senses", np.ndarray, torch.Tensor)


def shared(proprio: Senses) -> Senses:
    """Proprioception (..., 125) with nothing in it but the arms' joint angles."""
    known: Any = KNOWN if isinstance(proprio, np.ndarray) else torch.from_numpy(KNOWN).to(proprio.device)
    return proprio * known


def hindsight(episode: NeonEpisode, hand: int) -> NeonEpisode:
    """A foreign reach as a reach of the G1: its goal is where the palm is at last (D18)."""
    last = G1ActionSpace(episode.control_mode).decode(episode.actions[-1])[0]
    steps = len(episode)
    infos = {
        "goal_hand": np.full(steps, hand),
        "goal_pos_b": np.tile(palm_poses(last)[0][hand].astype(np.float32), (steps, 1)),
    }
    return replace(episode, infos=infos, instruction=f"move the {HANDS[hand]} hand to the point")


def foreign_source(folder: Path, hand: str) -> DataSourceConfig:
    """The foreign LeRobot folder, followed by one of the G1's hands."""
    options = {"hand": hand, "approach": "z"}
    return DataSourceConfig(f"foreign_{hand}", "lerobot", str(folder), use_relative_actions=True, options=options)


def foreign_reaches(folder: Path, hand: int) -> Iterator[NeonEpisode | None]:
    """Every foreign episode; None for a path that this hand cannot follow."""
    source = open_source(foreign_source(folder, HANDS[hand]))
    for index in range(len(source)):
        try:
            yield hindsight(source.episode(index), hand)
        except BadEpisodeError:
            yield None


def own_reaches(episodes: int) -> Iterator[NeonEpisode]:
    """Disturbed expert episodes of the G1, as many of each hand as its words ask for."""
    recorder = Recorder(as_judged(Collecting("reach", "noisy_expert")))
    for number in range(episodes):
        yield recorder.episode(FIRST_SEED + number)
    recorder.env.close()


def keep(episodes: Iterator[NeonEpisode | None], count: int, folder: Path) -> int:
    """Save what heads are to learn from, once; returns how many of `count` could not be used."""
    done = folder / "whole.json"
    if done.exists():
        return int(json.loads(done.read_text(encoding="utf-8"))["unusable"])
    folder.mkdir(parents=True, exist_ok=True)
    unusable = 0
    for number, episode in enumerate(tqdm(episodes, total=count, desc=folder.name)):
        if episode is None:
            unusable += 1
            continue
        seen = {"proprio": shared(episode.observations["proprio"]), "eef": episode.observations["eef"]}
        replace(episode, observations=seen).save(folder / f"episode_{number:05d}.npz")
    replace_file(done, json.dumps({"unusable": unusable}) + "\n")
    return unusable


def soup(out: Path, own: int, share: float) -> DataSoupConfig:
    """What one training learns from; share: weight of the foreign arm beside own episodes' 1, 0 = without it."""
    sources = []
    if own:
        sources.append(DataSourceConfig("own", "neon_sim", str(out / "own"), max_episodes=own))
    if share:
        weight = share / len(HANDS)
        sources += [DataSourceConfig(f"foreign_{h}", "neon_sim", str(out / f"foreign_{h}"), weight) for h in HANDS]
    return DataSoupConfig(sources, validation_share=0.0)

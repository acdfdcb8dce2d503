"""A life that meets NaN, a dead sensor, a full disk, a kill or another head loses nothing that was saved."""

import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import open_reach, tiny_model

from neon_sim.eval.watched_life import live_watched, open_life
from neon_sim.sim.faults import LostSensor
from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.online import LifeConfig, save_forward_model
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig

LEARNER = SelfLearnerConfig(batch_size=2, updates_per_chunk=1, practice_noise_m=0.03, seed=1)
LIFE = LifeConfig(healthy_episodes=2, faulty_episodes=0, steps=48)


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    """One reach scene."""
    env = open_reach()
    yield env
    env.close()


def _policy(folder: Path, **changes: Any) -> Path:
    model = tiny_model(folder / "backbone", **changes)
    model.save_pretrained(folder / "policy")
    torch.manual_seed(3)
    save_forward_model(ForwardModel.for_model(model), folder / "policy")
    return folder / "policy"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy with its forward model."""
    return _policy(tmp_path_factory.mktemp("pretrained"))


def _weights(learner: NeonSelfLearner) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in learner.params.items()}


def _same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(other[name], value) for name, value in one.items())


class _Spoiled:
    """A policy whose observations are spoiled: from the step `first` on, proprioception is NaN."""

    def __init__(self, policy: Any, first: int) -> None:
        self.policy, self.first, self.step = policy, first, 0

    def reset(self, env_ids: list[int] | None = None) -> None:
        """A new episode."""
        self.step = 0
        self.policy.reset(env_ids)

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Pass on what is left of it."""
        spoiled = dict(obs)
        if self.step >= self.first:
            spoiled["proprio"] = np.full_like(obs["proprio"], np.nan)
        self.step += 1
        self.policy.observe(spoiled, now_s)

    def act(self) -> np.ndarray:
        """Pass on."""
        chunk: np.ndarray = self.policy.act()
        return chunk


def test_nan_that_comes_after_the_last_chunk_is_not_learned_from(env: Any, policy: Path, tmp_path: Path) -> None:
    """The features after the third chunk are NaN: two chunks an episode are experience, one is counted and left out."""
    checks = AdoptionConfig(hold_back_every=2, least_held_back=1)
    learner, watch = open_life(policy, replace(LEARNER, adoption=checks), tmp_path, "naive")
    record = live_watched(env, watch, replace(LIFE, healthy_episodes=3), tmp_path, _Spoiled(learner.policy, 40))
    assert record.unusable == learner.unusable == 3
    assert len(learner.held_back) == 4 and len(learner.buffer) == 2
    assert all(bool(value.isfinite().all()) for value in _weights(learner).values())
    assert all(np.isfinite(line.residual) for line in record.lines)
    assert record.lines[-1].learned_chunks == 2  # from what was usable


def test_nan_that_reaches_an_action_ends_the_life_and_what_was_saved_stays(
    env: Any, policy: Path, tmp_path: Path
) -> None:
    _, watch = open_life(policy, LEARNER, tmp_path, "naive")
    live_watched(env, watch, LIFE, tmp_path)
    saved = (tmp_path / "state.pt").read_bytes()
    longer = replace(LIFE, healthy_episodes=3)
    learner, watch = open_life(policy, LEARNER, tmp_path, "naive")
    before = _weights(learner)
    with pytest.raises(ValueError, match="finite"):
        live_watched(env, watch, longer, tmp_path, _Spoiled(learner.policy, 10))
    assert (tmp_path / "state.pt").read_bytes() == saved
    again, watch = open_life(policy, LEARNER, tmp_path, "naive")
    assert _same(before, _weights(again))
    assert len(live_watched(env, watch, longer, tmp_path).lines) == 3  # the sensor is well again: it goes on


def test_a_dead_camera_stops_no_life_and_breaks_no_weight(env: Any, policy: Path, tmp_path: Path) -> None:
    learner, watch = open_life(policy, LEARNER, tmp_path, "naive")
    life = replace(LIFE, healthy_episodes=1, faulty_episodes=2, fault=LostSensor("camera"))
    record = live_watched(env, watch, life, tmp_path)
    assert [line.phase for line in record.lines] == ["healthy", "faulty", "faulty"]
    assert learner.unusable == 0 and len(learner.buffer) == 6  # black pictures are numbers
    assert record.lines[-1].learning and all(bool(value.isfinite().all()) for value in _weights(learner).values())


def test_a_full_disk_ends_the_life_and_keeps_what_was_saved(env: Any, policy: Path, tmp_path: Path) -> None:
    """A limit on the size of a file stands for the full disk: the write fails half way in the same manner."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(lines: list[Any]) -> None:
        size = (tmp_path / "state.pt").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))

    _, watch = open_life(policy, LEARNER, tmp_path, "naive")
    try:
        with pytest.raises(OSError, match="Could not save to .*state.pt.*What was saved there before is kept"):
            live_watched(env, watch, LIFE, tmp_path, on_episode=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["state.pt"]
    lived: list[int] = []
    _, watch = open_life(policy, LEARNER, tmp_path, "naive")
    live_watched(env, watch, LIFE, tmp_path, on_episode=lambda lines: lived.append(len(lines)))
    assert lived == [2]  # the first episode was there


def _live_and_update_for_ever(policy: Path, folder: Path, updates: Any) -> None:
    """A process that has saved two episodes and is now in the middle of its updates."""
    env = open_reach()
    learner, watch = open_life(policy, LEARNER, folder, "naive")
    live_watched(env, watch, LIFE, folder)
    while learner.update():
        updates.value += 1


def test_sigkill_in_mid_update_leaves_the_last_episode(env: Any, policy: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    updates = context.Value("q", 0)
    process = context.Process(target=_live_and_update_for_ever, args=(policy, tmp_path, updates))
    process.start()
    while updates.value < 3:
        process.join(0.05)
        assert process.is_alive(), "it ended by itself"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    learner, watch = open_life(policy, LEARNER, tmp_path, "naive")
    alone, other = open_life(policy, LEARNER, tmp_path / "alone", "naive")
    assert live_watched(env, other, LIFE, tmp_path / "alone").lines == watch.record.lines
    assert _same(_weights(alone), _weights(learner))  # of the updates that came after the save there is no trace


def test_the_state_of_another_head_is_refused_and_stays(env: Any, policy: Path, tmp_path: Path) -> None:
    _, watch = open_life(policy, LEARNER, tmp_path, "naive")
    live_watched(env, watch, replace(LIFE, healthy_episodes=1), tmp_path)
    saved = (tmp_path / "state.pt").read_bytes()
    wider = _policy(tmp_path / "wider", mlp_hidden=32)
    with pytest.raises(ValueError, match="was saved with another head: .* parameters differ"):
        open_life(wider, LEARNER, tmp_path, "naive")
    assert (tmp_path / "state.pt").read_bytes() == saved

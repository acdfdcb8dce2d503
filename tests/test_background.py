"""Learning in another process: true processes, true shared memory, a true kill -9."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import open_reach, tiny_learning, tiny_model
from torch import Tensor

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout
from neon_sim.training.background import BackgroundConfig, BackgroundLearner
from neon_sim.training.drift import DriftConfig
from neon_sim.training.experience import Experience
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.learning_state import load_learning_state
from neon_sim.training.online import load_forward_model, save_forward_model
from neon_sim.training.protection import OnlineEWCConfig
from neon_sim.training.self_learner import NeonSelfLearner
from neon_sim.training.weight_box import WeightBox

CONFIG = tiny_learning(batch_size=4)
PATIENT = BackgroundConfig(niceness=0, patience_s=500.0)  # a machine that runs many tests is slow to start a process
FUSED = 40 + 29  # the tiny backbone's width, and the tracking error of 29 joints


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy with its forward model."""
    folder = tmp_path_factory.mktemp("pretrained")
    model = tiny_model(folder / "backbone")
    model.save_pretrained(folder / "policy")
    torch.manual_seed(3)
    save_forward_model(ForwardModel.for_model(model), folder / "policy")
    return folder / "policy"


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    """One reach scene."""
    env = open_reach()
    yield env
    env.close()


def _play(env: Any, learner: NeonSelfLearner, episodes: int) -> None:
    for seed in range(episodes):
        rollout(env, learner.policy, 48, seed, keep=(), on_chunk=lambda _: learner.before_chunk())
        learner.end_episode()


def _weights(learner: NeonSelfLearner) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learner.params.items()}


def _episode(seed: int, chunks: int = 4) -> list[Experience]:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(size, generator=generator) for size in (FUSED, FUSED, 40, 5, 5)]
    executed = torch.rand(16, 17, generator=generator)
    return [Experience(draw[0], draw[1], draw[2], draw[3], executed, draw[4], 1.0) for _ in range(chunks)]


def test_in_lock_step_it_learns_what_it_would_have_learned_in_line(env: Any, policy: Path) -> None:
    model = NeonVLA.from_pretrained(policy)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    in_line = NeonSelfLearner(model, load_forward_model(model, policy), CONFIG)
    _play(env, in_line, 4)
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())  # it did learn
    with BackgroundLearner(policy, CONFIG, replace(PATIENT, lock_step=True)) as learner:
        _play(env, learner, 4)
        assert learner.dropped == 0
        for name, value in _weights(in_line).items():
            assert torch.equal(learner.params[name], value), name
        learner.process.kill()
        learner.process.join()
        with pytest.raises(RuntimeError, match=r"was to learn and has ended \(exit code -9\). start\(\) begins"):
            learner.learn()


def test_a_killed_learner_harms_nothing_and_another_goes_on_from_what_was_saved(
    env: Any, policy: Path, tmp_path: Path
) -> None:
    background = replace(PATIENT, state_path=tmp_path / "state.pt", save_every=1)
    with BackgroundLearner(policy, CONFIG, background) as learner:
        for seed in range(3):
            learner.hand_over(_episode(seed))
        learner.end_regime()
        learner.hand_over(_episode(3))
        learner.catch_up()
        assert learner.process.pid is not None
        os.kill(learner.process.pid, signal.SIGKILL)
        learner.process.join()
        adopted = _weights(learner)
        with pytest.warns(UserWarning, match=r"has ended \(exit code -9\).*goes on as it is"):
            _play(env, learner, 1)  # the robot does not notice
        assert not learner.alive and learner.dropped == 1
        assert all(torch.equal(learner.params[name], value) for name, value in adopted.items())
        learner.start()
        assert all(torch.equal(learner.params[name], value) for name, value in adopted.items())  # as it was saved
        learner.hand_over(_episode(9))
        learner.catch_up()
        assert any(not torch.equal(learner.params[name], value) for name, value in adopted.items())
    model = NeonVLA.from_pretrained(policy)
    saved = NeonSelfLearner(model, load_forward_model(model, policy), CONFIG)
    load_learning_state(tmp_path / "state.pt", saved)
    assert saved.episodes == 5 and len(saved.buffer) == 8  # since the regime's end: one before the kill, one after it
    assert saved.protection is not None and saved.protection.anchor_count == 1
    assert all(torch.equal(value, learner.params[name]) for name, value in saved.params.items())


def test_a_change_is_noticed_in_the_other_process_too(policy: Path, tmp_path: Path) -> None:
    """Quiet episodes, then features that come out as nobody foresaw: no call says that a regime has ended."""
    config = replace(CONFIG, drift=DriftConfig(group=4, baseline=3), protection=OnlineEWCConfig())
    background = replace(PATIENT, state_path=tmp_path / "state.pt")
    with BackgroundLearner(policy, config, background) as learner:
        for seed in range(8):
            strangeness = 1.0 if seed < 6 else 30.0
            items = _episode(0)
            learner.hand_over([replace(item, fused_after=strangeness * item.fused_after) for item in items])
        learner.catch_up()
    model = NeonVLA.from_pretrained(policy)
    saved = NeonSelfLearner(model, load_forward_model(model, policy), config)
    load_learning_state(tmp_path / "state.pt", saved)
    assert saved.drift is not None and "protect" in [event.what for event in saved.drift.log]
    assert saved.protection is not None and saved.protection.anchor_count == 1
    assert len(saved.buffer) == 2 * 4  # the two strange episodes began a new one


def test_a_state_that_cannot_be_saved_stops_no_learning(
    policy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()  # where a folder is wanted: the write fails as on a full disk
    background = replace(PATIENT, state_path=tmp_path / "file" / "state.pt", save_every=1)
    with BackgroundLearner(policy, CONFIG, background) as learner:
        before = _weights(learner)
        for seed in range(2):
            learner.hand_over(_episode(seed))
        learner.catch_up()
        assert learner.alive and learner.learned_episodes == 2
        assert any(not torch.equal(learner.params[name], value) for name, value in before.items())
    assert "learning goes on and saves again later" in capfd.readouterr().err


def test_a_learner_that_is_behind_costs_episodes_and_no_time(policy: Path) -> None:
    with BackgroundLearner(policy, CONFIG, replace(PATIENT, waiting_episodes=2)) as learner:
        before = _weights(learner)
        assert learner.process.pid is not None
        os.kill(learner.process.pid, signal.SIGSTOP)
        begun = time.perf_counter()
        for seed in range(20):
            learner.hand_over(_episode(seed))
            assert not learner.take_newest()
        spent = time.perf_counter() - begun
        os.kill(learner.process.pid, signal.SIGCONT)
        # It may have been stopped with one message in its hands.
        assert 20 - 3 <= learner.dropped <= 20 - 2
        assert spent < 5.0  # a learner that one waited for would have taken for ever
        learner._wait(lambda: learner.learned_episodes == 20 - learner.dropped, "learn")
        # Weights come back only when they are asked for, and once.
        assert all(torch.equal(learner.params[name], value) for name, value in before.items())
        assert learner.take_newest() and not learner.take_newest()
        assert any(not torch.equal(learner.params[name], value) for name, value in before.items())


def test_half_written_weights_are_never_read() -> None:
    box = WeightBox(5, multiprocessing.get_context("spawn"))
    assert box.version == 0
    for version in (1, 2, 3):
        box.publish(np.full(5, float(version), np.float32))
        found = box.newest()
        assert found is not None and found[0] == version and found[1].tolist() == [float(version)] * 5
    box._view(0)[:3] = 9.0  # killed while it wrote the fourth: the page was not turned
    found = box.newest()
    assert found is not None and found[1].tolist() == [3.0] * 5
    box._view(1)[2] = 9.0  # overtaken: the slot that is read is being filled again
    assert box.newest() is None


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="waiting_episodes"):
        BackgroundConfig(waiting_episodes=0)

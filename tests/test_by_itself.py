"""A learner that nobody tells of a change notices it and protects what it knew; a steady robot it leaves alone."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_self_learner import _made_up
from tiny_neon import open_reach, tiny_model

from neon_sim.eval.explain import explain
from neon_sim.eval.watched_life import live_watched, open_life
from neon_sim.sim.faults import ActuatorFault
from neon_sim.training.adoption import AdoptionConfig
from neon_sim.training.drift import DriftConfig
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.learning_state import load_learning_state, save_learning_state
from neon_sim.training.online import LifeConfig, save_forward_model
from neon_sim.training.protection import OnlineEWCConfig
from neon_sim.training.self_learner import SelfLearnerConfig

EPISODE = 3  # chunks: 48 steps
BY_ITSELF = SelfLearnerConfig(
    batch_size=4,
    known_m=math.inf,  # an untrained policy comes to rest nowhere near
    settled_m=math.inf,  # or not at all
    updates_per_chunk=1,
    practice_noise_m=0.03,
    fisher_samples=8,
    protection=OnlineEWCConfig(),
    adoption=AdoptionConfig(hold_back_every=4, least_held_back=EPISODE),
    drift=DriftConfig(group=EPISODE, baseline=5, start_sigmas=4.0),
)
BROKEN = tuple(ActuatorFault(f"{side}_shoulder_pitch_joint", 0.3, 1.0) for side in ("left", "right"))
LIFE = LifeConfig(healthy_episodes=9, faulty_episodes=5, steps=16 * EPISODE, first_seed=100, fault=BROKEN)


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    """One reach scene."""
    env = open_reach()
    yield env
    env.close()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy with its forward model."""
    folder = tmp_path_factory.mktemp("pretrained")
    model = tiny_model(folder / "backbone")
    model.save_pretrained(folder / "policy")
    torch.manual_seed(2)
    save_forward_model(ForwardModel.for_model(model), folder / "policy")
    return folder / "policy"


def test_a_change_that_nobody_tells_of_is_noticed_and_what_was_known_before_is_protected(
    env: Any, policy: Path, tmp_path: Path
) -> None:
    learner, watch = open_life(policy, BY_ITSELF, tmp_path, "by_itself")
    before = {name: value.detach().clone() for name, value in learner.params.items()}
    record = live_watched(env, watch, LIFE, tmp_path)
    assert learner.drift is not None and learner.drift.change is None  # it has been taken up
    assert [event.what for event in learner.drift.log][:3] == ["ready", "start", "protect"]
    start, protect = learner.drift.log[1:3]
    healthy = EPISODE * LIFE.healthy_episodes
    assert healthy < start.chunk <= healthy + 2 * EPISODE  # an episode or two after it broke
    assert start.chunk <= protect.chunk and "online_ewc keeps what" in protect.why
    assert learner.protection is not None and learner.protection.anchor_count == 1
    # Until then nothing was learned, so what is held is what it began with; since then weights have moved.
    centre = learner.protection.state_dict()["centre"]
    assert all(torch.equal(centre[name], value) for name, value in before.items())
    assert learner.last_end is not None and learner.gate is not None and learner.gate.proposals > 0
    began, known = learner.last_end
    assert began <= healthy and EPISODE <= known <= healthy
    lived_since = EPISODE * (LIFE.healthy_episodes + LIFE.faulty_episodes) - began
    assert 0 < len(learner.buffer) <= lived_since  # without what is held back
    (entry,) = record.protected
    assert (entry.strategy, entry.chunks) == ("online_ewc", known)
    assert f"up to chunk {began}" in explain(record)


def test_on_a_steady_robot_nothing_happens(env: Any, policy: Path, tmp_path: Path) -> None:
    learner, watch = open_life(policy, BY_ITSELF, tmp_path, "by_itself")
    before = {name: value.detach().clone() for name, value in learner.params.items()}
    record = live_watched(env, watch, replace(LIFE, fault=None), tmp_path)
    assert learner.drift is not None and [event.what for event in learner.drift.log] == ["ready"]
    assert learner.protection is None and record.protected == [] and learner.last_end is None
    assert all(torch.equal(value, before[name]) for name, value in learner.params.items())
    held_back = EPISODE * len(range(0, LIFE.healthy_episodes + LIFE.faulty_episodes, 4))
    assert len(learner.buffer) == EPISODE * (LIFE.healthy_episodes + LIFE.faulty_episodes) - held_back


def test_where_it_is_switched_off_a_script_says_when_a_regime_ends(env: Any, policy: Path, tmp_path: Path) -> None:
    told = replace(BY_ITSELF, drift_ends_regimes=False)
    learner, watch = open_life(policy, told, tmp_path, "ewc")
    record = live_watched(env, watch, replace(LIFE, faulty_episodes=2), tmp_path)
    assert learner.drift is not None and [event.what for event in learner.drift.log][:2] == ["ready", "start"]
    assert "protect" not in [event.what for event in learner.drift.log] and learner.last_end is None
    assert [entry.phase for entry in record.protected] == ["healthy"]  # as the script says


def test_a_change_that_was_noticed_before_a_stop_is_taken_up_after_it(policy: Path, tmp_path: Path) -> None:
    """Between two episodes: the detector has seen the change, no chunk has come yet; what came since is still known."""
    learners = [open_life(policy, BY_ITSELF, tmp_path / name, "by_itself")[0] for name in ("one", "other")]
    one, other = learners
    assert one.drift is not None
    for episode in range(9):
        items = _made_up(EPISODE)
        for item in items:
            one.drift.observe(1.0 if episode < 7 else 50.0)
            item.seen = one.drift.chunk
        one._keep(items)
    assert one.drift.change == 7 * EPISODE and one.protection is None
    save_learning_state(tmp_path / "state.pt", one)
    load_learning_state(tmp_path / "state.pt", other)
    for learner in learners:
        learner.learn()
        assert learner.last_end == (7 * EPISODE, 5 * EPISODE)  # of seven episodes two are held back
        assert len(learner.buffer) == EPISODE  # of the two since then the second is held back
        assert learner.protection is not None and learner.protection.anchor_count == 1
    assert all(torch.equal(value, one.params[name]) for name, value in other.params.items())

"""A residual that learns: what it is told, what it learns from, what protects it; on made-up and on real walks."""

import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neon_sim.locomotion.residual import ResidualWalker, Window
from neon_sim.training.learning_state import load_learning_state, save_learning_state
from neon_sim.training.protection import OnlineEWCConfig, ReplayConfig
from neon_sim.training.residual_learner import (
    ResidualLearner,
    ResidualLearnerConfig,
    experience_of,
    healthy_of,
    moments_of,
    stack_items,
)
from neon_sim.training.residual_model import (
    Healthy,
    ResidualForward,
    ResidualNet,
    features_of,
    load_residual,
    save_residual,
)
from neon_sim.training.residual_policy import ResidualPolicy

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # scripts, not a package
from forgetting_legs import live_episode
from forgetting_world import open_env

SMALL = ResidualLearnerConfig(batch_size=8, updates_per_chunk=1, fisher_samples=8, practice_rad=0.05)


def _window(value: float, residual: float = 0.0, command: float = 0.0) -> Window:
    return Window(np.full(3, command), np.full(6, value), np.full(15, 10.0 * value), np.full(15, residual))


def _healthy() -> Healthy:
    """Features as they are, outcomes that should be zero, one unit each."""
    return Healthy(torch.zeros(24), torch.ones(24), torch.zeros(7, 6), torch.ones(6))


def _learner(config: ResidualLearnerConfig = SMALL, seed: int = 0) -> ResidualLearner:
    torch.manual_seed(seed)
    return ResidualLearner(ResidualNet(), ResidualForward(), _healthy(), config)


def _items(count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """A body whose first outcome is 2 too high, and falls by 0.1 with each 0.01 rad of the first joint."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for _ in range(count):
        executed = 0.05 * torch.randn(15, generator=generator)
        outcome = torch.zeros(6)
        outcome[0] = 2.0 - 10.0 * executed[0]
        features = 0.1 * torch.randn(24, generator=generator)
        items.append({"features": features, "executed": executed, "outcome": outcome, "weight": torch.tensor(0.0)})
    return items


def test_features_are_the_newest_command_and_means_of_three_windows() -> None:
    windows = [_window(value, command=value) for value in (9.0, 1.0, 2.0, 6.0)]
    features = features_of(windows)
    np.testing.assert_allclose(features, [6.0] * 3 + [3.0] * 6 + [30.0] * 15)
    np.testing.assert_allclose(features_of(windows[:1]), [9.0] * 3 + [9.0] * 6 + [90.0] * 15)


def test_what_follows_a_chunk_is_the_mean_of_the_next_three() -> None:
    """Eight windows: chunks 0 to 2 are the start, chunk 3 sees windows 4 to 6, chunk 4 sees 5 to 7."""
    windows = [_window(float(i), residual=0.01 * i) for i in range(8)]
    (first, second) = moments_of(windows)
    np.testing.assert_allclose(first[0], features_of(windows[:4]))
    np.testing.assert_allclose((first[1][0], first[2][0]), (0.05, 5.0))
    np.testing.assert_allclose((second[1][0], second[2][0]), (0.06, 6.0))
    items = experience_of(windows, _healthy(), weight=0.5)
    assert [float(item["outcome"][0]) for item in items] == [5.0, 6.0] and float(items[0]["weight"]) == 0.5
    assert moments_of(windows[:6]) == []
    with pytest.raises(ValueError, match="must last more than 6 chunks"):
        healthy_of([windows[:6]])


def test_the_healthy_robot_is_what_the_least_squares_say() -> None:
    """Outcomes of exactly 2 |c| + c for every command: nothing is missed, in units of the least scale."""
    commands = np.linspace(-0.4, 0.4, 9)
    features = np.zeros((9, 24))
    features[:, 0] = commands
    outcomes = np.repeat((commands + 2.0 * np.abs(commands))[:, None], 6, axis=1)
    healthy = Healthy.measured(features, outcomes)
    missed = healthy.missed(np.array([0.2, 0.0, 0.0]), np.full(6, 0.63))  # wanted: 0.6
    np.testing.assert_allclose(missed, [1.0, 1.0, 1.0, 3.0, 3.0, 6.0], rtol=1e-3)
    assert float(healthy.missed(np.zeros(3), np.full(6, 9.0)).max()) == 10.0  # a fall says no more


def test_a_new_policy_leaves_the_walker_alone_and_a_taught_one_stays_within_its_limit() -> None:
    net = ResidualNet(limit=0.125)
    assert not net(torch.randn(4, 24)).any()
    torch.nn.init.normal_(net.net[4].weight, std=100.0)
    assert 0.124 < float(net(torch.randn(64, 24)).detach().abs().max()) <= 0.125


def test_the_forward_model_finds_out_what_a_residual_does() -> None:
    model = ResidualForward()
    assert model.fit(stack_items(_items(256)), 1e-3, 1e-3) < 1e-6  # it began at 4
    told = model(torch.zeros(2, 24), torch.tensor([[0.0] * 15, [0.05] + [0.0] * 14]))
    assert told[:, 0].tolist() == pytest.approx([2.0, 1.5], abs=1e-3)


def test_the_forward_model_is_held_to_what_was_known() -> None:
    """Rows of one constant, 3 where 1 was known: n rows of it against a hold of 4 rows give (3 n + 4) / (n + 4)."""
    prior = torch.zeros(40, 6)
    prior[0] = 1.0
    model = ResidualForward(prior)
    rows = {"features": torch.zeros(12, 24), "executed": torch.zeros(12, 15), "outcome": torch.full((12, 6), 3.0)}
    model.fit(rows, hold=4.0)
    assert float(model.weights[0, 0]) == pytest.approx((3 * 12 + 4) / 16)
    model.fit({name: value[:4] for name, value in rows.items()}, hold=4.0)  # the twelve are forgotten
    assert float(model.weights[0, 0]) == pytest.approx(2.0) and not model.weights[1:].any()


def test_it_learns_the_residual_that_the_body_needs_without_a_label() -> None:
    """2 too high and 10 per rad: all of the limit, 0.2 rad, is worth it; the other joints stay where they are."""
    learner = _learner(ResidualLearnerConfig(batch_size=32, learning_rate=3e-3))
    learner.buffer.extend(_items(256))
    learner.forward_model.fit(stack_items(list(learner.buffer)))
    first = learner.update()
    for _ in range(400):
        learner.update()
    residual = learner.model(torch.zeros(1, 24)).detach()[0]
    assert float(residual[0]) > 0.12 and float(residual[1:].abs().max()) < 0.03
    assert learner.update()["asked"] < 0.5 * first["asked"]


def test_each_loss_reaches_the_policy() -> None:
    learner = _learner()
    torch.nn.init.normal_(learner.model.net[4].weight, std=0.1)
    learner.forward_model.fit(stack_items(_items(64)))
    for name in ("asked", "consistency", "size"):
        losses = learner.losses(stack_items(_items(8)))
        learner.optimizer.zero_grad()
        losses[name].backward()
        assert max(float(value.grad.abs().max()) for value in learner.params.values() if value.grad is not None) > 0, (
            name
        )


def test_learning_rate_0_changes_nothing() -> None:
    learner = _learner(replace(SMALL, learning_rate=0.0))
    learner.buffer.extend(_items(16))
    before = copy.deepcopy(learner.model.state_dict())
    learner.learn()
    assert learner.last_losses
    assert all(torch.equal(value, before[name]) for name, value in learner.model.state_dict().items())


def test_springs_and_rehearsal_hold_what_was_known() -> None:
    naive, held, rehearsing = (
        _learner(replace(SMALL, learning_rate=1e-2, **kind))
        for kind in ({}, {"protection": OnlineEWCConfig()}, {"protection": ReplayConfig()})
    )
    easy = [{**item, "outcome": torch.zeros(6)} for item in _items(16, seed=1)]
    for learner in (naive, held, rehearsing):
        learner.buffer.extend(easy)
        learner.strategy.remember(stack_items(easy))
        learner.protect(*learner.known())
        learner.buffer.clear()
        learner.buffer.extend(_items(64))
        learner.forward_model.fit(stack_items(list(learner.buffer)))
        for _ in range(40):
            learner.learn()
    moved = [float(learner.model(easy[0]["features"][None]).detach().abs().max()) for learner in (naive, held)]
    assert held.protection is not None and naive.protection is None and moved[1] < 0.5 * moved[0]
    rows = rehearsing.strategy.sample(4)
    assert rows is not None and len(rows["features"]) == 4
    with pytest.raises(ValueError, match="no experience to protect"):
        _learner().known()


@pytest.fixture(scope="module")
def env() -> Any:
    env = open_env("walk")
    yield env
    env.close()


def test_a_real_episode_becomes_experience_and_the_robot_obeys_the_command(env: Any) -> None:
    """144 steps are 9 chunks and 10 windows: chunks 3 to 6 are learned from; chunks 4 to 7 try the same."""
    learner, still = _learner(), _learner(replace(SMALL, learning_rate=0.0))
    live_episode(env, learner, 11, 144)
    live_episode(env, still, 11, 144)
    assert learner.forward_model.weights.any() and not still.forward_model.weights.any()
    assert isinstance(env.robot.walker, ResidualWalker) and len(learner.buffer) == 4
    np.testing.assert_allclose(env.robot.walker.wanted, learner.policy.offset, atol=1e-7)  # nothing learned yet
    rng = np.random.default_rng([11, 7])  # what is tried follows from the episode alone
    tried = [rng.normal(0.0, 0.05, 15) for _ in range(3)]
    np.testing.assert_array_equal(learner.policy.offset, tried[2])  # since chunk 8
    executed = stack_items(list(learner.buffer))["executed"].numpy()
    np.testing.assert_allclose(executed[2], tried[1].clip(-0.2, 0.2), atol=1e-6)  # windows 6 to 8: chunks 5 to 7
    np.testing.assert_allclose(learner.buffer[0]["features"][:3], env.task.wanted, atol=1e-6)


def test_it_resumes_to_the_bit(env: Any, tmp_path: Path) -> None:
    learner = _learner(ResidualLearnerConfig(batch_size=4, updates_per_chunk=2, protection=OnlineEWCConfig()))
    live_episode(env, learner, 1, 144)
    learner.learn()
    learner.protect(*learner.known())
    state: Any = learner
    save_learning_state(tmp_path / "state.pt", state)
    other: Any = _learner(learner.config, seed=5)
    load_learning_state(tmp_path / "state.pt", other)
    for one in (learner, other):
        live_episode(env, one, 2, 144)
    assert learner.last_losses == other.last_losses
    for name, value in learner.params.items():
        assert torch.equal(value, other.params[name]), name


def test_a_policy_is_written_and_read_again(tmp_path: Path) -> None:
    net, forward_model = ResidualNet(0.1), ResidualForward(torch.randn(40, 6), 0.1)
    save_residual(tmp_path, net, forward_model, _healthy())
    other, model, healthy = load_residual(tmp_path)
    assert other.limit == 0.1 and torch.equal(healthy.scale, torch.ones(6))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())
    assert torch.equal(model.prior, forward_model.weights) and torch.equal(model.weights, model.prior)
    (tmp_path / "residual.pt").write_bytes(b"half")
    with pytest.raises(ValueError, match="no whole residual policy"):
        load_residual(tmp_path)


def test_a_policy_wants_a_robot_to_sit_on() -> None:
    with pytest.raises(ValueError, match=r"call join\(env\) first"):
        ResidualPolicy(None, None).act()

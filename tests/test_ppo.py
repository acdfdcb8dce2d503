"""PPO on batches so small that its sums can be done on paper, and on a problem that takes it seconds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neon_sim.training.ppo import PPO, ActorCritic, Batch, Normalizer, PPOConfig, advantages, mlp

TINY = PPOConfig(hidden=(8,), critic_hidden=(8,), epochs=1, minibatches=1, entropy=0.0)


def column(*values: float) -> torch.Tensor:
    """(T, 1): one robot."""
    return torch.tensor(values).unsqueeze(1)


def life(done: tuple[float, float, float]) -> Batch:
    """Three steps of one robot: rewards 1, 0, 2, values .5, 1, -.5, and 3 to come."""
    none = torch.zeros(3, 1, 1)
    return Batch(
        none, none, none, none, torch.zeros(1), torch.zeros(3, 1),
        reward=column(1.0, 0.0, 2.0), done=column(*done), value=column(0.5, 1.0, -0.5), last_value=torch.tensor([3.0]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        # gamma .9, lambda .5. Deltas: 1 + .9 - .5 = 1.4; 0 - .45 - 1 = -1.45; 2 + 2.7 + .5 = 5.2.
        # Backwards with .45: 5.2; -1.45 + 2.34 = .89; 1.4 + .4005 = 1.8005.
        ((0.0, 0.0, 0.0), (1.8005, 0.89, 5.2)),
        # The episode ends with the second step: nothing is seen across it. -1; 1.4 - .45 = .95.
        ((0.0, 1.0, 0.0), (0.95, -1.0, 5.2)),
        # It ends with the last: 2 + .5 = 2.5; -1.45 + 1.125 = -.325; 1.4 - .14625.
        ((0.0, 0.0, 1.0), (1.25375, -0.325, 2.5)),
    ],
)
def test_advantages_by_hand(done, expected):
    advantage, returns = advantages(life(done), gamma=0.9, lam=0.5)
    np.testing.assert_allclose(advantage[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(returns[:, 0], np.array(expected) + (0.5, 1.0, -0.5), rtol=1e-6)


def test_lambda_one_is_discounted_reward_and_lambda_zero_one_step():
    batch = life((0.0, 0.0, 0.0))
    monte_carlo = advantages(batch, 0.9, 1.0)[1]
    assert monte_carlo[0, 0] == pytest.approx(1.0 + 0.81 * 2.0 + 0.729 * 3.0)
    np.testing.assert_allclose(advantages(batch, 0.9, 0.0)[0][:, 0], [1.4, -1.45, 5.2], rtol=1e-6)


# --- two samples ----------------------------------------------------------------------------------------------------


def learner(config: PPOConfig = TINY) -> PPO:
    torch.manual_seed(0)
    return PPO(ActorCritic(3, 4, 1, config), config, seed=1)


def pair(ppo: PPO, ratios: tuple[float, float], rewards: tuple[float, float], shift: float = 0.0) -> Batch:
    """Two robots, one step each, after which their episodes end; the policy has changed by `ratios` since.

    `shift` is how far its mean has moved.
    """
    observation = torch.tensor([[[1.0, 0.0, -0.5], [-0.3, 0.7, 0.2]]])
    critic, action = torch.ones(1, 2, 4), torch.tensor([[[0.1], [-0.2]]])
    with torch.no_grad():
        mean = ppo.model.actor(ppo.model.see(observation[0])).unsqueeze(0)
        log_std = ppo.model.log_std.clone()
        now = -(0.5 * ((action - mean) / log_std.exp()) ** 2 + log_std).sum(dim=2)
    return Batch(
        observation, critic, action, mean - shift, log_std, now - torch.log(torch.tensor([ratios])),
        torch.tensor([rewards]), torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(2),
    )  # fmt: skip


def actor_moved(ppo: PPO, batch: Batch) -> bool:
    before = [part.detach().clone() for part in (*ppo.model.actor.parameters(), ppo.model.log_std)]
    ppo.update(batch)
    after = (*ppo.model.actor.parameters(), ppo.model.log_std)
    return any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("ratios", "rewards", "moves"),
    [
        ((1.3, 0.7), (1.0, -1.0), False),  # good made likelier and bad unlikelier, both by more than 20 %: enough
        ((1.1, 0.9), (1.0, -1.0), True),  # within the limits
        ((1.3, 0.7), (-1.0, 1.0), True),  # the wrong way round: to be undone however far it went
        ((1.3, 1.0), (1.0, -1.0), True),  # one of the two still counts
    ],
)
def test_the_policy_moves_no_further_than_the_clip(ratios, rewards, moves):
    ppo = learner()
    assert actor_moved(ppo, pair(ppo, ratios, rewards)) == moves


@pytest.mark.parametrize(("ratios", "share"), [((1.3, 0.7), 1.0), ((1.3, 1.1), 0.5), ((1.19, 0.81), 0.0)])
def test_the_clipped_share(ratios, share):
    ppo = learner()
    assert ppo.update(pair(ppo, ratios, (1.0, -1.0)))["clipped"] == share


def test_the_divergence_of_two_gaussians():
    ppo = learner(replace(TINY, initial_std=0.4))
    batch = pair(ppo, (1.0, 1.0), (1.0, -1.0), shift=0.1)
    assert ppo.update(batch)["kl"] == pytest.approx(0.1**2 / (2 * 0.16), rel=1e-3)
    ppo = learner(replace(TINY, initial_std=0.4))
    narrower = batch._replace(log_std=torch.full((1,), float(np.log(0.2))))
    # ln(.4 / .2) + (.2^2 + .1^2) / (2 x .4^2) - 1/2
    assert ppo.update(narrower)["kl"] == pytest.approx(0.693147 + 0.05 / 0.32 - 0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(0.0, 1.2), (0.019, 1.2), (0.021, 1.0), (0.03, 1.0), (0.044, 1.0), (0.046, 1 / 1.2), (1.0, 1 / 1.2)],
)
def test_the_step_size_follows_the_divergence(kl, factor):
    """Target .03: it grows below .02, shrinks above .045."""
    ppo = learner(replace(TINY, target_kl=0.03, initial_std=0.5))
    logged = ppo.update(pair(ppo, (1.0, 1.0), (1.0, -1.0), shift=float(np.sqrt(2 * 0.25 * kl))))
    assert logged["learning_rate"] == pytest.approx(3e-4 * factor)
    assert ppo.optimizer.param_groups[0]["lr"] == logged["learning_rate"] == ppo.learning_rate


def test_the_step_size_stays_in_its_range():
    ppo = learner(replace(TINY, learning_rate_range=(2e-4, 4e-4)))
    for _ in range(4):
        ppo.update(pair(ppo, (1.0, 1.0), (1.0, -1.0)))
    assert ppo.learning_rate == 4e-4
    for _ in range(6):
        ppo.update(pair(ppo, (1.0, 1.0), (1.0, -1.0), shift=1.0))
    assert ppo.learning_rate == 2e-4


def test_explained_variance():
    ppo = learner()
    batch = pair(ppo, (1.0, 1.0), (2.0, -1.0))
    assert ppo.update(batch)["explained"] == pytest.approx(0.0, abs=1e-6)
    assert ppo.update(batch._replace(value=batch.reward))["explained"] == pytest.approx(1.0, abs=1e-6)
    assert ppo.update(batch._replace(value=batch.reward / 2))["explained"] == pytest.approx(0.75, abs=1e-6)


def test_exploration_keeps_to_its_range():
    ppo = learner(replace(TINY, std_range=(0.1, 0.3), initial_std=0.3, entropy=100.0))
    logged = ppo.update(pair(ppo, (1.0, 1.0), (1.0, -1.0)))
    assert logged["std"] == pytest.approx(0.3)
    with torch.no_grad():
        ppo.model.log_std.fill_(-9.0)
    ppo.model.limit_std()
    assert ppo.model.log_std.exp().item() == pytest.approx(0.1)


def test_the_critic_learns_returns_in_units_of_its_scale():
    config = replace(TINY, learning_rate=1e-2, learning_rate_range=(1e-2, 1e-2), value_scale=10.0)
    ppo = learner(config)
    batch = pair(ppo, (1.0, 1.0), (20.0, 20.0))
    batch = batch._replace(critic=torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 1.0]]]), reward=torch.tensor([[20.0, -5.0]]))
    for _ in range(200):
        ppo.update(batch)
    np.testing.assert_allclose(ppo.model.value(batch.critic[0]).detach(), [20.0, -5.0], atol=0.5)
    ppo.model.config = replace(config, value_scale=1.0)
    np.testing.assert_allclose(ppo.model.value(batch.critic[0]).detach(), [2.0, -0.5], atol=0.05)


# --- networks -------------------------------------------------------------------------------------------------------


def test_normalizer_agrees_with_numpy_over_several_updates():
    rng = np.random.default_rng(0)
    normalizer = Normalizer(3)
    parts = [rng.normal((5.0, -2.0, 0.0), (0.1, 3.0, 1.0), (count, 3)) for count in (7, 400, 31)]
    for part in parts:
        normalizer.update(torch.from_numpy(part).float())
    rows = np.concatenate(parts)
    np.testing.assert_allclose(normalizer.mean, rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(normalizer.var, rows.var(axis=0), atol=1e-4)
    scaled = normalizer(torch.from_numpy(rows).float()).numpy()
    np.testing.assert_allclose(scaled, (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-4), atol=5e-3)
    far = normalizer(torch.tensor([[99.0, -999.0, 0.0]]))
    assert far[0, 0] == 8.0 and far[0, 1] == -8.0


def test_a_long_past_fades():
    normalizer = Normalizer(1)
    normalizer.count.fill_(5e6)
    for _ in range(2):
        normalizer.update(torch.full((1_000_000, 1), 6.0))
    assert normalizer.count == 5e6
    # Each time 5 of 6 parts are the past: 6 (1 - (5/6)^2).
    assert normalizer.mean.item() == pytest.approx(6.0 * 11 / 36)


def test_actions_are_drawn_around_the_mean_with_their_probability():
    model = ActorCritic(3, 4, 2, replace(TINY, initial_std=0.3))
    observation = torch.tensor([[0.5, -1.0, 2.0]]).repeat(4000, 1)
    mean, action, log_prob = model.act(observation, torch.Generator().manual_seed(0))
    spread = (action - mean).detach()
    assert torch.all(spread.mean(dim=0).abs() < 0.02) and torch.all((spread.std(dim=0) - 0.3).abs() < 0.01)
    normal = torch.distributions.Normal(mean, 0.3)
    constant = 2 * 0.5 * np.log(2 * np.pi)  # of two entries; it cancels in every ratio
    torch.testing.assert_close(log_prob - constant, normal.log_prob(action).sum(dim=1), atol=1e-4, rtol=0)
    again = model.act(observation, torch.Generator().manual_seed(0))[1]
    assert torch.equal(action, again)
    assert torch.equal(model.act(observation, None)[1], mean)


def test_networks_begin_by_hardly_acting():
    torch.manual_seed(0)
    net = mlp((6, 16, 4), last_gain=0.01)
    assert [type(layer).__name__ for layer in net] == ["Linear", "ELU", "Linear"]
    weight = net[0].weight.detach()
    torch.testing.assert_close(weight.T @ weight, 2.0 * torch.eye(6), atol=1e-5, rtol=0)  # orthogonal
    assert net(torch.randn(50, 6)).abs().max() < 0.1 and not net[2].bias.any()


# --- learning -------------------------------------------------------------------------------------------------------


def target(observation: torch.Tensor) -> torch.Tensor:
    x, y = observation.T
    return torch.stack([0.5 * x - 0.8 * y, y + 0.3], dim=1)


def one_step_lives(model: ActorCritic, count: int, generator: torch.Generator) -> Batch:
    """Robots that see a point, aim at another, and are done: reward -|a - target|^2."""
    with torch.no_grad():
        observation = 2.0 * torch.rand((count, 2), generator=generator) - 1.0
        mean, action, log_prob = model.act(observation, generator)
        reward = -(action - target(observation)).square().sum(dim=1)
        value = model.value(observation)
    parts = (observation, observation, action, mean)
    rest = (log_prob, reward, torch.ones(count), value)
    log_std = model.log_std.detach().clone()
    return Batch(
        *(part.unsqueeze(0) for part in parts), log_std, *(part.unsqueeze(0) for part in rest), torch.zeros(count)
    )


def test_aiming_is_learned():
    config = PPOConfig(hidden=(32,), critic_hidden=(16,), learning_rate=1e-3, learning_rate_range=(1e-3, 3e-3))
    torch.manual_seed(0)
    model = ActorCritic(2, 2, 2, config)
    ppo, generator = PPO(model, config, seed=1), torch.Generator().manual_seed(2)
    grid = torch.rand((500, 2), generator=torch.Generator().manual_seed(3)) * 2.0 - 1.0

    def miss() -> float:
        return (model.act(grid, None)[0] - target(grid)).square().sum(dim=1).mean().item()

    before = miss()
    for _ in range(60):
        ppo.update(one_step_lives(model, 1024, generator))
    assert before > 0.5 and miss() < 0.03


def test_a_learner_that_is_restored_learns_the_same_bits():
    first, second = learner(replace(TINY, minibatches=2)), learner(replace(TINY, minibatches=2, learning_rate=1e-3))
    batch = pair(first, (1.1, 0.9), (1.0, -1.0))
    first.update(batch)
    second.set_state(first.get_state())
    assert first.update(batch) == second.update(batch)
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name

"""Probes and diagnostics: by hand, against scipy, and on a small world model that was trained on the spot."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tiny_world import SIDE, SQUARE, STEP, draw, play, tiny_config, train
from torch import Tensor

from neon_sim.world_model.lewm import LeWM, distance_to, latent_cost
from neon_sim.world_model.plan import Box
from neon_sim.world_model.planner import CEM
from neon_sim.world_model.probe import (
    Probe,
    fit_linear_probe,
    fit_mlp_probe,
    paired_test,
    rank_correlation,
    ranks,
    rollout_error,
    score_probe,
    surprise,
)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def _world_model() -> LeWM:
    return train(tiny_config(), 250)


@cache
def _played() -> tuple[Tensor, Tensor, Tensor]:
    """Latents (96, 7, D), actions, places of sequences that were not trained on."""
    frames, actions, places = play(96, 7, _rng(77))
    with torch.no_grad():
        return _world_model().encode(frames), actions, places


def test_a_linear_probe_finds_the_map_that_made_the_data() -> None:
    x = torch.randn(500, 6, generator=_rng()) * torch.tensor([1.0, 10.0, 0.1, 1.0, 1.0, 1.0]) + 3.0
    y = x @ torch.randn(6, 2, generator=_rng(1)) + torch.tensor([5.0, -7.0])
    probe = fit_linear_probe(x[:400], y[:400], ridge=1e-9)
    torch.testing.assert_close(probe(x[400:]), y[400:], atol=1e-3, rtol=1e-4)
    assert score_probe(probe, x[400:], y[400:]).r2.tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    shrunk = fit_linear_probe(x[:400], y[:400], ridge=1e9)
    torch.testing.assert_close(shrunk(x[400:]), y[:400].mean(0).expand(100, 2), atol=1e-3, rtol=1e-3)


def test_an_mlp_probe_reads_what_a_line_cannot_and_repeats() -> None:
    x = torch.randn(2000, 4, generator=_rng())
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2].abs()], dim=1)
    probe = fit_mlp_probe(x[:1500], y[:1500], _rng(3), hidden=64, epochs=40)
    again = fit_mlp_probe(x[:1500], y[:1500], _rng(3), hidden=64, epochs=40)
    assert torch.equal(probe(x), again(x))
    line = fit_linear_probe(x[:1500], y[:1500])
    assert score_probe(line, x[1500:], y[1500:]).r2.max() < 0.1
    assert score_probe(probe, x[1500:], y[1500:]).r2.min() > 0.8


def test_scores_by_hand() -> None:
    truth = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    read = torch.tensor([[1.0, 1.0], [2.0, 1.5], [3.0, 1.0]])
    probe = Probe(torch.nn.Identity(), truth, truth)
    probe.net = _Fixed(probe, read)
    score = score_probe(probe, truth, truth)
    # errors 1, 0, 1: mean square 2/3; variance of (0, 2, 4) is 8/3
    assert score.r2[0] == pytest.approx(1.0 - (2.0 / 3.0) / (8.0 / 3.0)) and np.isnan(score.r2[1])
    assert score.pearson[0] == pytest.approx(1.0) and np.isnan(score.pearson[1])
    assert score.rmse.tolist() == pytest.approx([(2.0 / 3.0) ** 0.5, (0.25 / 3.0) ** 0.5])


class _Fixed(torch.nn.Module):
    """Gives the same readings whatever it is asked, in a probe's standardised units."""

    def __init__(self, probe: Probe, read: Tensor) -> None:
        super().__init__()
        self.read = (read - probe.output_mean) / probe.output_std

    def forward(self, _: Tensor) -> Tensor:
        return self.read


@given(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=2, max_size=4))
def test_ranks_and_correlation_are_scipys(rows: list[list[int]]) -> None:
    values = np.array(rows, np.float64)
    assert np.array_equal(ranks(values) + 1.0, stats.rankdata(values, axis=1))
    found = rank_correlation(values, values[::-1] ** 3)
    for row, other, rho in zip(values, values[::-1], found, strict=True):
        if np.ptp(row) == 0.0 or np.ptp(other) == 0.0:
            assert np.isnan(rho)
        else:
            assert rho == pytest.approx(stats.spearmanr(row, other).statistic)


def test_rank_correlation_by_hand() -> None:
    predicted, truth = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), np.array([[10.0, 400.0, 500.0], [2.0, 3.0, 1.0]])
    assert rank_correlation(predicted, truth).tolist() == pytest.approx([1.0, -0.5])  # 1 - 6 * (1 + 1 + 4) / (3 * 8)
    with pytest.raises(ValueError, match="two equal shapes"):
        rank_correlation(predicted, truth[:, :2])


def test_a_paired_test_agrees_with_the_t_test_and_knows_nothing_from_something() -> None:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=60)
    for shift in (0.0, 0.3):
        violated = normal + shift + rng.normal(size=60)
        found = paired_test(violated, normal, np.random.default_rng(1))
        assert found.p_value == pytest.approx(stats.ttest_rel(violated, normal).pvalue, abs=0.02)
        assert found.mean_difference == pytest.approx((violated - normal).mean())
        assert found.effect_size == pytest.approx((violated - normal).mean() / (violated - normal).std(ddof=1))
    sure = paired_test(normal + 1.0, normal, np.random.default_rng(1), draws=999)
    assert sure.p_value == pytest.approx(1e-3) and sure.pairs == 60
    nothing = paired_test(normal, normal, np.random.default_rng(1))
    assert nothing.p_value == 1.0 and nothing.effect_size == 0.0
    # two pairs, both up by one: of the four sign patterns two are as far from zero
    assert paired_test(np.ones(2), np.zeros(2), np.random.default_rng(0)).p_value == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match="n >= 2"):
        paired_test(normal, normal[:3], rng)
    with pytest.raises(ValueError, match="finite"):
        paired_test(normal * np.nan, normal, rng)


def test_the_square_can_be_read_out_of_the_latent() -> None:
    latents, _, places = _played()
    z, truth = latents.flatten(0, 1), places.flatten(0, 1)
    score = score_probe(fit_linear_probe(z[:400], truth[:400]), z[400:], truth[400:])
    assert score.r2.min() > 0.9 and score.rmse.max() < 1.2  # px, of a path 12 px wide


def test_rollout_error_grows_slowly_and_the_actions_matter() -> None:
    latents, actions, _ = _played()
    found = rollout_error(_world_model(), latents, actions, 4)
    assert found.model.shape == found.no_change.shape == found.shuffled.shape == (4,)
    assert bool((found.model < 0.6 * found.no_change).all()) and bool((found.model < 0.4 * found.shuffled).all())
    assert found.model.max() < 0.2 * found.spread
    truth = (latents[:, 2:6] - latents[:, 1:2]).square().mean((0, 2)).numpy()
    assert found.no_change.tolist() == pytest.approx(truth.tolist(), rel=1e-4)
    with pytest.raises(ValueError, match=r"2 \+ 6 latents"):
        rollout_error(_world_model(), latents, actions, 6)


def test_one_step_of_rollout_error_is_the_mean_surprise() -> None:
    latents, actions, _ = _played()
    one = rollout_error(_world_model(), latents, actions, 1).model[0]
    surprised = surprise(_world_model(), latents[:, :5], actions[:, :4])
    assert surprised.shape == (96, 4)
    assert float(surprised[:, 1].mean()) / latents.shape[-1] == pytest.approx(float(one), rel=1e-4)


def test_a_teleport_surprises_and_a_tint_does_less() -> None:
    model = _world_model()
    frames, actions, places = play(40, 5, _rng(5))
    moved = places.clone()
    moved[:, 4:] = (moved[:, 4:] + 6.0) % (SIDE - SQUARE)
    tinted = frames.clone()
    tinted[:, 4:] = (tinted[:, 4:].float() * 0.93).round().to(torch.uint8)
    with torch.no_grad():
        normal, teleported, colored = (
            surprise(model, model.encode(f), actions)[:, 3].numpy() for f in (frames, draw(moved), tinted)
        )
    violation = paired_test(teleported, normal, np.random.default_rng(0))
    control = paired_test(colored, normal, np.random.default_rng(0))
    assert violation.p_value < 0.01 and violation.effect_size > 1.0
    assert control.mean_difference < 0.3 * violation.mean_difference


def _truth(place: Tensor, candidates: Tensor) -> Tensor:
    """Where plans (B, N, H, 2) from places (B, 2) really lead, (B, N, 2) px."""
    place = place[:, None].expand(-1, candidates.shape[1], -1)
    for push in candidates.unbind(2):
        place = (place + STEP * push).clamp(0.0, SIDE - SQUARE)
    return place


def _problem(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents and actions of two frames, the newest place, and a goal's place 4 to 8 px away."""
    frames, actions, places = play(count, 2, _rng(8))
    with torch.no_grad():
        latents = _world_model().encode(frames)
    angle = torch.rand(count, generator=_rng(9)) * 2.0 * torch.pi
    away = torch.stack([angle.cos(), angle.sin()], -1) * (4.0 + 4.0 * torch.rand(count, 1, generator=_rng(10)))
    goal = (places[:, -1] + away).clamp(0.0, SIDE - SQUARE)
    return latents, actions, places[:, -1], goal


@torch.no_grad()
def test_imagined_costs_order_plans_as_the_world_does_in_half_precision_too() -> None:
    model = _world_model()
    latents, past, place, goal = _problem(24)
    candidates = 2.0 * torch.rand(24, 64, 3, 2, generator=_rng(11)) - 1.0
    truth = (_truth(place, candidates) - goal[:, None]).square().sum(-1).numpy()
    goal_latent = model.encode(draw(goal[:, None]))[:, 0]
    predicted = latent_cost(model, latents, past, distance_to(goal_latent))(candidates)
    assert float(np.median(rank_correlation(predicted.numpy(), truth))) > 0.6  # measured 0.95
    wrong_way = latent_cost(model, latents, past, distance_to(goal_latent))(-candidates)
    assert float(np.median(rank_correlation(wrong_way.numpy(), truth))) < 0.0
    half = copy.deepcopy(model).bfloat16()
    cost = latent_cost(half, latents.bfloat16(), past.bfloat16(), distance_to(goal_latent))
    assert float(np.median(rank_correlation(cost(candidates).numpy(), predicted.numpy()))) > 0.99


@torch.no_grad()
def test_planning_in_the_latent_moves_the_real_square_to_the_goal() -> None:
    model = _world_model()
    latents, past, place, goal = _problem(24)
    goal_latent = model.encode(draw(goal[:, None]))[:, 0]
    box = Box.unit(2)
    plan = CEM(64, 5, 8).plan(
        latent_cost(model, latents, past, distance_to(goal_latent)), box, box.center(24, 3), _rng()
    )
    before = (place - goal).norm(dim=-1)
    after = (_truth(place, plan.actions[:, None])[:, 0] - goal).norm(dim=-1)
    assert float(after.median()) < 0.5 * float(before.median())  # measured 4.4 px before, 0.6 after
    # A state as the goal: what a probe reads of the imagined latents against where the square should be.
    z, actions, places = _played()
    probe = fit_linear_probe(z.flatten(0, 1), places.flatten(0, 1))
    cost = latent_cost(model, latents, past, lambda z: (probe(z) - goal[:, None, None]).square().sum(-1))
    plan = CEM(64, 5, 8).plan(cost, box, box.center(24, 3), _rng())
    after = (_truth(place, plan.actions[:, None])[:, 0] - goal).norm(dim=-1)
    assert float(after.median()) < 0.5 * float(before.median())

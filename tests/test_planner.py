"""Planners on costs whose optimum is known, inside the box and on its walls; the amortised head on a known answer."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neon_sim.world_model.amortised import (
    AmortisedConfig,
    AmortisedHead,
    Pairs,
    distillation_pairs,
    fit_amortised,
    hindsight_pairs,
    imitation_loss,
)
from neon_sim.world_model.plan import Box, Cost, Plan, colored_noise, held, shifted, smoothed
from neon_sim.world_model.planner import CEM, MPPI, GradientPlanner, Planner, icem

PLANNERS: dict[str, Planner] = {
    "cem": CEM(samples=128, iterations=12, elites=16),
    "icem": icem(samples=256, iterations=16, elites=16, sigma=1.0, noise_beta=0.5),
    "mppi": MPPI(samples=256, iterations=20, temperature=0.05, anneal=0.85),
    "gradient": GradientPlanner(samples=4, iterations=60),
}
HORIZON, ACTIONS = 4, 2
BOX = Box(torch.tensor([-1.0, -0.5]), torch.tensor([1.0, 2.5]))
TARGETS = torch.tensor([[0.6, 1.2], [-0.4, 0.1], [5.0, -3.0]])  # the third is out of reach: its corner is (1, -0.5)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bowl(candidates: Tensor) -> Tensor:
    """Squared distance of every action to its problem's target, steep along the second axis."""
    return ((candidates - TARGETS[:, None, None]).square() * torch.tensor([1.0, 4.0])).sum((-1, -2))


def _pushed_mass(candidates: Tensor) -> Tensor:
    """A unit mass on a line, pushed for H steps of 0.5 s: how far it is from 1 m and from rest at the end."""
    place = speed = torch.zeros(candidates.shape[:2])
    for push in candidates[..., 0].unbind(-1):
        speed = speed + 0.5 * push
        place = place + 0.5 * speed
    return (place - 1.0).square() + speed.square() + 1e-3 * candidates[..., 0].square().sum(-1)


def _start(batch: int = 3, horizon: int = HORIZON) -> Tensor:
    return BOX.center(batch, horizon)


@pytest.mark.parametrize("name", PLANNERS)
def test_the_optimum_is_found_inside_the_box_and_in_its_corner(name: str) -> None:
    plan = PLANNERS[name].plan(_bowl, BOX, _start(), _rng())
    best = BOX.clip(TARGETS)[:, None].expand(3, HORIZON, ACTIONS)
    assert plan.actions.shape == best.shape
    torch.testing.assert_close(plan.actions, best, atol=0.03, rtol=0)
    torch.testing.assert_close(plan.cost, _bowl(plan.actions[:, None])[:, 0])


@pytest.mark.parametrize("name", PLANNERS)
def test_no_candidate_ever_leaves_the_box(name: str) -> None:
    asked = []

    def cost(candidates: Tensor) -> Tensor:
        asked.append(candidates.detach().clone())
        return _bowl(candidates)

    seeds = torch.full((3, 1, HORIZON, ACTIONS), 9.0)
    plan = PLANNERS[name].plan(cost, BOX, _start() + 7.0, _rng(), seeds)
    for tensor in [*asked, plan.actions, plan.elites]:
        assert bool((tensor >= BOX.low).all() and (tensor <= BOX.high).all())


@pytest.mark.parametrize("name", PLANNERS)
def test_actions_that_work_together_are_found(name: str) -> None:
    box = Box.unit(1)
    plan = PLANNERS[name].plan(_pushed_mass, box, box.center(1, 6), _rng())
    assert plan.cost.item() < 0.02  # 2.0 for staying where it is
    assert bool((plan.trace[1:] <= plan.trace[:-1]).all()) and plan.trace[0].item() > plan.trace[-1].item()


@pytest.mark.parametrize("name", PLANNERS)
def test_same_generator_same_bits(name: str) -> None:
    first, again, other = (PLANNERS[name].plan(_bowl, BOX, _start(), _rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.actions, again.actions) and torch.equal(first.elites, again.elites)
    assert torch.equal(first.trace, again.trace)
    assert not torch.equal(first.elites, other.elites)


@pytest.mark.parametrize("name", PLANNERS)
def test_a_warm_start_helps(name: str) -> None:
    planner: Planner = replace(PLANNERS[name], iterations=1, sigma=0.3)  # type: ignore[type-var]
    box = Box.unit(1)
    earlier = PLANNERS[name].plan(_pushed_mass, box, box.center(1, 6), _rng()).actions
    cold, warm = (
        torch.stack([planner.plan(_pushed_mass, box, start, _rng(seed)).cost for seed in range(10)]).mean()
        for start in (box.center(1, 6), earlier)
    )
    assert warm < 0.5 * cold


@pytest.mark.parametrize("name", PLANNERS)
def test_a_seed_that_is_the_answer_is_kept(name: str) -> None:
    def needle(candidates: Tensor) -> Tensor:
        """Flat everywhere but close to one plan, which no sampler would hit."""
        return 1.0 - torch.exp(-1e3 * (candidates - 0.77).square().sum((-1, -2)))

    box = Box.unit(ACTIONS)
    seeds = torch.full((1, 1, HORIZON, ACTIONS), 0.77)
    plan = PLANNERS[name].plan(needle, box, box.center(1, HORIZON), _rng(), seeds)
    assert plan.trace[0].item() < 1e-3


@pytest.mark.parametrize("name", PLANNERS)
def test_what_is_not_allowed_is_not_planned(name: str) -> None:
    def fenced(candidates: Tensor) -> Tensor:
        return torch.where(candidates[:, :, 0, 0] > 0.25, torch.inf, _bowl(candidates))

    plan = PLANNERS[name].plan(fenced, BOX, _start(), _rng())
    assert bool(plan.cost.isfinite().all()) and bool((plan.actions[:, 0, 0] <= 0.25).all())
    torch.testing.assert_close(plan.cost, fenced(plan.actions[:, None])[:, 0])


def test_of_few_allowed_candidates_only_those_count() -> None:
    def gap(candidates: Tensor) -> Tensor:
        """Two narrow gaps: the mean of what gets through both lies in the wall between."""
        inside = (candidates[..., 0, 0].abs() - 0.5).abs() < 0.1
        return torch.where(inside, candidates.square().sum((-1, -2)), torch.inf)

    box = Box.unit(1)
    for planner in (CEM(40, 3, 30), MPPI(40, 3, anneal=1.0)):
        plan = planner.plan(gap, box, box.center(1, 1), _rng())
        assert bool(plan.cost.isfinite().all()) and gap(plan.actions[:, None]).item() == pytest.approx(plan.cost.item())


@pytest.mark.parametrize("name", PLANNERS)
def test_problems_are_solved_apart(name: str) -> None:
    def scaled(candidates: Tensor) -> Tensor:
        return _bowl(candidates) * torch.tensor([[1.0], [1e4], [1e-4]])

    plan = PLANNERS[name].plan(scaled, BOX, _start(), _rng())
    torch.testing.assert_close(plan.actions, BOX.clip(TARGETS)[:, None].expand(3, HORIZON, 2), atol=0.03, rtol=0)


@pytest.mark.parametrize("name", PLANNERS)
def test_a_broken_cost_is_named(name: str) -> None:
    planner = PLANNERS[name]
    broken: list[tuple[Cost, str]] = [
        (lambda c: c.sum((-1, -2)) * torch.nan, "NaN"),
        (lambda c: c.sum((-1, -2)) + torch.inf, "Not one candidate is allowed"),
        (lambda c: c.sum(-1), "one number per candidate"),
    ]
    for cost, words in broken:
        with pytest.raises(ValueError, match=words):
            planner.plan(cost, BOX, _start(), _rng())


def test_the_gradient_planner_wants_a_gradient() -> None:
    with pytest.raises(ValueError, match="differentiable"):
        GradientPlanner().plan(lambda c: _bowl(c).detach(), BOX, _start(), _rng())


def test_settings_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: CEM(samples=10, elites=11),
        lambda: CEM(elites=1),
        lambda: CEM(iterations=0),
        lambda: CEM(sample_decay=0.5),
        lambda: MPPI(temperature=0.0),
        lambda: GradientPlanner(samples=0),
    ):
        with pytest.raises(ValueError, match="wants"):
            make()
    with pytest.raises(ValueError, match="low <= high"):
        Box(torch.ones(2), torch.zeros(2))


def test_icem_asks_less_often_and_carries_its_elites_on() -> None:
    asked = []

    def cost(candidates: Tensor) -> Tensor:
        asked.append(candidates.shape[1])
        return _bowl(candidates)

    plan = icem(samples=64, iterations=4, elites=10).plan(cost, BOX, _start(), _rng())
    # 64, 51 + 3, 41 + 3, 33 + 3 candidates, then the mean on its own
    assert asked == [64, 54, 44, 36, 1]
    assert plan.elites.shape == (3, 10, HORIZON, ACTIONS)
    again = icem(samples=20, iterations=1, elites=10).plan(_bowl, BOX, plan.actions, _rng(), shifted(plan.elites, 0))
    assert bool((again.cost <= plan.cost).all())


def test_limits_may_change_from_step_to_step() -> None:
    low = torch.tensor([[-1.0], [-1.0], [-1.0], [-1.0]])
    high = torch.tensor([[0.1], [0.2], [0.4], [0.8]])  # a first action that is close to the last executed one
    plan = CEM(64, 8, 8).plan(lambda c: -c.sum((-1, -2)), Box(low, high), torch.zeros(1, 4, 1), _rng())
    torch.testing.assert_close(plan.actions[0], high, atol=0.02, rtol=0)


def test_shifted_plans_and_held_actions() -> None:
    plan = torch.arange(4.0).view(1, 4, 1)
    assert shifted(plan, 0).flatten().tolist() == [0, 1, 2, 3]
    assert shifted(plan, 1).flatten().tolist() == [1, 2, 3, 3]
    assert shifted(plan, 9).flatten().tolist() == [3, 3, 3, 3]
    seen: list[Tensor] = []
    held(lambda c: seen.append(c) or c.sum((-1, -2)), 2)(plan[:, None])  # type: ignore[func-returns-value]
    assert seen[0].flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_change_costs_its_square() -> None:
    plan = torch.tensor([[1.0, 0.0], [1.0, 2.0], [0.0, 2.0]]).view(1, 1, 3, 2)  # changes by 2, then by 1: 4 + 1
    nothing: Cost = lambda c: torch.zeros(c.shape[:2])  # noqa: E731
    assert smoothed(nothing, 0.1)(plan).item() == pytest.approx(0.5)
    assert smoothed(nothing, 0.1, torch.tensor([[4.0, 0.0]]))(plan).item() == pytest.approx(0.5 + 0.9)
    assert smoothed(lambda c: c.sum((-1, -2)), 0.0, torch.ones(1, 2))(plan).item() == pytest.approx(6.0)


@pytest.mark.parametrize("horizon", [1, 2, 5, 8])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_noise_has_unit_variance_at_every_step_and_is_slow_where_asked(horizon: int, beta: float) -> None:
    noise = colored_noise((4000, horizon, 2), beta, _rng())
    assert noise.shape == (4000, horizon, 2)
    torch.testing.assert_close(noise.std((0, 2)), torch.ones(horizon), atol=0.05, rtol=0)
    if horizon > 2:
        neighbours = float((noise[:, 1:] * noise[:, :-1]).mean())
        assert neighbours == pytest.approx(0.0, abs=0.05) if beta == 0.0 else neighbours > 0.15 * beta


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 5)), min_size=1, max_size=3), st.integers(1, 4), st.data())
def test_clipping_is_the_nearest_point_in_the_box(
    sides: list[tuple[float, float]], horizon: int, data: st.DataObject
) -> None:
    low = torch.tensor([side[0] for side in sides])
    box = Box(low, low + torch.tensor([side[1] for side in sides]))
    values = data.draw(st.lists(st.floats(-20, 20), min_size=len(sides) * horizon, max_size=len(sides) * horizon))
    actions = torch.tensor(values).view(horizon, len(sides))
    clipped = box.clip(actions)
    assert bool((clipped >= box.low).all() and (clipped <= box.high).all())
    inside = (actions >= box.low) & (actions <= box.high)
    assert torch.equal(clipped[inside], actions[inside]) and torch.equal(box.clip(clipped), clipped)
    assert torch.equal(box.clip(box.center(2, horizon)), box.center(2, horizon))


HEAD = AmortisedConfig(dim=2, action_dim=2, plan_steps=3, hidden=64, max_steps=8, learning_rate=3e-3)


def _walks(count: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Latents that are places, moved by the actions: what leads from one to the other is known."""
    actions = (2.0 * torch.rand(count, 1, 2, generator=_rng(seed)) - 1.0).expand(count, length - 1, 2)
    steps = torch.cat([torch.zeros(count, 1, 2), actions.cumsum(1)], dim=1)
    return steps, actions


def test_hindsight_pairs_are_what_happened() -> None:
    latents, actions = _walks(20, 12, 0)
    pairs = hindsight_pairs(latents, actions + torch.arange(11.0)[:, None], 500, HEAD, _rng())
    assert pairs.actions.shape == (500, 3, 2) and int(pairs.steps.min()) == 1 and int(pairs.steps.max()) == 8
    first = pairs.actions[:, 0] - pairs.actions[:, 0].mean(-1, keepdim=True)  # the step number is in both entries
    moved = (pairs.goals - pairs.latents) / pairs.steps[:, None]
    torch.testing.assert_close(first, moved - moved.mean(-1, keepdim=True), atol=1e-4, rtol=0)
    assert torch.equal(pairs.weight.sum(1), pairs.steps.clamp(max=3).float())
    weighted = pairs.weight[:, 1] > 0
    torch.testing.assert_close(pairs.actions[weighted, 1], pairs.actions[weighted, 0] + 1.0)
    with pytest.raises(ValueError, match="T >= 2"):
        hindsight_pairs(latents, actions[:, 1:], 5, HEAD, _rng())


def test_the_imitation_loss_by_hand() -> None:
    target = torch.tensor([[[1.0, 1.0], [9.0, 9.0]]])
    pairs = Pairs(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1), target, torch.tensor([[1.0, 0.0]]))
    assert imitation_loss(torch.tensor([[[0.0, 3.0], [0.0, 0.0]]]), pairs).item() == pytest.approx((1.0 + 4.0) / 2)


def test_the_head_learns_which_way_and_how_fast() -> None:
    torch.manual_seed(0)
    head = AmortisedHead(HEAD)
    latents, actions = _walks(400, 12, 1)
    rng, seen = _rng(3), []
    last = fit_amortised(
        head, lambda n: hindsight_pairs(latents, actions, n, HEAD, rng), 250, lambda update, loss: seen.append(loss)
    )
    assert len(seen) == 250 and last < 0.01 < 0.2 < seen[0]  # the actions' variance is 1 / 3
    places = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]])
    goals = torch.tensor([[2.5, 0.5], [2.5, 0.5], [-2.0, 1.0]])
    with torch.no_grad():
        found = head(places, goals, torch.tensor([4, 8, 4]))
    expected = torch.tensor([[0.5, 0.0], [0.25, 0.0], [-0.5, 0.25]])
    torch.testing.assert_close(found[:, 0], expected, atol=0.15, rtol=0)


def test_a_planner_is_distilled_by_the_same_loss() -> None:
    torch.manual_seed(0)
    head = AmortisedHead(replace(HEAD, plan_steps=1))
    latents, goals = (torch.randn(256, 2, generator=_rng(seed)) for seed in (0, 1))
    box, steps = Box.unit(2), torch.full((256,), 2)

    def cost(candidates: Tensor) -> Tensor:
        return (latents[:, None] + candidates.sum(2) - goals[:, None]).square().sum(-1)

    plan: Plan = CEM(64, 6, 8).plan(cost, box, box.center(256, 2), _rng())
    pairs = distillation_pairs(latents, goals, steps, plan.actions, head.config)
    loss = fit_amortised(head, lambda _: pairs, 150)
    assert loss < 0.05
    with pytest.raises(ValueError, match="gives 3 actions, the plans have 2"):
        distillation_pairs(latents, goals, steps, plan.actions, HEAD)


def test_the_head_is_bounded_and_saturates_at_its_longest_time() -> None:
    head = AmortisedHead()
    assert sum(p.numel() for p in head.parameters()) == 258 * 512 + 512 + 2 * (512 * 512 + 512) + 512 * 50 + 50
    z = 100.0 * torch.randn(4, 128, generator=_rng())
    found = head(z, -z, torch.tensor([1, 50, 51, 0]))
    assert found.shape == (4, 5, 10) and bool((found.abs() <= 1.0).all())
    near, far, beyond = (head(z, -z, torch.full((4,), steps)) for steps in (1, 50, 900))
    assert torch.equal(far, beyond) and not torch.equal(near, far)

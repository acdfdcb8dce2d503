"""The predictor: causal, told by the actions, and imagining the same with its cache as without."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from neon_sim.world_model.config import LeWMConfig, lewm_config
from neon_sim.world_model.predictor import Cache, Predictor, rollout_plain

CONFIG = lewm_config("tiny", positions=6, history=3, action_dim=4, prefix=True)


def _predictor(config: LeWMConfig = CONFIG, dtype: torch.dtype = torch.float64) -> Predictor:
    """In eval mode, with weights everywhere: a fresh one is the identity but for its read-out."""
    torch.manual_seed(0)
    predictor = Predictor(config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in predictor.named_parameters():
            told = name.startswith(("embed_action", "modulation"))
            parameter.add_((1.0 if told else 0.3) * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    predictor.projector.norm.running_mean.normal_()
    predictor.projector.norm.running_var.uniform_(0.5, 2.0)
    return predictor


def _problem(
    seen: int, horizon: int, dtype: torch.dtype = torch.float64, count: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seen + 10 * horizon)
    latents = torch.randn(2, seen, CONFIG.dim, generator=generator)
    past = torch.rand(2, seen - 1, CONFIG.action_dim, generator=generator)
    actions = 2.0 * torch.rand(2, 3, horizon, CONFIG.action_dim, generator=generator) - 1.0
    return latents.to(dtype), past.to(dtype), actions.to(dtype)


@pytest.mark.parametrize("seen", [1, 2, 3])
@pytest.mark.parametrize("horizon", [1, 4, 5, 17])  # 4 fills the six positions after three tokens; 17 begins anew
@pytest.mark.parametrize("positions", [3, 6])  # 3 is the published sliding window
@torch.no_grad()
def test_a_cached_rollout_is_the_uncached_one(seen: int, horizon: int, positions: int) -> None:
    predictor = _predictor(replace(CONFIG, positions=positions))
    problem = _problem(seen, horizon)
    found, plain = predictor.rollout(*problem), rollout_plain(predictor, *problem)
    assert found.shape == (2, 3, horizon, CONFIG.dim)
    assert float(plain.std()) > 0.1
    torch.testing.assert_close(found, plain, atol=1e-6, rtol=0)
    single = _predictor(replace(CONFIG, positions=positions), torch.float32)
    problem = _problem(seen, horizon, torch.float32)
    torch.testing.assert_close(single.rollout(*problem), rollout_plain(single, *problem), atol=1e-4, rtol=0)


@pytest.mark.parametrize("positions", [3, 6])
def test_commands_that_are_held_lead_to_the_same_and_have_gradients_of_their_own(positions: int) -> None:
    """Each is taken three times; with a sliding window some are held across a new beginning."""
    predictor = _predictor(replace(CONFIG, positions=positions))
    latents, past, actions = _problem(2, 3)
    plan = actions.repeat_interleave(3, dim=2)
    with torch.no_grad():
        found, plain = predictor.rollout(latents, past, plan), rollout_plain(predictor, latents, past, plan)
    torch.testing.assert_close(found, plain, atol=1e-6, rtol=0)
    gradients = []
    for rollout in (predictor.rollout, lambda *problem: rollout_plain(predictor, *problem)):
        wished = plan.clone().requires_grad_()
        rollout(latents, past, wished)[..., -1, :].square().sum().backward()
        gradients.append(wished.grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("prefix", [False, True])
@torch.no_grad()
def test_a_rollout_runs_in_the_dtype_of_the_weights(prefix: bool) -> None:
    latents, past, actions = _problem(3, 9, torch.float32)  # nine steps: it begins anew on the way
    whole = _predictor(dtype=torch.float32).rollout(latents, past, actions, prefix)
    half = _predictor(dtype=torch.float32).to(torch.bfloat16)
    found = half.rollout(latents, past, actions, prefix)
    assert found.dtype == torch.bfloat16 and bool(found.isfinite().all())
    assert torch.equal(half.rollout(latents.bfloat16(), past, actions.bfloat16(), prefix), found)
    assert torch.corrcoef(torch.stack([found.float().flatten(), whole.flatten()]))[0, 1] > 0.95


def test_its_gradient_is_the_uncached_one_too() -> None:
    predictor = _predictor()
    latents, past, actions = _problem(2, 7)
    gradients = []
    for rollout in (predictor.rollout, lambda *problem: rollout_plain(predictor, *problem)):
        plan = actions.clone().requires_grad_()
        rollout(latents, past, plan)[..., -1, :].square().sum().backward()
        gradients.append(plan.grad)
    assert gradients[0] is not None and float(gradients[0][:, :, 0].abs().max()) > 0.0  # the first action, too
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-8, rtol=1e-6)


@torch.no_grad()
def test_token_by_token_is_all_at_once() -> None:
    predictor = _predictor()
    latents, actions = torch.randn(2, 6, CONFIG.dim).double(), torch.rand(2, 6, 4).double()
    at_once, full = predictor.advance(latents, predictor.modulations(actions), Cache())
    cache, parts = Cache(), []
    for begin, end in ((0, 1), (1, 4), (4, 6)):
        modulations = predictor.modulations(actions[:, begin:end])
        hidden, cache = predictor.advance(latents[:, begin:end], modulations, cache)
        parts.append(hidden)
    assert cache.length == full.length == 6
    torch.testing.assert_close(torch.cat(parts, dim=1), at_once)
    torch.testing.assert_close(predictor.read(at_once), predictor(latents, actions))


@torch.no_grad()
def test_keys_and_values_put_into_room_are_those_that_grow() -> None:
    predictor = _predictor()
    latents, actions = torch.randn(2, 6, CONFIG.dim).double(), torch.rand(2, 6, 4).double()
    grown = predictor.advance(latents[:, :2], predictor.modulations(actions[:, :2]), Cache())[1]
    roomy = grown.with_room(4, CONFIG, latents)
    for begin, end in ((2, 3), (3, 6)):
        modulations = predictor.modulations(actions[:, begin:end])
        hidden, grown = predictor.advance(latents[:, begin:end], modulations, grown)
        found, roomy = predictor.advance(latents[:, begin:end], modulations, roomy)
        assert torch.equal(found, hidden)
    assert roomy.length == grown.length == 6
    for room, pair in zip(roomy.layers, grown.layers, strict=True):
        assert torch.equal(room[0], pair[0]) and torch.equal(room[1], pair[1])


def test_imagining_is_the_same_with_and_without_a_gradient() -> None:
    predictor = _predictor()
    for seen, horizon in ((1, 3), (3, 4), (3, 9)):  # 9: begins anew
        problem = _problem(seen, horizon)
        with torch.no_grad():
            found = predictor.rollout(*problem)
        torch.testing.assert_close(predictor.rollout(*problem), found)


@torch.no_grad()
def test_no_token_sees_what_comes_after_it() -> None:
    predictor = _predictor()
    latents, actions = torch.randn(1, 6, CONFIG.dim).double(), torch.rand(1, 6, 4).double()
    before = predictor(latents, actions)
    latents[:, 3] = torch.randn(CONFIG.dim)
    changed = predictor(latents, actions) - before
    assert float(changed[:, :3].abs().max()) == 0.0
    assert bool((changed[:, 3:].abs().amax(-1) > 1e-3).all())
    actions[:, 5] += 0.5
    moved = predictor(latents, actions) - before - changed
    assert float(moved[:, :5].abs().max()) < 1e-12 < 1e-3 < float(moved[:, 5].abs().max())


@torch.no_grad()
def test_candidates_and_problems_do_not_touch_each_other() -> None:
    predictor = _predictor()
    latents, past, actions = _problem(3, 5)
    together = predictor.rollout(latents, past, actions)
    alone = predictor.rollout(latents[1:], past[1:], actions[1:, 2:])
    torch.testing.assert_close(alone[0, 0], together[1, 2])


@torch.no_grad()
def test_a_fresh_predictor_is_the_identity_inside() -> None:
    torch.manual_seed(0)
    predictor = Predictor(CONFIG).eval()
    latents, actions = torch.randn(1, 4, CONFIG.dim), torch.rand(1, 4, 4)
    hidden, _ = predictor.advance(latents, predictor.modulations(actions), Cache())
    assert torch.equal(hidden, latents + predictor.places[:, :4])  # adaLN-zero: no action has a say yet


def test_a_fresh_predictor_learns_to_listen_to_actions() -> None:
    torch.manual_seed(0)
    predictor = Predictor(replace(CONFIG, dropout=0.0))
    optimizer = torch.optim.Adam(predictor.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(120):
        latents, actions = (torch.randn(64, 2, n, generator=generator) for n in (CONFIG.dim, 4))
        wanted = torch.nn.functional.pad(actions, (0, CONFIG.dim - 4))
        loss = (predictor(latents, actions) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Without the actions the error cannot fall below 4 / 32 = 0.125.
    assert loss.item() < 0.08


@torch.no_grad()
def test_a_prefix_needs_no_latent_between() -> None:
    predictor = _predictor()
    latents, actions = torch.randn(2, 5, CONFIG.dim).double(), torch.rand(2, 5, 4).double()
    known = torch.tensor([[True, True, False, False, False]]).expand(2, -1)
    told = predictor(latents, actions, known)
    garbage = latents.clone()
    garbage[:, 2:] = 1e3
    assert torch.equal(told, predictor(garbage, actions, known))
    torch.testing.assert_close(told[:, :2], predictor(latents, actions)[:, :2])
    imagined = predictor.rollout(latents[:, :2], actions[:, :1], actions[:, None, 1:], prefix=True)
    torch.testing.assert_close(imagined[:, 0], told[:, 1:])


@torch.no_grad()
def test_a_prefix_rollout_begins_like_the_other_and_goes_on_for_ever() -> None:
    predictor = _predictor()
    problem = _problem(3, 14)
    found, fed_back = predictor.rollout(*problem, prefix=True), predictor.rollout(*problem)
    assert found.shape == fed_back.shape
    torch.testing.assert_close(found[:, :, 0], fed_back[:, :, 0])
    assert not torch.allclose(found[:, :, 1], fed_back[:, :, 1], atol=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    predictor = _predictor()
    latents, past, actions = _problem(3, 4)
    with pytest.raises(ValueError, match="6 positions, got token 7"):
        predictor(torch.randn(1, 7, CONFIG.dim).double(), torch.rand(1, 7, 4).double())
    with pytest.raises(ValueError, match="1 to 3 latents for each of 2 problems"):
        predictor.rollout(latents, past[:, 1:], actions)
    with pytest.raises(ValueError, match=r"got latents \(2, 4, 32\)"):
        predictor.rollout(torch.cat([latents, latents[:, :1]], 1), past, actions)
    with pytest.raises(ValueError, match="did not learn prefixes"):
        _predictor(replace(CONFIG, prefix=False)).rollout(latents, past, actions, prefix=True)

"""EnsembleHead: gate, mixture and energy score by hand; what the gate learns from, guidance, and the two modes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.model.action_heads import EnsembleHead, masked_mse
from neon_sim.model.action_heads.denoising import denoise
from neon_sim.model.action_heads.ensemble import MEMBERS, energy_score


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _small(**changes: object) -> EnsembleHead:
    sizes = {"num_steps": 4, "mlp_hidden": 16, "flow_hidden": 16, "dit_hidden": 16, "dit_layers": 1, "dit_heads": 2}
    given = sizes | {"flow_layers": 3, "dropout": 0.0} | changes
    return EnsembleHead(5, 2, **given)  # type: ignore[arg-type]


def _set_gate(head: EnsembleHead, *shares: float) -> None:
    with torch.no_grad():
        head.gate.weight.zero_()
        head.gate.bias.copy_(torch.tensor(shares).log())


def test_gate_is_a_softmax_of_one_linear_layer() -> None:
    head = _small()
    with torch.no_grad():
        head.gate.weight.zero_()
        head.gate.weight[1, 0] = 1.0
        head.gate.bias.copy_(torch.tensor([0.0, 0.0, math.log(2.0)]))
    features = torch.zeros(2, 5)
    features[1, 0] = math.log(3.0)
    torch.testing.assert_close(head.shares(features), torch.tensor([[0.25, 0.25, 0.5], [1 / 6, 0.5, 1 / 3]]))
    assert MEMBERS == ("mlp", "flow", "dit")


def test_the_answer_is_the_mixture_of_members_that_share_their_noise() -> None:
    head = _small().eval()
    features = torch.randn(3, 5)
    shares = head.shares(features)
    chunk = head(features, generator=_generator(2))
    noise = torch.randn(3, 4, 2, generator=_generator(2))
    flow, dit = (denoise(member.begin(features, noise=noise), 4) for member in (head.flow, head.dit))
    expected = sum(shares[:, k].view(3, 1, 1) * member for k, member in enumerate((head.mlp(features), flow, dit)))
    torch.testing.assert_close(chunk, expected)
    assert chunk.shape == (3, 4, 2) and chunk.abs().max() < 1.0


@pytest.mark.parametrize(("trusted", "name"), list(enumerate(MEMBERS)))
def test_a_gate_that_trusts_one_member_gives_that_member(trusted: int, name: str) -> None:
    head = _small().eval()
    _set_gate(head, *(1.0 if index == trusted else 1e-30 for index in range(3)))
    features = torch.randn(2, 5)
    member = getattr(head, name)
    alone = member(features) if name == "mlp" else member(features, generator=_generator())
    torch.testing.assert_close(head(features, generator=_generator()), alone)


def test_energy_score_by_hand() -> None:
    target, first, second = torch.zeros(2, 1, 4), torch.full((2, 1, 4), 0.3), torch.full((2, 1, 4), -0.5)
    # (.3 + .5) / 2 - .8 / 2 = 0: draws on either side of the truth; and both beyond it: (.3 + .7) / 2 - .4 / 2 = .3
    second[1] = 0.7
    assert energy_score(first, second, target).tolist() == pytest.approx([0.0, 0.3], abs=1e-5)
    one_step = torch.tensor([[[3.0, 4.0], [99.0, 99.0]]])
    score = energy_score(one_step, one_step, torch.zeros(1, 2, 2), torch.tensor([[1, 0]]))
    assert score.item() == pytest.approx(math.sqrt(25 / 2), rel=1e-5)  # rms over one real step of two values
    assert energy_score(one_step, one_step, torch.zeros(1, 2, 2), torch.zeros(1, 2)).item() == pytest.approx(
        0, abs=2e-6
    )


@settings(max_examples=25)
@given(st.floats(0.05, 0.95), st.floats(0.1, 1.0))
def test_the_score_prefers_the_truths_own_two_modes(share: float, size: float) -> None:
    """Truth +-size with chance 1/2. Draws of the truth: size / 2 on average. Their mean, or one mode alone: size."""

    def expected(draws: dict[float, float]) -> float:
        total = 0.0
        for (x, p), (z, q), y in ((a, b, c) for a in draws.items() for b in draws.items() for c in (size, -size)):
            chunks = (torch.full((1, 1, 1), value, dtype=torch.float64) for value in (x, z, y))
            total += 0.5 * p * q * energy_score(*chunks).item()
        return total

    best = expected({size: 0.5, -size: 0.5})
    assert best == pytest.approx(size / 2, abs=1e-5)
    assert expected({0.0: 1.0}) == pytest.approx(size, abs=1e-5)
    assert best <= expected({size: share, -size: 1.0 - share}) + 1e-9
    assert best < expected({share * size: 0.5, -share * size: 0.5})


def test_loss_is_the_members_own_and_the_gates() -> None:
    head = _small()
    features, target, mask = torch.randn(6, 5), torch.rand(6, 4, 2) - 0.5, torch.rand(6, 4) < 0.7
    loss = head.compute_loss(features, target, mask, generator=_generator(1))
    generator = _generator(1)
    parts = [masked_mse(head.mlp(features), target, mask)]
    parts += [member.compute_loss(features, target, mask, generator=generator) for member in (head.flow, head.dit)]
    parts.append(head.gate_loss(features, target, mask, generator=generator))
    torch.testing.assert_close(loss, torch.stack(parts).sum())
    assert torch.equal(head.compute_loss(features, target, mask, generator=_generator(1)), loss)


def test_gate_loss_scores_two_draws_and_teaches_the_gate_alone() -> None:
    head = _small()
    features, target = torch.randn(3, 5), torch.rand(3, 4, 2) - 0.5
    loss = head.gate_loss(features, target, generator=_generator(1))
    noise = torch.randn(6, 4, 2, generator=_generator(1))
    shares = head.shares(features)
    draws = []
    for part in (noise[:3], noise[3:]):
        members = (
            head.mlp(features),
            denoise(head.flow.begin(features, noise=part), 4),
            denoise(head.dit.begin(features, noise=part), 4),
        )
        draws.append(torch.einsum("kbta,bk->bta", torch.stack(members), shares))
    torch.testing.assert_close(loss, energy_score(draws[0], draws[1], target).mean())
    loss.backward()
    learned = {name for name, p in head.named_parameters() if p.grad is not None}
    assert learned == {"gate.weight", "gate.bias"}
    assert head.gate.weight.grad is not None and bool(head.gate.weight.grad.any())


@pytest.mark.parametrize("cross", [None, 6])
def test_gradients_reach_every_weight(cross: int | None) -> None:
    head = _small(cross_attention_dim=cross, mlp_hidden=32, flow_hidden=32, dit_hidden=32)
    with torch.no_grad():
        for parameter in head.dit.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))  # adaLN-zero holds gradients back: test_dit_head.py
    context = None if cross is None else torch.randn(64, 3, cross)
    head.compute_loss(torch.randn(64, 5), torch.rand(64, 4, 2) - 0.5, context=context).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_padding_changes_neither_loss_nor_gradient() -> None:
    head = _small()
    features, target, mask = torch.randn(6, 5), torch.rand(6, 4, 2) - 0.5, torch.rand(6, 4) < 0.6
    mask[0] = False
    results = []
    for filling in (0.3, 1e6, torch.nan):
        spoiled = torch.where(mask.unsqueeze(-1), target, filling)
        loss = head.compute_loss(features, spoiled, mask, generator=_generator())
        results.append([loss, *torch.autograd.grad(loss, list(head.parameters()))])
    for one, two, three in zip(*results, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)
    empty = head.compute_loss(features, target, torch.zeros(6, 4), generator=_generator())
    assert empty.item() == 0.0


def test_a_guide_sees_the_mixture_and_moves_all_but_the_mlps_share() -> None:
    head = _small().eval()
    _set_gate(head, 0.25, 0.35, 0.4)
    features, seen = torch.randn(2, 5), []
    plain = head(features, generator=_generator())

    def last_only(chunk: torch.Tensor, time: float) -> torch.Tensor:
        seen.append(chunk.detach().clone())
        return torch.full_like(chunk, 0.1 if time == 0.75 else 0.0)

    guided = head(features, generator=_generator(), guide=last_only)
    torch.testing.assert_close(guided, plain + 0.75 * 0.1)
    torch.testing.assert_close(seen[-1], plain)


def test_signature_is_the_documents() -> None:
    head = EnsembleHead(
        input_dim=2048,
        action_dim=17,
        num_steps=16,
        mlp_hidden=512,
        flow_hidden=512,
        dit_hidden=384,
        dit_layers=8,
        dit_heads=6,
        flow_layers=4,
        num_denoise_steps=4,
    )
    assert sum(p.numel() for p in head.gate.parameters()) == 2048 * 3 + 3  # the documents' "gate ~6K"
    with torch.no_grad():
        assert head.eval()(torch.randn(1, 2048)).shape == (1, 16, 17)


def test_wrong_inputs_are_refused() -> None:
    head, features = _small(), torch.zeros(2, 5)
    with pytest.raises(ValueError, match=r"EnsembleHead wants chunks of shape \(2, 4, 2\), got \(2, 4, 3\)"):
        head.compute_loss(features, torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match=r"chunks of shape \(2, 4, 2\), got \(3, 4, 2\)"):
        head.begin(features, noise=torch.zeros(3, 4, 2))
    with pytest.raises(ValueError, match="wants context tokens"):
        _small(cross_attention_dim=6)(features)
    with pytest.raises(ValueError, match="has no cross-attention"):
        head(features, torch.zeros(2, 3, 6))


def test_the_ensemble_keeps_two_modes_and_stops_trusting_the_mlp() -> None:
    """Chunks are all 0.6 or all -0.6, the observation telling nothing: the MLP can only answer 0.

    Where this was written: 84 % of the draws within .15 of a mode, 2.6 % trust in the MLP, and flow and DiT went to the
    same mode from the same noise in 89 %.
    """
    head, generator = EnsembleHead(4, 4, 8, 32, 32, 32, 1, 2, 3, dropout=0.0), _generator()
    optimizer = torch.optim.AdamW(head.parameters(), lr=8e-3, betas=(0.85, 0.99))
    for _ in range(100):
        sign = 2.0 * torch.randint(0, 2, (32, 1, 1), generator=generator) - 1.0
        optimizer.zero_grad()
        head.compute_loss(torch.ones(32, 4), (0.6 * sign).expand(-1, 8, 4), generator=generator).backward()
        optimizer.step()
    head.eval()
    features = torch.ones(256, 4)
    with torch.no_grad():
        drawn = head(features, generator=generator).mean(dim=(1, 2))
        noise = torch.randn(256, 8, 4, generator=generator)
        flow, dit = (denoise(part.begin(features, noise=noise), 4).mean(dim=(1, 2)) for part in (head.flow, head.dit))
        trust = head.shares(features[:1])[0]
    assert ((drawn.abs() - 0.6).abs() < 0.15).float().mean() > 0.7
    assert 0.1 < (drawn > 0).float().mean() < 0.9
    assert trust[0] < 0.1
    assert (flow.sign() == dit.sign()).float().mean() > 0.75  # the same noise mostly leads to the same mode

"""DiT: attention, modulation, adaLN-zero, schedule and DDIM by hand; steps, padding, gradients, modes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from neon_sim.model.action_heads import DiTActionHead, DiTBlock, masked_mse
from neon_sim.model.action_heads.dit import ddim_step, noise_schedule
from neon_sim.model.layers import Attention, modulate, time_waves


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _nudge(module: nn.Module) -> None:
    """Leave the zeros of adaLN-zero, as training does."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))


def _small(nudged: bool = False, **changes: object) -> DiTActionHead:
    given = {"num_steps": 4, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0} | changes
    head = DiTActionHead(5, 3, **given)  # type: ignore[arg-type]
    if nudged:
        _nudge(head)
    return head


def test_attention_by_hand() -> None:
    attention = Attention(4, 2, memory_dim=3)
    x, memory = torch.randn(1, 2, 4), torch.randn(1, 5, 3)
    query = attention.query(x)
    keys, values = attention.key_value(memory).chunk(2, dim=-1)
    found = []
    for head in (slice(0, 2), slice(2, 4)):
        weight = (query[..., head] @ keys[..., head].mT / math.sqrt(2.0)).softmax(-1)
        found.append(weight @ values[..., head])
    torch.testing.assert_close(attention(x, memory), attention.output(torch.cat(found, dim=-1)))


def test_attention_refuses_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="got 3 heads for 4"):
        Attention(4, 3)


def test_modulate_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    shifted = modulate(x, torch.tensor([[10.0, 20.0]]), torch.tensor([[0.5, -1.0]]))
    assert shifted.tolist() == [[[11.5, 20.0], [14.5, 20.0]]]


def test_time_waves_by_hand() -> None:
    waves = time_waves(torch.tensor([0.0, 0.02]), 4)
    assert waves[0].tolist() == [1.0, 1.0, 0.0, 0.0]
    # periods 4 and 0.08: 0.02 is 1/200 and 1/4 of a turn
    expected = [math.cos(math.pi / 100), 0.0, math.sin(math.pi / 100), 1.0]
    assert waves[1].tolist() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="even width"):
        time_waves(torch.zeros(1), 3)


def test_noise_schedule_by_hand() -> None:
    signal, level = noise_schedule(torch.tensor([0.0, 1 / 3, 0.5, 1.0], dtype=torch.float64))
    assert signal.tolist() == pytest.approx([0.0, 0.5, math.sqrt(0.5), 1.0])
    assert level.tolist() == pytest.approx([1.0, math.sqrt(0.75), math.sqrt(0.5), 0.0], abs=1e-15)


def test_ddim_step_by_hand() -> None:
    # t = 1/3: s = .5, n = sqrt(.75); eps = (1 - .5 * .4) / sqrt(.75). t = 2/3 has s and n the other way round
    eps = 0.8 / math.sqrt(0.75)
    after = ddim_step(torch.tensor(1.0), torch.tensor(0.4), 1 / 3, 2 / 3)
    assert after.item() == pytest.approx(math.sqrt(0.75) * 0.4 + 0.5 * eps, rel=1e-6)
    assert ddim_step(torch.tensor(3.0), torch.tensor(0.4), 0.75, 1.0).item() == pytest.approx(0.4, rel=1e-6)


@given(st.floats(-1, 1), st.floats(-4, 4), st.floats(0, 0.95), st.floats(0.01, 1))
def test_ddim_keeps_the_noise_when_the_action_is_known(clean: float, eps: float, time: float, share: float) -> None:
    after = time + share * (1.0 - time)
    (signal, next_signal), (level, next_level) = noise_schedule(torch.tensor([time, after], dtype=torch.float64))
    x = ddim_step(signal * clean + level * eps, torch.tensor(clean, dtype=torch.float64), time, after)
    assert x.item() == pytest.approx((next_signal * clean + next_level * eps).item(), abs=1e-9)


@pytest.mark.parametrize("cross", [None, 6])
def test_a_new_block_is_the_identity(cross: int | None) -> None:
    block = DiTBlock(hidden_dim=16, num_heads=2, dropout=0.1, cross_attention_dim=cross)
    x, condition = torch.randn(3, 4, 16), torch.randn(3, 16)
    context = None if cross is None else torch.randn(3, 7, 6)
    assert torch.equal(block(x, condition, context), x)
    _nudge(block)
    assert (block.eval()(x, condition, context) - x).abs().max() > 0.01


def test_block_by_hand() -> None:
    """Self-attention, cross-attention, MLP: each gate * part(RMSNorm(h) (1 + scale) + shift) + alpha h (eq. 5-7)."""
    block = DiTBlock(8, 2, dropout=0.0, cross_attention_dim=6).double()
    _nudge(block)
    x, condition = torch.randn(2, 4, 8).double(), torch.randn(2, 8).double()
    context = torch.randn(2, 3, 6).double()
    levels = block.modulation(condition * condition.sigmoid()).view(2, 3, 3, 8)  # part, then shift, scale, gate

    def mlp(h: Tensor) -> Tensor:
        return block.mlp_out(block.mlp_in(h).clamp(min=0.0) ** 2)

    h = x
    parts = (lambda h: block.self_attention(h, h), lambda h: block.cross_attention(h, context), mlp)
    for index, part in enumerate(parts):
        shift, scale, gate = (levels[:, index, i].unsqueeze(1) for i in range(3))
        normed = h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt() * block.norms[index].weight
        h = gate * part(normed * (1 + scale) + shift) + block.residuals[index].alpha * h  # type: ignore[index]
    torch.testing.assert_close(block(x, condition, context), h)


def test_block_with_the_switches_off_is_the_published_one() -> None:
    block = DiTBlock(8, 2, 0.0, use_relu_squared=False, use_rmsnorm=False, use_residual_scale=False)
    _nudge(block)
    x, condition = torch.randn(2, 4, 8), torch.randn(2, 8)
    levels = block.modulation(F.silu(condition)).view(2, 2, 3, 1, 8)
    (shift, scale, gate), (shift2, scale2, gate2) = (levels[:, i].unbind(1) for i in range(2))
    normed = F.layer_norm(x, (8,)) * (1 + scale) + shift
    h = x + gate * block.self_attention(normed, normed)
    normed = F.layer_norm(h, (8,)) * (1 + scale2) + shift2
    torch.testing.assert_close(block(x, condition), h + gate2 * block.mlp_out(F.gelu(block.mlp_in(normed))))
    assert {name.split(".")[0] for name, _ in block.named_parameters()} == {
        "self_attention",
        "mlp_in",
        "mlp_out",
        "modulation",
    }


def test_a_new_head_is_linear_in_its_tokens_and_blind_to_the_features() -> None:
    """All gates are zero: what comes out is the capped output of the normed token."""
    head = _small()
    noisy, time = torch.randn(2, 4, 3), torch.tensor([0.2, 0.7])
    x = head.action_proj(noisy) + head.step_embed
    expected = torch.tanh(head.output(head.norm(x)))
    assert torch.equal(head.estimate(noisy, time, torch.randn(2, 5)), expected)


def test_steps_see_each_other_and_rows_do_not() -> None:
    head = _small(nudged=True).eval()
    noisy, time, features = torch.randn(2, 4, 3), torch.tensor([0.3, 0.3]), torch.randn(2, 5)
    before = head.estimate(noisy, time, features)
    changed = noisy.clone()
    changed[0, 3] += 1.0
    after = head.estimate(changed, time, features)
    assert (after[0, 0] - before[0, 0]).abs().max() > 1e-5
    assert torch.equal(after[1], before[1])
    same = head.estimate(torch.zeros(1, 4, 3), time[:1], features[:1])
    assert (same[:, 1:] - same[:, :-1]).abs().amax(-1).min() > 1e-4  # the step embedding tells equal tokens apart


def test_time_and_features_reach_a_trained_head() -> None:
    head = _small(nudged=True).eval()
    noisy, features = torch.randn(1, 4, 3), torch.randn(1, 5)
    at = [head.estimate(noisy, torch.tensor([t]), features) for t in (0.1, 0.9)]
    assert (at[0] - at[1]).abs().max() > 1e-3
    assert (head.estimate(noisy, torch.tensor([0.1]), features + 1.0) - at[0]).abs().max() > 1e-3


def test_the_loss_is_the_masked_error_of_the_denoised_chunk() -> None:
    head = _small(nudged=True)
    features, target, mask = torch.randn(6, 5), torch.rand(6, 4, 3) - 0.5, torch.rand(6, 4) < 0.7
    loss = head.compute_loss(features, target, mask, generator=_generator(3))
    generator = _generator(3)
    time, noise = torch.rand(6, generator=generator), torch.randn(6, 4, 3, generator=generator)
    shown = torch.where(mask.unsqueeze(-1), target, 0.0)
    angle = (0.5 * math.pi * time).view(-1, 1, 1)
    predicted = head.estimate(angle.sin() * shown + angle.cos() * noise, time, features)
    torch.testing.assert_close(loss, ((predicted - target)[mask] ** 2).sum() / (int(mask.sum()) * 3))
    assert torch.equal(loss, masked_mse(predicted, target, mask))


def test_four_ddim_steps_by_hand() -> None:
    head = _small(nudged=True).eval()
    features, noise = torch.randn(2, 5), torch.randn(2, 4, 3)
    x = noise
    for index in range(4):
        clean = head.estimate(x, torch.full((2,), index / 4), features)
        now, after = math.pi / 8 * index, math.pi / 8 * (index + 1)
        eps = (x - math.sin(now) * clean) / math.cos(now)
        x = math.sin(after) * clean + math.cos(after) * eps
    process = head.begin(features, noise=noise)
    for index in range(4):
        process.estimate(index / 4)
        process.advance(None, index / 4, (index + 1) / 4)
    torch.testing.assert_close(process.chunk(), x)
    assert process.chunk().abs().max() < 1.0
    torch.manual_seed(4)
    drawn = torch.randn(2, 4, 3)
    torch.manual_seed(4)
    ours = head(features)
    again = head.begin(features, noise=drawn)
    for index in range(4):
        again.estimate(index / 4)
        again.advance(None, index / 4, (index + 1) / 4)
    assert torch.equal(ours, again.chunk())


def test_padding_changes_neither_loss_nor_gradient() -> None:
    head = _small(nudged=True)
    features, target, mask = torch.randn(6, 5), torch.rand(6, 4, 3) - 0.5, torch.rand(6, 4) < 0.6
    results = []
    for filling in (0.3, 1e6, torch.nan):
        spoiled = torch.where(mask.unsqueeze(-1), target, filling)
        loss = head.compute_loss(features, spoiled, mask, generator=_generator())
        results.append([loss, *torch.autograd.grad(loss, list(head.parameters()))])
    for one, two, three in zip(*results, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


@pytest.mark.parametrize("cross", [None, 6])
def test_gradients_reach_every_weight_once_the_gates_are_open(cross: int | None) -> None:
    """At the start adaLN-zero holds back what lies behind a gate; one step of the optimiser opens it."""
    head = _small(cross_attention_dim=cross)
    context = None if cross is None else torch.randn(64, 3, cross)
    features, target = torch.randn(64, 5), torch.rand(64, 4, 3) - 0.5
    open_at_once = {"action_proj", "step_embed", "output", "norm", "modulation"}
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for step in range(4):
        optimizer.zero_grad()
        head.compute_loss(features, target, context=context, generator=_generator(step)).backward()
        silent = {name for name, p in head.named_parameters() if p.grad is None or not bool(p.grad.any())}
        if step == 0:
            assert not any(name.split(".")[0] in open_at_once or ".modulation." in name for name in silent)
            assert all(f"blocks.{i}.mlp_in.weight" in silent for i in range(2))
        optimizer.step()
    assert silent == set()


def test_context_tokens_are_seen_in_any_order() -> None:
    head = _small(nudged=True, cross_attention_dim=6).eval()
    features, context = torch.randn(2, 5), torch.randn(2, 3, 6)
    seen = head(features, context, _generator())
    torch.testing.assert_close(head(features, context[:, [2, 0, 1]], _generator()), seen)
    assert (head(features, context + torch.randn(2, 3, 6), _generator()) - seen).abs().max() > 1e-4


def test_one_generator_gives_the_same_bits() -> None:
    head = _small(nudged=True).eval()
    features, target = torch.randn(3, 5), torch.zeros(3, 4, 3)
    assert torch.equal(head(features, generator=_generator(7)), head.sample(features, generator=_generator(7)))
    assert not torch.equal(head(features, generator=_generator(7)), head(features, generator=_generator(8)))
    losses = [head.compute_loss(features, target, generator=_generator(s)) for s in (7, 7, 8)]
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


def test_a_guide_moves_the_answer_by_its_last_correction() -> None:
    head = _small()
    with torch.no_grad():
        head.output.weight.zero_()
        head.output.bias.fill_(math.atanh(0.25))
    times: list[float] = []

    def guide(chunk: Tensor, time: float) -> Tensor:
        times.append(time)
        return torch.full_like(chunk, 0.1 * len(times))

    with torch.inference_mode():
        chunk = head(torch.zeros(2, 5), guide=guide)
    torch.testing.assert_close(chunk, torch.full((2, 4, 3), 0.25 + 0.4))
    assert times == [0.0, 0.25, 0.5, 0.75]


def test_signatures_are_the_documents() -> None:
    head = DiTActionHead(
        input_dim=2048,
        action_dim=17,
        num_steps=16,
        hidden_dim=384,
        num_layers=8,
        num_heads=6,
        num_denoise_steps=4,
        soft_cap_value=1.0,
    )
    features = torch.randn(1, 2048)
    assert head.compute_loss(features, torch.zeros(1, 16, 17), torch.ones(1, 16)).dim() == 0
    assert head.sample(features, num_denoise_steps=4).shape == (1, 16, 17)
    block = DiTBlock(hidden_dim=384, num_heads=6, dropout=0.1, cross_attention_dim=2048)
    assert block(torch.zeros(1, 16, 384), torch.zeros(1, 384), torch.zeros(1, 9, 2048)).shape == (1, 16, 384)
    d = 384  # attention 4 d^2, MLP 4 d^2, modulation 6 d^2 and their biases, two norms, two alphas
    one = 14 * d * d + (2 * d + 3 * d + 6 * d) + 2 * d + 2
    ends = 2048 * d + d + 2 * (d * d + d) + 17 * d + d + 16 * d + d + 2 * d * d + 2 * d + 17 * d + 17
    assert sum(p.numel() for p in head.parameters()) == 8 * one + ends


def test_wrong_inputs_are_refused() -> None:
    head, features = _small(), torch.zeros(2, 5)
    with pytest.raises(ValueError, match=r"DiTActionHead wants chunks of shape \(2, 4, 3\), got \(2, 4, 2\)"):
        head.compute_loss(features, torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match=r"mask of shape \(2, 4\)"):
        head.compute_loss(features, torch.zeros(2, 4, 3), torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"got \(1, 4, 3\)"):
        head.begin(features, noise=torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match="at least 1 step, got -1"):
        head.sample(features, -1)
    with pytest.raises(ValueError, match="has no cross-attention"):
        head(features, torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"context tokens \(B, M, 6\), got \(2, 3, 5\)"):
        _small(cross_attention_dim=6)(features, torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match="DiTBlock with cross-attention wants context tokens"):
        DiTBlock(16, 2, cross_attention_dim=6)(torch.zeros(1, 4, 16), torch.zeros(1, 16))
    with pytest.raises(ValueError, match="got 5 heads for 16"):
        _small(num_heads=5)


def test_bfloat16_and_autocast_give_a_float32_loss() -> None:
    features, target = torch.randn(2, 5), torch.zeros(2, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert _small(nudged=True).compute_loss(features, target).dtype == torch.float32
    head = _small(nudged=True).to(torch.bfloat16)
    assert head.compute_loss(features.bfloat16(), target).dtype == torch.float32
    assert head(features.bfloat16()).dtype == torch.bfloat16


def test_dit_keeps_two_modes() -> None:
    """Chunks are all 0.6 or all -0.6; 93 % of the draws were within .15 of one where this was written, 25 % above 0."""
    head, generator = DiTActionHead(4, 4, 8, 32, 1, 2, dropout=0.0), _generator()
    optimizer = torch.optim.AdamW(head.parameters(), lr=8e-3, betas=(0.85, 0.99))
    for _ in range(100):
        sign = 2.0 * torch.randint(0, 2, (32, 1, 1), generator=generator) - 1.0
        optimizer.zero_grad()
        head.compute_loss(torch.ones(32, 4), (0.6 * sign).expand(-1, 8, 4), generator=generator).backward()
        optimizer.step()
    with torch.no_grad():
        drawn = head.eval()(torch.ones(256, 4), generator=generator).mean(dim=(1, 2))
    assert ((drawn.abs() - 0.6).abs() < 0.15).float().mean() > 0.75
    assert 0.1 < (drawn > 0).float().mean() < 0.9

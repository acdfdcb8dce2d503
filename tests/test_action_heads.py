"""Standard action heads: appendix B and eq. 8, 10, 11 by hand, masks, groups, gradients."""

import inspect
import json
import time
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.action_heads import ActionChunkingHead, ActionHeadConfig, G1ActionHead, MLPDecoder, masked_mse
from neon_sim.model.layers import relu_squared

SMALL = ActionHeadConfig(hidden_size=12, mlp_hidden=8, dropout=0.0)
VANILLA: dict[str, Any] = {
    "use_relu_squared": False,
    "use_rmsnorm": False,
    "use_residual_scale": False,
    "use_skip_connections": False,
    "soft_cap_value": 0.0,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _appendix_b(decoder: MLPDecoder, x: np.ndarray, alphas: list[float]) -> np.ndarray:
    """The paper's appendix B in numpy, line by line."""
    weights = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in decoder.hidden]  # type: ignore[operator]

    def norm_act(h: np.ndarray) -> np.ndarray:
        return np.maximum(h / np.sqrt((h**2).mean() + 1e-6), 0.0) ** 2

    h = skip = norm_act(weights[0][0] @ x + weights[0][1])
    for index, (weight, bias) in enumerate(weights[1:]):
        h_in = h
        if index == len(weights) - 2:
            h = np.concatenate([h, skip])
        h = norm_act(weight @ h + bias) + alphas[index] * h_in
    return np.tanh(decoder.output.weight.detach().numpy() @ h + decoder.output.bias.detach().numpy())


@pytest.mark.parametrize("num_layers", [2, 3, 4, 6])
def test_decoder_is_appendix_b(num_layers: int) -> None:
    decoder = MLPDecoder(5, 3, hidden_dim=7, num_layers=num_layers).double().eval()
    alphas = [0.3 + 0.2 * index for index in range(num_layers - 2)]
    assert decoder.residuals is not None and len(decoder.residuals) == num_layers - 2
    with torch.no_grad():
        for residual, alpha in zip(decoder.residuals, alphas, strict=True):
            residual.alpha.fill_(alpha)  # type: ignore[operator]
        x = torch.randn(5, dtype=torch.float64)
        np.testing.assert_allclose(decoder(x).numpy(), _appendix_b(decoder, x.numpy(), alphas), rtol=1e-9, atol=1e-12)


def test_decoder_on_numbers_small_enough_for_paper() -> None:
    """One input, two hidden units, three layers, weights of one; the comment is the whole calculation."""
    decoder = MLPDecoder(1, 1, hidden_dim=2, num_layers=3, use_rmsnorm=False, dropout=0.0, soft_cap_value=4.0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.fill_(0.0)
        decoder.hidden[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))  # type: ignore[operator]
        decoder.hidden[1].weight.copy_(torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.0] * 4]))  # type: ignore[operator]
        decoder.residuals[0].alpha.fill_(0.25)  # type: ignore[index,operator]
        decoder.output.weight.fill_(0.1)
    # x = 2: (2, -2) -> (4, 0) = h = skip; .5 * 4 + .5 * 4 = 4 -> (16, 0); + .25 h = (17, 0); .1 * 17 = 1.7
    assert decoder(torch.tensor([[2.0]])).item() == pytest.approx(4.0 * np.tanh(1.7 / 4.0), rel=1e-6)


def test_decoder_with_every_switch_off_is_a_plain_mlp() -> None:
    decoder = MLPDecoder(5, 3, hidden_dim=7, num_layers=4, dropout=0.0, **VANILLA)
    first, second, third = decoder.hidden
    x = torch.randn(2, 5)
    hidden = F.gelu(first(x))
    hidden = F.gelu(second(hidden)) + hidden
    hidden = F.gelu(third(hidden)) + hidden
    torch.testing.assert_close(decoder(x), torch.tanh(decoder.output(hidden)))
    names = {name.split(".")[0] for name, _ in decoder.named_parameters()}
    assert names == {"hidden", "output"}


def test_decoder_signature_is_the_documents() -> None:
    decoder = MLPDecoder(
        input_dim=2048,
        output_dim=14,
        hidden_dim=512,
        num_layers=3,
        dropout=0.1,
        use_relu_squared=True,
        use_rmsnorm=True,
        use_residual_scale=True,
        use_skip_connections=True,
        soft_cap_value=1.0,
    )
    assert decoder(torch.zeros(1, 2048)).shape == (1, 14)
    # Linear 2048-512, 1024-512, 512-14 with biases, two norms, one alpha
    assert _count(decoder) == 2048 * 512 + 512 + 1024 * 512 + 512 + 512 * 14 + 14 + 2 * 512 + 1


def test_decoder_refuses_one_layer() -> None:
    with pytest.raises(ValueError, match="num_layers >= 2"):
        MLPDecoder(4, 2, num_layers=1)


def test_dropout_acts_in_training_only() -> None:
    decoder = MLPDecoder(5, 3, hidden_dim=32, dropout=0.5)
    x = torch.randn(1, 5)
    assert not torch.equal(decoder(x), decoder(x))
    decoder.eval()
    assert torch.equal(decoder(x), decoder(x))


def test_chunk_head_is_equation_10() -> None:
    """The split first layer equals one Linear over concat[Proj(f), e_t]."""
    head = ActionChunkingHead(6, 4, num_steps=5, hidden_dim=8, num_layers=4).double().eval()
    whole = MLPDecoder(16, 4, hidden_dim=8, num_layers=4).double().eval()
    state = dict(head.decoder.state_dict())
    state["hidden.0.weight"] = torch.cat([state["hidden.0.weight"], head.step_hidden.weight], dim=1)
    whole.load_state_dict(state)
    features = torch.randn(3, 6, dtype=torch.float64)
    chunk = head(features)
    assert chunk.shape == (3, 5, 4)
    for step in range(5):
        joined = torch.cat([head.proj(features), head.step_embed[step].expand(3, -1)], dim=-1)
        torch.testing.assert_close(chunk[:, step], whole(joined))


def test_chunk_steps_differ_and_samples_do_not_mix() -> None:
    head = ActionChunkingHead(6, 4, hidden_dim=8).eval()
    features = torch.randn(3, 6)
    chunk = head(features)
    assert chunk.shape == (3, 16, 4)
    assert (chunk[:, 1:] - chunk[:, :-1]).abs().amax(dim=-1).min() > 0
    torch.testing.assert_close(head(features[1:2]), chunk[1:2])


def test_masked_mse_by_hand() -> None:
    predicted = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [9.0, 9.0]]])
    target = torch.zeros_like(predicted)
    assert masked_mse(predicted, target).item() == pytest.approx((1 + 4 + 9 + 16 + 81 + 81) / 8)
    mask = torch.tensor([[1, 1], [1, 0]])
    assert masked_mse(predicted, target, mask).item() == pytest.approx((1 + 4 + 9 + 16) / 6)  # 3 steps of 2 values
    assert masked_mse(predicted, target, torch.zeros(2, 2)).item() == 0.0


def test_masked_mse_refuses_shapes_that_would_broadcast() -> None:
    chunk = torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match="one shape"):
        masked_mse(chunk, torch.zeros(2, 1, 3))
    with pytest.raises(ValueError, match=r"mask of shape \(2, 4\)"):
        masked_mse(chunk, chunk, torch.ones(2, 4, 1))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**31 - 1))
def test_padded_steps_change_neither_loss_nor_gradient(batch: int, steps: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randn(batch, steps, width, generator=generator, requires_grad=True)
    target = torch.randn(batch, steps, width, generator=generator)
    mask = torch.rand(batch, steps, generator=generator) < 0.6
    loss = masked_mse(predicted, target, mask)
    (slope,) = torch.autograd.grad(loss, predicted)
    spoiled = torch.where(mask.unsqueeze(-1), target, torch.nan)
    again = masked_mse(predicted, spoiled, mask)
    (slope_again,) = torch.autograd.grad(again, predicted)
    assert torch.equal(loss, again) and torch.equal(slope, slope_again)
    assert torch.equal(slope[~mask], torch.zeros_like(slope[~mask]))
    if bool(mask.any()):
        torch.testing.assert_close(loss, F.mse_loss(predicted[mask], target[mask]))


@pytest.mark.parametrize("mode", ["arms_only", "upper_body", "whole_body"])
def test_group_head_follows_the_layout(mode: str) -> None:
    space = G1ActionSpace(mode)
    head = G1ActionHead(SMALL, space).eval()
    features = torch.randn(2, 12)
    chunk = head(features)
    assert chunk.shape == (2, 16, space.dim) and head.config.action_dim == space.dim
    assert chunk.abs().max() < 1.0
    assert list(head.heads) == list(space.groups)
    for name, where in space.groups.items():
        alone = head.heads[name](features)
        if name in ("arms", "locomotion"):
            assert alone.shape == (2, 16, where.stop - where.start)
            assert torch.equal(chunk[..., where], alone)
        else:
            assert alone.shape == (2, where.stop - where.start)
            for step in range(16):
                assert torch.equal(chunk[:, step, where], alone)


def test_groups_may_come_in_any_order_of_names() -> None:
    head = G1ActionHead(SMALL, {"legs": slice(2, 5), "arms": slice(0, 2)})
    assert list(head.heads) == ["arms", "legs"]


def test_chunk_all_groups_lets_every_group_move_within_the_chunk() -> None:
    config = ActionHeadConfig(hidden_size=12, mlp_hidden=8, chunk_all_groups=True)
    chunk = G1ActionHead(config, G1ActionSpace("whole_body")).eval()(torch.randn(1, 12))
    assert (chunk.amax(dim=1) - chunk.amin(dim=1)).min() > 0


def test_one_head_and_no_chunking() -> None:
    space = G1ActionSpace("arms_only")
    single = G1ActionHead(ActionHeadConfig(hidden_size=12, mlp_hidden=8, use_separate_heads=False), space)
    assert list(single.heads) == ["all"] and single(torch.zeros(2, 12)).shape == (2, 16, 17)
    assert set(single.group_losses(torch.zeros(1, 16, 17), torch.zeros(1, 16, 17))) == {"arms", "locomotion"}
    config = ActionHeadConfig(hidden_size=12, mlp_hidden=8, use_action_chunking=False)
    held = G1ActionHead(config, space).eval()(torch.randn(2, 12))
    assert torch.equal(held, held[:, :1].expand(-1, 16, -1))


def test_another_mode_adds_heads_and_keeps_the_old_ones() -> None:
    arms, upper = (G1ActionHead(SMALL, G1ActionSpace(mode)).eval() for mode in ("arms_only", "upper_body"))
    missing, unexpected = upper.load_state_dict(arms.state_dict(), strict=False)
    assert unexpected == [] and {name.split(".")[1] for name in missing} == {"torso_head"}
    features = torch.randn(2, 12)
    assert torch.equal(upper(features)[..., :17], arms(features))


def test_weighted_loss_by_hand() -> None:
    config = ActionHeadConfig(hidden_size=12, mlp_hidden=8, group_weights={"arms": 2.0})
    head = G1ActionHead(config, G1ActionSpace("arms_only"))
    target = torch.zeros(1, 16, 17)
    predicted = target.clone()
    predicted[..., :14] = 1.0
    predicted[..., 14:] = 2.0
    losses = head.group_losses(predicted, target)
    assert {name: loss.item() for name, loss in losses.items()} == {"arms": 1.0, "locomotion": 4.0}
    assert head.weighted_loss(predicted, target).item() == pytest.approx((2.0 * 1.0 + 1.0 * 4.0) / 3.0)
    features = torch.randn(1, 12)
    head.eval()
    assert torch.equal(head.compute_loss(features, target), head.weighted_loss(head(features), target))


def test_a_target_of_another_space_is_refused() -> None:
    head = G1ActionHead(SMALL, G1ActionSpace("arms_only"))
    with pytest.raises(ValueError, match="one shape"):
        head.compute_loss(torch.zeros(1, 12), torch.zeros(1, 16, 20))


@pytest.mark.parametrize("switches", [{}, VANILLA])
def test_gradients_reach_every_weight(switches: dict[str, Any]) -> None:
    # With eq. 5's zero half a unit can be dead for one input; 64 samples leave none.
    config = ActionHeadConfig(hidden_size=12, mlp_hidden=16, num_layers=4, dropout=0.0, **switches)
    head = G1ActionHead(config, G1ActionSpace("whole_body"))
    head.compute_loss(torch.randn(64, 12), torch.rand(64, 16, 29) - 0.5).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert parameter.grad.abs().max() > 0, name
    assert all(type(module) is nn.Linear for module in head.modules() if isinstance(module, nn.Linear))


def test_per_sample_gradients_can_be_read_from_hooks() -> None:
    """Every Linear sees one block of rows per sample, so sum_t g_bt a_bt^T is that sample's gradient (for EWC)."""
    head = ActionChunkingHead(6, 3, num_steps=4, hidden_dim=8, dropout=0.0)
    features, target = torch.randn(5, 6), torch.rand(5, 4, 3) - 0.5
    inputs: dict[nn.Module, Tensor] = {}
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        inputs[module], outputs[module] = given[0].detach(), output

    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    handles = [layer.register_forward_hook(keep) for layer in layers]
    (head(features) - target).square().sum().backward()
    for handle in handles:
        handle.remove()
    for layer in layers:
        slope = outputs[layer].grad
        assert slope is not None
        rows = inputs[layer].reshape(5, -1, layer.in_features)
        by_hook = torch.einsum("bto,bti->boi", slope.reshape(5, -1, layer.out_features), rows)
        for sample in range(5):
            loss = (head(features[sample : sample + 1]) - target[sample]).square().sum()
            torch.testing.assert_close(by_hook[sample], torch.autograd.grad(loss, layer.weight)[0])


def test_head_learns_a_chunk_that_depends_on_observation_and_step() -> None:
    head = ActionChunkingHead(4, 2, num_steps=8, hidden_dim=64, dropout=0.0)
    features = torch.randn(64, 4)
    phase = torch.linspace(0.0, 3.0, 8)
    target = 0.5 * torch.sin(features[:, None, :2] + phase[None, :, None])
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, betas=(0.85, 0.99))
    for _ in range(150):
        optimizer.zero_grad()
        loss = head.compute_loss(features, target)
        loss.backward()
        optimizer.step()
    held = target.mean(dim=1, keepdim=True).expand_as(target)  # the best that a head blind to the step could do
    assert loss.item() < 0.05 * F.mse_loss(held, target).item()


def test_bfloat16_heads_give_a_float32_loss() -> None:
    head = G1ActionHead(SMALL, G1ActionSpace("upper_body")).to(torch.bfloat16)
    features = torch.randn(2, 12, dtype=torch.bfloat16)
    loss = head.compute_loss(features, torch.zeros(2, 16, 20))
    assert head(features).dtype == torch.bfloat16 and loss.dtype == torch.float32


def test_config_has_the_documents_fields_and_defaults() -> None:
    documented = {
        "hidden_size": 2048,
        "action_dim": 17,
        "num_action_steps": 16,
        "mlp_hidden": 512,
        "num_layers": 3,
        "dropout": 0.1,
        "use_separate_heads": True,
        "use_action_chunking": True,
        "use_relu_squared": True,
        "use_rmsnorm": True,
        "use_residual_scale": True,
        "use_skip_connections": True,
        "soft_cap_value": 1.0,
    }
    own = {"group_weights": {}, "chunk_all_groups": False, "head_type": "chunking", "state_relative": False}
    own |= {"num_denoise_steps": 4, "noise_beta_alpha": 0.0, "flow_layers": 4, "dit_hidden": 384, "dit_layers": 8}
    own |= {"dit_heads": 6, "token_dim": 0, "goal_dim": 0}
    config = ActionHeadConfig()
    assert asdict(config) == documented | own
    assert [item.name for item in fields(config)][:13] == list(documented)
    assert ActionHeadConfig(**json.loads(json.dumps(asdict(config)))) == config
    shared = inspect.signature(MLPDecoder).parameters.keys() - {"input_dim", "output_dim"}
    assert shared < inspect.signature(ActionChunkingHead).parameters.keys()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_size": 0}, "hidden_size wants at least 1"),
        ({"num_layers": 1}, "num_layers wants 2"),
        ({"dropout": 1.0}, "dropout wants a probability"),
        ({"soft_cap_value": -1.0}, "soft_cap_value wants 0"),
        ({"group_weights": {"arms": -1.0}}, "weights of 0 or more"),
    ],
)
def test_config_refuses_what_cannot_work(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActionHeadConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"arm": 1.0}, "Did you mean 'arms'"), ({"arms": 0.0, "locomotion": 0.0}, "nothing would be learned")],
)
def test_group_weights_are_checked_against_the_space(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        G1ActionHead(ActionHeadConfig(hidden_size=12, group_weights=weights), G1ActionSpace("arms_only"))


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"arms": slice(1, 3)},
        {"arms": slice(0, 2), "legs": slice(3, 5)},
        {"arms": slice(0, 3), "legs": slice(2, 5)},
    ],
)
def test_groups_must_tile_the_action(groups: dict[str, slice]) -> None:
    with pytest.raises(ValueError, match="G1ActionHead wants"):
        G1ActionHead(SMALL, groups)


def test_a_chunk_head_costs_little_more_than_its_matrices() -> None:
    """Hidden 512, batch 1, one thread, beside the bare products with its weights in the same loop."""
    head = ActionChunkingHead(256, 14).eval()
    matrices = [weight for weight in head.parameters() if weight.dim() == 2 and weight.shape[0] > head.num_steps]
    rows = [torch.randn(head.num_steps, weight.shape[1]) for weight in matrices]
    features, threads = torch.randn(1, 256), torch.get_num_threads()
    whole, bare = [], []
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(60):
                start = time.perf_counter()
                head(features)
                middle = time.perf_counter()
                for row, weight in zip(rows, matrices, strict=True):
                    nn.functional.linear(row, weight)
                whole.append(middle - start)
                bare.append(time.perf_counter() - middle)
    finally:
        torch.set_num_threads(threads)
    assert min(whole) < 3.0 * min(bare)  # 1.2 times where this was written


def test_relu_squared_is_the_default_activation() -> None:
    assert MLPDecoder(2, 2).activation is relu_squared

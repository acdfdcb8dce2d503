"""The quick way through the heads gives what the module gives, in values and in gradients, whatever the head."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_neon import tiny_model
from torch import Tensor

from neon_sim.model.layers import RMSNorm, relu_squared
from neon_sim.training.head_decoder import HeadDecoder
from neon_sim.training.quick_decoder import _joins_twins, _NormReluSquared, quick_decode


def _decoder(folder: Path, **changes: Any) -> HeadDecoder:
    return HeadDecoder(tiny_model(folder, **changes)).eval()


def _inputs(decoder: HeadDecoder, rows: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(rows, 69, generator=generator), torch.randn(rows, 5, generator=generator)


def _gradients(decoder: HeadDecoder, chunk: Tensor) -> dict[str, Tensor]:
    slopes = torch.randn(chunk.shape, generator=torch.Generator().manual_seed(5))
    decoder.zero_grad()
    (chunk * slopes).sum().backward()
    return {name: param.grad.clone() for name, param in decoder.named_parameters() if param.grad is not None}


@pytest.mark.parametrize(("layers", "twins"), [(2, False), (3, True), (4, False)])
def test_values_and_gradients_are_the_modules(tmp_path: Path, layers: int, twins: bool) -> None:
    decoder = _decoder(tmp_path, action_head_layers=layers)
    assert {_joins_twins(head.decoder) for head in decoder.action_head.heads.values()} == {twins}
    fused, goal = _inputs(decoder)
    usual, quick = decoder(fused, goal), quick_decode(decoder, fused, goal)
    assert quick.shape == (6, 16, 17) and float(usual.detach().abs().max()) > 0.05
    torch.testing.assert_close(quick, usual, rtol=1e-5, atol=1e-6)
    wanted, found = _gradients(decoder, usual), _gradients(decoder, quick)
    assert set(found) == set(wanted) == {name for name, _ in decoder.named_parameters()}
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()), msg=name)


def test_norm_and_activation_by_hand() -> None:
    """x = (3, 4) has mean square 12.5: n = x / sqrt(12.5), and with w = (1, -1) only the first entry is positive."""
    x, weight = torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, -1.0])
    found = _NormReluSquared.apply(x, weight, 0.0)
    assert found[0].tolist() == pytest.approx([9.0 / 12.5, 0.0])


def test_its_backward_is_the_derivative() -> None:
    """Against finite differences in float64, and against the two layers that it stands for."""
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: _NormReluSquared.apply(x, w, 1e-6), (x, weight))
    norm = RMSNorm(5)
    torch.testing.assert_close(
        _NormReluSquared.apply(x.detach().float(), norm.weight, norm.eps), relu_squared(norm(x.detach().float()))
    )


@pytest.mark.parametrize("change", [{"use_rmsnorm": False}, {"use_relu_squared": False}, {"use_residual_scale": False}])
def test_a_decoder_without_one_of_the_papers_layers_is_the_same(tmp_path: Path, change: dict[str, bool]) -> None:
    decoder = _decoder(tmp_path, head=change)
    fused, goal = _inputs(decoder)
    torch.testing.assert_close(quick_decode(decoder, fused, goal), decoder(fused, goal), rtol=1e-5, atol=1e-6)


def test_dropout_makes_two_tensors_of_one_and_goes_the_usual_way(tmp_path: Path) -> None:
    decoder = _decoder(tmp_path, dropout=0.5).train()
    fused, goal = _inputs(decoder)
    torch.manual_seed(0)
    usual = decoder(fused, goal)
    torch.manual_seed(0)
    torch.testing.assert_close(quick_decode(decoder, fused, goal), usual, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(decoder(fused, goal), usual)  # other dots are dropped now


def test_heads_that_sample_go_the_usual_way(tmp_path: Path) -> None:
    decoder = _decoder(tmp_path, head={"head_type": "flow"})
    fused, goal = _inputs(decoder)
    torch.manual_seed(0)
    usual = decoder(fused, goal)
    torch.manual_seed(0)
    assert torch.equal(quick_decode(decoder, fused, goal), usual)

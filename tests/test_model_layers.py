"""The paper's layers (eq. 5, 6, 7, 9) against arithmetic done by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.model.layers import ResidualScale, RMSNorm, relu_squared, soft_cap


def test_relu_squared_values_and_slope() -> None:
    x = torch.tensor([-2.0, 0.0, 0.5, 3.0], requires_grad=True)
    y = relu_squared(x)
    assert y.tolist() == [0.0, 0.0, 0.25, 9.0]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 0.0, 1.0, 6.0]  # 2 max(0, x)


def test_rmsnorm_by_hand() -> None:
    norm = RMSNorm(2, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 10.0]))
    # rms of (3, 4) is sqrt(25 / 2)
    root = math.sqrt(12.5)
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([3.0 / root, 40.0 / root]))


def test_rmsnorm_keeps_the_mean_and_eps_tames_zero() -> None:
    norm = RMSNorm(4, eps=1e-6)
    torch.testing.assert_close(norm(torch.full((1, 4), 5.0)), torch.ones(1, 4))  # LayerNorm would give 0
    assert norm(torch.zeros(1, 4)).tolist() == [[0.0] * 4]
    # with x^2 = eps the root is of 2 eps
    torch.testing.assert_close(norm(torch.full((1, 4), 1e-3)), torch.full((1, 4), 1.0 / math.sqrt(2.0)))


def test_residual_scale_starts_at_one_and_learns() -> None:
    scale = ResidualScale()
    update, residual = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    assert scale(update, residual).tolist() == [11.0, 22.0]
    with torch.no_grad():
        scale.alpha.fill_(0.5)
    out = scale(update, residual)
    assert out.tolist() == [6.0, 12.0]
    out.sum().backward()
    assert scale.alpha.grad is not None and scale.alpha.grad.item() == 30.0  # sum of the residual


def test_soft_cap_by_hand() -> None:
    x = torch.tensor([-6.0, 0.0, 2.0])
    expected = torch.tensor([2.0 * math.tanh(-3.0), 0.0, 2.0 * math.tanh(1.0)])
    torch.testing.assert_close(soft_cap(x, 2.0), expected)


def test_soft_cap_of_zero_and_of_one_are_both_tanh() -> None:
    x = torch.linspace(-4.0, 4.0, 33)
    assert torch.equal(soft_cap(x, 0.0), torch.tanh(x))
    assert torch.equal(soft_cap(x, 1.0), torch.tanh(x))


def test_soft_cap_slope_is_not_zero_beyond_the_limit() -> None:
    x = torch.tensor([2.0], requires_grad=True)
    soft_cap(x, 1.0).backward()
    assert x.grad is not None and x.grad.item() == pytest.approx(1.0 - math.tanh(2.0) ** 2, rel=1e-5)


@given(st.floats(-1e4, 1e4), st.floats(0.1, 50.0))
def test_soft_cap_is_bounded_odd_and_below_the_identity(x: float, cap: float) -> None:
    value = soft_cap(torch.tensor(x, dtype=torch.float64), cap).item()
    assert abs(value) <= cap * (1 + 1e-12)
    assert abs(value) <= abs(x) + 1e-12
    assert value == pytest.approx(-soft_cap(torch.tensor(-x, dtype=torch.float64), cap).item())


def test_soft_cap_refuses_a_negative_cap() -> None:
    with pytest.raises(ValueError, match="cap >= 0"):
        soft_cap(torch.zeros(1), -1.0)

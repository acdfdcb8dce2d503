"""SIGReg against the integral it stands for, closed forms, and what it does to points that begin in a heap."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from torch import Tensor

from neon_sim.world_model.sigreg import epps_pulley, random_directions, sigreg

ROOT = math.sqrt(2.0 * math.pi)


def _integral(samples: Tensor, limit: float) -> float:
    """B times the weighted squared distance of characteristic functions, by adaptive quadrature of complex numbers."""
    x = samples.double().numpy()

    def integrand(t: float) -> float:
        gap = sum(complex(math.cos(t * v), math.sin(t * v)) for v in x) / len(x) - math.exp(-0.5 * t * t)
        return abs(gap) ** 2 * math.exp(-0.5 * t * t)

    return len(x) * integrate.quad(integrand, -limit, limit, limit=200)[0]


def _closed_form(samples: Tensor) -> float:
    """The same over the whole line: products of Gaussians, integrated by hand (Epps and Pulley 1983)."""
    x = samples.double()
    pairs = torch.exp(-0.5 * (x[:, None] - x[None]).square()).mean()
    singles = torch.exp(-0.25 * x.square()).mean()
    return len(x) * float(ROOT * pairs - 2.0 * math.sqrt(math.pi) * singles + math.sqrt(2.0 * math.pi / 3.0))


def _samples(kind: str, count: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, generator=generator, dtype=torch.float64)
    return {"normal": x, "heap": 0.01 * x, "shifted": x + 1.0, "wide": 3.0 * x, "coin": x.sign()}[kind]


@pytest.mark.parametrize("kind", ["normal", "heap", "shifted", "wide", "coin"])
def test_the_statistic_is_the_integral(kind: str) -> None:
    x = _samples(kind)
    # Published: 17 knots. The trapezoidal rule is exact to a per cent with them, and to the digit with two thousand.
    assert float(epps_pulley(x[:, None])) == pytest.approx(_integral(x, 3.0), rel=0.01)
    assert float(epps_pulley(x[:, None], knots=2001)) == pytest.approx(_integral(x, 3.0), rel=1e-5)
    assert float(epps_pulley(x[:, None], knots=2001, limit=9.0)) == pytest.approx(_closed_form(x), rel=1e-6)


def test_one_sample_at_zero_by_hand() -> None:
    # integral of (1 - e^{-t^2/2})^2 e^{-t^2/2} = sqrt(2 pi) (1 - 2 / sqrt 2 + 1 / sqrt 3)
    expected = ROOT * (1.0 - math.sqrt(2.0) + 1.0 / math.sqrt(3.0))
    found = epps_pulley(torch.zeros(1, 1, dtype=torch.float64), knots=2001, limit=9.0)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_the_published_weights_by_hand() -> None:
    # Three knots 0, 1, 2, so dt = 1: weights dt, 2 dt, dt times e^{-t^2/2}; one sample at x = 1.
    total = 0.0
    for t, weight in ((0.0, 1.0), (1.0, 2.0), (2.0, 1.0)):
        gaussian = math.exp(-0.5 * t * t)
        total += weight * gaussian * ((math.cos(t) - gaussian) ** 2 + math.sin(t) ** 2)
    found = epps_pulley(torch.ones(1, 1, dtype=torch.float64), knots=3, limit=2.0)
    assert float(found) == pytest.approx(total, rel=1e-12)


def test_gaussian_samples_give_what_theory_expects_for_any_batch_size() -> None:
    # E|mean e^{itX} - e^{-t^2/2}|^2 = (1 - e^{-t^2}) / B, so E = sqrt(2 pi) (1 - 1 / sqrt 3), less the tails beyond 3
    generator = torch.Generator().manual_seed(0)
    expected = ROOT * (1.0 - 1.0 / math.sqrt(3.0))
    for batch in (16, 128):
        found = epps_pulley(torch.randn(batch, 4000, generator=generator)).mean()
        assert float(found) == pytest.approx(expected, rel=0.05)


def test_columns_and_steps_are_judged_apart() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 20, 4, generator=generator)
    together = epps_pulley(x)
    assert together.shape == (3, 4)
    torch.testing.assert_close(together[1, 2], epps_pulley(x[1, :, 2:3])[0])


def test_sigreg_is_the_mean_over_directions_and_steps() -> None:
    latents = torch.randn(12, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    directions = random_directions(5, 7, torch.Generator().manual_seed(9), latents)
    by_hand = [
        epps_pulley((latents[:, step] @ directions[:, column])[:, None]) for step in range(3) for column in range(7)
    ]
    found = sigreg(latents, 7, torch.Generator().manual_seed(9))
    torch.testing.assert_close(found, torch.cat(by_hand).mean())
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(7, dtype=torch.float64), atol=1e-6, rtol=0)


def test_directions_are_fresh_each_time_and_repeat_with_the_generator() -> None:
    latents = torch.randn(8, 2, 6, generator=torch.Generator().manual_seed(2))
    one, other = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    first, second = sigreg(latents, 3, one), sigreg(latents, 3, one)
    assert first != second
    assert first == sigreg(latents, 3, other) and second == sigreg(latents, 3, other)


def test_low_precision_is_not_low_precision_inside() -> None:
    latents = torch.randn(32, 2, 8, generator=torch.Generator().manual_seed(5)).bfloat16()
    plain = sigreg(latents.float(), 16, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sigreg(latents, 16, torch.Generator().manual_seed(0))
    assert found.dtype == torch.float32 and found == plain


def test_a_heap_of_points_is_spread_to_a_standard_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = (0.01 * torch.randn(96, 1, 4, generator=generator) + 2.0).requires_grad_()
    optimizer = torch.optim.Adam([latents], 0.05)
    start = sigreg(latents, 64, generator).item()
    for _ in range(120):
        optimizer.zero_grad()
        sigreg(latents, 16, generator).backward()
        optimizer.step()
    points = latents.detach()[:, 0]
    assert sigreg(latents, 64, generator).item() < 0.01 * start
    assert float(points.mean(0).abs().max()) < 0.1
    torch.testing.assert_close(torch.cov(points.T), torch.eye(4), atol=0.2, rtol=0)


@given(st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=12))
def test_never_negative_and_blind_to_order_and_sign(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)[:, None]
    found = float(epps_pulley(x))
    assert found >= 0.0
    assert float(epps_pulley(x.flip(0))) == pytest.approx(found, abs=1e-9)
    assert float(epps_pulley(-x)) == pytest.approx(found, abs=1e-9)

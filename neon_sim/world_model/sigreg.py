"""SIGReg (LeJEPA, Balestriero and LeCun 2025): latents are pulled to an isotropic Gaussian, so they cannot collapse.

Every random one-dimensional projection of the latents is compared with N(0, 1) by the Epps-Pulley statistic, the
weighted distance between the empirical characteristic function and exp(-t^2 / 2).
"""

import torch
from torch import Tensor


def random_directions(dim: int, count: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """(dim, count) unit columns, uniform on the sphere, with `like`'s dtype and device."""
    directions = torch.randn(dim, count, generator=generator, device=generator.device)
    return (directions / directions.norm(dim=0)).to(like)


def epps_pulley(samples: Tensor, knots: int = 17, limit: float = 3.0) -> Tensor:
    """Epps-Pulley statistic of each column against N(0, 1): samples (..., B, M) -> (..., M).

    B * integral over [-limit, limit] of |mean_b exp(i t x_b) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt. The integrand is
    even, so the trapezoidal rule runs over `knots` points of [0, limit] with twice the weight.
    """
    t = torch.linspace(0.0, limit, knots, dtype=samples.dtype, device=samples.device)
    gaussian = torch.exp(-0.5 * t.square())
    weight = torch.full_like(t, 2.0 * limit / (knots - 1)) * gaussian
    weight[0] *= 0.5  # one by one: a list of places would be copied to a GPU, and a CUDA graph cannot wait for that
    weight[-1] *= 0.5
    angle = samples.unsqueeze(-1) * t  # (..., B, M, knots)
    real, imaginary = angle.cos().mean(-3), angle.sin().mean(-3)
    return samples.shape[-2] * (((real - gaussian).square() + imaginary.square()) * weight).sum(-1)


def sigreg(
    latents: Tensor, projections: int, generator: torch.Generator, knots: int = 17, limit: float = 3.0
) -> Tensor:
    """Mean Epps-Pulley statistic over `projections` fresh directions and all time steps: latents (B, T, D) -> scalar.

    The batch is the sample: each time step is compared on its own. At least in single precision, whatever comes in and
    whatever autocast would do.
    """
    with torch.autocast(latents.device.type, enabled=False):
        latents = latents if latents.dtype == torch.float64 else latents.float()
        directions = random_directions(latents.shape[-1], projections, generator, latents)
        return epps_pulley((latents @ directions).transpose(0, 1), knots, limit).mean()

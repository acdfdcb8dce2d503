"""Planners behind one interface: `planner.plan(cost, box, start, generator)` looks for the cheapest action sequence.

They know nothing of worlds: a cost takes candidates and gives numbers, so latent imagination, MuJoCo itself (the
oracle) and a parabola are all the same to them. Each is a frozen config; what lasts from one replan to the next is the
last plan, shifted. B problems are solved side by side.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from neon_sim.world_model.plan import Box, Cost, Plan, colored_noise


class Planner(Protocol):
    """What the planners of this file have in common."""

    def plan(
        self, cost: Cost, box: Box, start: Tensor, generator: torch.Generator, seeds: Tensor | None = None
    ) -> Plan:
        """Plan from `start` (B, H, A), the search's first mean; `seeds` (B, K, H, A) are candidates worth a try.

        Raises ValueError for a cost of another shape or one that is NaN, and when no candidate at all is allowed.
        """
        ...


@dataclass(frozen=True)
class CEM:
    """Cross-entropy method: sample, keep the elites, fit a Gaussian to them, again. Defaults: LeWM, appendix D.

    `icem()` switches on what Pinneri et al. 2020 add to it.
    """

    samples: int = 300
    iterations: int = 10
    elites: int = 30
    sigma: float = 1.0  # first standard deviation, of half the box
    sigma_floor: float = 0.0  # of half the box
    momentum: float = 0.0  # share of the old mean and deviation that stays
    noise_beta: float = 0.0  # 0 is white noise
    sample_decay: float = 1.0  # each iteration has this factor fewer samples, but two per elite
    keep_elites: float = 0.0  # share of the elites that competes again in the next iteration
    return_best: bool = False  # the best candidate ever seen rather than the last mean

    def __post_init__(self) -> None:
        if not 2 <= self.elites <= self.samples or self.iterations < 1 or self.sample_decay < 1.0:
            raise ValueError(
                f"CEM wants 2 <= elites <= samples, an iteration or more, and sample_decay >= 1; got {self}."
            )

    def plan(
        self, cost: Cost, box: Box, start: Tensor, generator: torch.Generator, seeds: Tensor | None = None
    ) -> Plan:
        """See `Planner.plan`. The mean itself is always among the candidates."""
        mean, half = box.clip(start), box.half
        std = torch.zeros_like(mean) + self.sigma * half
        rivals, trace = seeds, []
        best, lowest = mean, torch.full((len(mean),), torch.inf, device=mean.device)
        with torch.no_grad():
            for iteration in range(self.iterations):
                count = max(round(self.samples * self.sample_decay**-iteration), min(2 * self.elites, self.samples))
                candidates, costs = self._ask(cost, box, mean, std, count, rivals, generator)
                values, order = costs.topk(self.elites, dim=1, largest=False)
                elites = _take(candidates, order)
                best, lowest = _better(best, lowest, elites[:, 0], values[:, 0])
                middle, spread = _moments(elites, values.isfinite())
                mean = box.clip(torch.lerp(middle, mean, self.momentum))  # clip: rounding
                std = torch.lerp(spread, std, self.momentum).maximum(self.sigma_floor * half)
                kept = round(self.keep_elites * self.elites)
                rivals = elites[:, :kept] if kept else None
                trace.append(lowest)
            mean, value = _finish(cost, mean, best, lowest, self.return_best)
        return Plan(mean, value, elites, torch.stack(trace))

    def _ask(
        self, cost: Cost, box: Box, mean: Tensor, std: Tensor, count: int, rivals: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        noise = colored_noise((len(mean), count, *mean.shape[1:]), self.noise_beta, rng).to(mean)
        candidates = box.clip(mean[:, None] + std[:, None] * noise)
        candidates[:, 0] = mean
        if rivals is not None:
            candidates = torch.cat([candidates, box.clip(rivals)], dim=1)
        return candidates, _judged(cost, candidates)


ICEM_DECAY: Final = 1.25  # of the samples from one iteration to the next


def icem(samples: int = 64, iterations: int = 5, elites: int = 10, sigma: float = 0.5, noise_beta: float = 2.0) -> CEM:
    """iCEM: slow noise, elites that stay, fewer samples every iteration, momentum, the best one executed.

    The paper's 0.3 of the elites, decay 1.25 and momentum 0.1. Give the last plan's `elites`, shifted, as seeds.
    """
    return CEM(
        samples=samples,
        iterations=iterations,
        elites=elites,
        sigma=sigma,
        momentum=0.1,
        noise_beta=noise_beta,
        sample_decay=ICEM_DECAY,
        keep_elites=0.3,
        return_best=True,
    )


@dataclass(frozen=True)
class MPPI:
    """Path-integral control (Williams et al. 2017): all candidates averaged, the cheap ones with most of the weight."""

    samples: int = 64
    iterations: int = 5
    sigma: float = 0.5  # of half the box
    anneal: float = 0.7  # factor on sigma with every iteration; 1 is the plain method
    temperature: float = 0.1  # of the mean excess over the best: the same for any scale of the cost
    noise_beta: float = 0.0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.iterations < 1 or self.temperature <= 0.0:
            raise ValueError(f"MPPI wants samples and iterations >= 1 and a temperature above 0, got {self}.")

    def plan(
        self, cost: Cost, box: Box, start: Tensor, generator: torch.Generator, seeds: Tensor | None = None
    ) -> Plan:
        """See `Planner.plan`. The plan is the weighted mean."""
        mean, trace = box.clip(start), []
        best, lowest = mean, torch.full((len(mean),), torch.inf, device=mean.device)
        with torch.no_grad():
            for iteration in range(self.iterations):
                noise = colored_noise((len(mean), self.samples, *mean.shape[1:]), self.noise_beta, generator).to(mean)
                candidates = box.clip(mean[:, None] + self.sigma * self.anneal**iteration * box.half * noise)
                candidates[:, 0] = mean
                if seeds is not None and iteration == 0:
                    candidates = torch.cat([candidates, box.clip(seeds)], dim=1)
                costs = _judged(cost, candidates)
                values, order = costs.topk(max(1, self.samples // 10), dim=1, largest=False)
                elites = _take(candidates, order)
                best, lowest = _better(best, lowest, elites[:, 0], values[:, 0])
                mean = box.clip((self._weights(costs)[..., None, None] * candidates).sum(1))  # clip: rounding
                trace.append(lowest)
            mean, value = _finish(cost, mean, best, lowest, False)
        return Plan(mean, value, elites, torch.stack(trace))

    def _weights(self, costs: Tensor) -> Tensor:
        excess = costs - costs.min(1, keepdim=True).values
        allowed = excess.isfinite()
        spread = torch.where(allowed, excess, 0.0).sum(1, keepdim=True) / allowed.sum(1, keepdim=True)
        return torch.softmax(-excess / (self.temperature * spread).clamp(min=1e-12), dim=1)


@dataclass(frozen=True)
class GradientPlanner:
    """Adam on several plans, through a differentiable cost, back into the box after each step; the best wins."""

    samples: int = 8
    iterations: int = 20
    learning_rate: float = 0.1  # of half the box
    sigma: float = 0.5  # spread of the plans it begins with, of half the box

    def __post_init__(self) -> None:
        if self.samples < 1 or self.iterations < 1:
            raise ValueError(f"A gradient planner wants samples and iterations >= 1, got {self}.")

    def plan(
        self, cost: Cost, box: Box, start: Tensor, generator: torch.Generator, seeds: Tensor | None = None
    ) -> Plan:
        """See `Planner.plan`. Raises ValueError as well for a cost that no gradient comes out of."""
        shape = (len(start), self.samples, *start.shape[1:])
        candidates = start[:, None] + self.sigma * box.half * colored_noise(shape, 0.0, generator).to(start)
        candidates[:, 0] = start
        candidates = box.clip(candidates if seeds is None else torch.cat([candidates, seeds], dim=1))
        half = torch.where(box.half > 0, box.half, 1.0)
        scaled = (candidates / half).detach().requires_grad_()  # so that one rate serves all entries
        optimizer = torch.optim.Adam([scaled], self.learning_rate)
        best, lowest, trace = start, torch.full((len(start),), torch.inf, device=start.device), []
        for iteration in range(self.iterations + 1):
            with torch.enable_grad():
                candidates = scaled * half
                candidates = candidates + (box.clip(candidates) - candidates).detach()  # rounding
                costs = _costs(cost, candidates) if iteration else _judged(cost, candidates)
                values, order = costs.detach().sort(1)
                elites = _take(candidates.detach(), order)
                best, lowest = _better(best, lowest, elites[:, 0], values[:, 0])
                trace.append(lowest)
                if iteration < self.iterations:
                    scaled.grad = _gradient(costs, scaled)
                    optimizer.step()
            with torch.no_grad():
                scaled.copy_(box.clip(scaled * half) / half)
        return Plan(best, lowest, elites, torch.stack(trace[1:]))


def _gradient(costs: Tensor, candidates: Tensor) -> Tensor:
    if not costs.requires_grad:
        raise ValueError("A gradient planner wants a cost that is differentiable, and this one is not. CEM needs none.")
    return torch.autograd.grad(torch.where(costs.isfinite(), costs, 0.0).sum(), candidates)[0]


def _costs(cost: Cost, candidates: Tensor) -> Tensor:
    costs = cost(candidates)
    wanted = tuple(candidates.shape[:2])
    if costs.shape != wanted:
        raise ValueError(f"A cost gives one number per candidate, {wanted}, got {tuple(costs.shape)}.")
    if bool(costs.isnan().any()):
        raise ValueError("The cost is NaN for some candidates. inf says 'not allowed'; NaN is a model that broke.")
    return costs


def _judged(cost: Cost, candidates: Tensor) -> Tensor:
    """Costs (B, N), with at least one candidate allowed for each problem."""
    costs = _costs(cost, candidates)
    if not bool(costs.isfinite().any(1).all()):
        raise ValueError("Not one candidate is allowed (all cost inf). Widen the box, or start or seed elsewhere.")
    return costs


def _finish(cost: Cost, mean: Tensor, best: Tensor, lowest: Tensor, prefer_best: bool) -> tuple[Tensor, Tensor]:
    """The plan to return and its cost: the mean, unless it is not allowed or a better one is preferred."""
    value = _costs(cost, mean[:, None])[:, 0]
    keep = value.isfinite() & ((value <= lowest) | (not prefer_best))
    return torch.where(keep[:, None, None], mean, best), torch.where(keep, value, lowest)


def _moments(elites: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the allowed ones of (B, K, H, A), each (B, H, A)."""
    weight = allowed[..., None, None].to(elites)
    count = weight.sum(1)
    mean = (weight * elites).sum(1) / count
    return mean, ((weight * (elites - mean[:, None]).square()).sum(1) / (count - 1.0).clamp(min=1.0)).sqrt()


def _take(candidates: Tensor, order: Tensor) -> Tensor:
    """Rows (B, K) of candidates (B, N, H, A)."""
    return candidates.gather(1, order[..., None, None].expand(-1, -1, *candidates.shape[2:]))


def _better(best: Tensor, lowest: Tensor, actions: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Of two plans for each problem the cheaper one, and its cost."""
    won = cost < lowest
    return torch.where(won[:, None, None], actions, best), torch.where(won, cost, lowest)

"""What a world model knows and how far to trust it: probes, rollout error, rank of plans, violated expectations."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.world_model.lewm import LeWM


class Probe(nn.Module):
    """A small net from standardised latents to a physical quantity in its own units; differentiable, so also a goal.

    `latent_cost(..., distance=lambda z: (probe(z) - wanted).square().sum(-1))` plans to a state instead of a picture.
    """

    input_mean: Tensor
    input_std: Tensor
    output_mean: Tensor
    output_std: Tensor

    def __init__(self, net: nn.Module, latents: Tensor, targets: Tensor) -> None:
        """`net` maps standardised latents to standardised targets; the statistics are those of (N, D) and (N, K)."""
        super().__init__()
        self.net = net
        for name, value in (("input", latents), ("output", targets)):
            std = value.std(0)
            self.register_buffer(f"{name}_mean", value.mean(0))
            self.register_buffer(f"{name}_std", torch.where(std > 1e-6, std, 1.0))

    def standardise(self, latents: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return (latents - self.input_mean) / self.input_std

    def forward(self, latents: Tensor) -> Tensor:
        """(..., D) -> (..., K) in the target's units."""
        return self.net(self.standardise(latents)) * self.output_std + self.output_mean


def fit_linear_probe(latents: Tensor, targets: Tensor, ridge: float = 1e-3) -> Probe:
    """Ridge regression in closed form: latents (N, D), targets (N, K); `ridge` per sample, on standardised latents.

    Nothing is drawn, so a training may look at it and go on to the same bits.
    """
    net = nn.utils.skip_init(nn.Linear, latents.shape[1], targets.shape[1])
    probe = Probe(net, latents, targets).requires_grad_(False)
    x = probe.standardise(latents).double()
    y = ((targets - probe.output_mean) / probe.output_std).double()
    gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    net.weight.copy_(torch.linalg.solve(gram, x.T @ y).T)
    net.bias.zero_()
    return probe.to(latents)


def fit_mlp_probe(
    latents: Tensor, targets: Tensor, generator: torch.Generator, hidden: int = 256, epochs: int = 20, batch: int = 256
) -> Probe:
    """A two-layer MLP trained with AdamW, at a rate that falls to nothing: latents (N, D), targets (N, K), on one
    device. Same generator, same probe.
    """
    first, last = nn.Linear(latents.shape[1], hidden), nn.Linear(hidden, targets.shape[1])
    for layer in (first, last):
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    probe = Probe(nn.Sequential(first, nn.GELU(), last), latents, targets).to(latents)
    wanted = (targets - probe.output_mean) / probe.output_std
    optimizer = torch.optim.AdamW(probe.parameters(), 2e-3, weight_decay=0.01)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs * -(-len(latents) // batch)))
    for _ in range(epochs):
        order = torch.randperm(len(latents), generator=generator, device=generator.device).to(latents.device)
        for rows in order.split(batch):
            loss = (probe.net(probe.standardise(latents[rows])) - wanted[rows]).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            decay.step()
    return probe.requires_grad_(False).eval()


@dataclass(frozen=True)
class ProbeScore:
    """How well a probe reads data that it was not fitted to, per target (K,); NaN where the truth never moves."""

    r2: np.ndarray  # share of the variance explained
    pearson: np.ndarray  # correlation, the published measure
    rmse: np.ndarray  # in the target's units


@torch.no_grad()
def score_probe(probe: Probe, latents: Tensor, targets: Tensor) -> ProbeScore:
    """Judge on held-out (N, D) and (N, K). Hold out whole episodes: neighbouring frames are near-copies."""
    read, truth = probe(latents).double().cpu().numpy(), targets.double().cpu().numpy()
    error = ((read - truth) ** 2).mean(0)
    read_0, truth_0 = read - read.mean(0), truth - truth.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = 1.0 - error / (truth_0**2).mean(0)
        pearson = (read_0 * truth_0).mean(0) / np.sqrt((read_0**2).mean(0) * (truth_0**2).mean(0))
    r2[~np.isfinite(r2)] = np.nan
    return ProbeScore(r2, pearson, np.sqrt(error))


@dataclass(frozen=True)
class RolloutError:
    """Mean squared latent error per entry against the horizon, (H,), beside what knows nothing."""

    model: np.ndarray
    no_change: np.ndarray  # of saying that the last latent stays
    shuffled: np.ndarray  # of the model when it is given another sequence's actions: the actions must matter
    spread: float  # of guessing another frame at random: twice the latents' variance


@torch.no_grad()
def rollout_error(model: LeWM, latents: Tensor, actions: Tensor, horizon: int, prefix: bool = False) -> RolloutError:
    """Imagine `horizon` steps from the first `history` latents of each sequence and compare with what came.

    latents (B, T, D), actions (B, T - 1, A), T >= history + horizon, B >= 2; the model in eval mode.
    Raises ValueError for sequences that are too short or a single one.
    """
    seen = model.config.history
    if latents.shape[1] < seen + horizon or len(latents) < 2:
        raise ValueError(
            f"rollout_error wants two sequences or more of {seen} + {horizon} latents, got {tuple(latents.shape)}."
        )
    truth = latents[:, seen : seen + horizon]
    future = actions[:, seen - 1 : seen - 1 + horizon]
    start, past = latents[:, :seen], actions[:, : seen - 1]

    def error(predicted: Tensor) -> np.ndarray:
        return (predicted - truth).square().mean((0, 2)).double().cpu().numpy()

    imagined, misled = (
        model.predictor.rollout(start, past, plan[:, None], prefix)[:, 0] for plan in (future, future.roll(1, 0))
    )
    spread = 2.0 * float(latents.flatten(0, 1).var(0, correction=0).mean())
    return RolloutError(error(imagined), error(start[:, -1:].expand_as(truth)), error(misled), spread)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 0.. along the last axis; equal values share their mean rank."""
    order = values.argsort(-1)
    ordered = np.take_along_axis(values, order, -1)
    place = np.arange(values.shape[-1], dtype=np.float64)
    mean = np.empty(values.shape, np.float64)
    for row in np.ndindex(values.shape[:-1]):
        _, group, counts = np.unique(ordered[row], return_inverse=True, return_counts=True)
        mean[row] = (np.bincount(group, place) / counts)[group]
    result = np.empty_like(mean)
    np.put_along_axis(result, order, mean, -1)
    return result


def rank_correlation(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Spearman's rho between predicted and true cost of the candidates of each problem, (B, N), (B, N) -> (B,).

    The number that a planner lives by: 1 is a model that orders plans as the world does, 0 one that does not know. NaN
    for a problem whose candidates all cost the same: count those, do not average them away.
    """
    if predicted.shape != truth.shape or predicted.ndim != 2 or predicted.shape[1] < 2:
        raise ValueError(
            f"rank_correlation wants two equal shapes (B, N >= 2), got {predicted.shape} and {truth.shape}."
        )
    one, other = (ranks(value) - (value.shape[1] - 1) / 2.0 for value in (predicted, truth))
    scale = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return np.divide((one * other).sum(1), scale, out=np.full(len(one), np.nan), where=scale > 0.0)


@torch.no_grad()
def surprise(model: LeWM, latents: Tensor, actions: Tensor) -> Tensor:
    """Squared error of each next latent, told the truth so far: (B, T, D), actions (B, T - 1, A) -> (B, T - 1).

    Violation of expectation: a teleported object should surprise, a changed colour less. T <= positions + 1, eval mode.
    """
    return (model.predictor(latents[:, :-1], actions) - latents[:, 1:]).square().sum(-1)


@dataclass(frozen=True)
class PairedTest:
    """Whether the same episodes surprise more with a violation than without."""

    mean_difference: float
    effect_size: float  # mean over standard deviation of the differences (Cohen's d of pairs); inf if all are equal
    p_value: float  # two-sided
    pairs: int


def paired_test(violated: np.ndarray, normal: np.ndarray, rng: np.random.Generator, draws: int = 9999) -> PairedTest:
    """Sign-flip permutation test of paired numbers (n,), (n,): if the violation did nothing, each sign is a coin toss.

    The published test is a paired t-test; surprise is far from Gaussian, and this one does not ask it to be. The
    smallest p is 1 / (draws + 1). Raises ValueError for fewer than two pairs, unequal counts, or numbers that are not
    finite.
    """
    if np.shape(violated) != np.shape(normal) or np.ndim(violated) != 1 or len(violated) < 2:
        raise ValueError(f"paired_test wants n >= 2 pairs, got {np.shape(violated)} and {np.shape(normal)}.")
    difference = np.asarray(violated, np.float64) - np.asarray(normal, np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("paired_test wants finite numbers. Which episode has none?")
    mean, std = float(difference.mean()), float(difference.std(ddof=1))
    signs = rng.integers(0, 2, (draws, len(difference))) * 2.0 - 1.0
    flipped = np.abs(signs @ difference) / len(difference)
    p_value = (1 + int((flipped >= abs(mean) * (1.0 - 1e-12)).sum())) / (draws + 1)
    effect = mean / std if std > 0.0 else float(np.copysign(np.inf, mean)) if mean else 0.0
    return PairedTest(mean, effect, p_value, len(difference))

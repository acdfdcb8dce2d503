"""Where objects are, each under its own colour: whether a latent knows it, and, on demand, a loss that makes it know.

A picture shows all balls and says nothing of words. So the place of the *named* one cannot be read off a latent,
however much it knows; the place of the red one can.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.world_model.dataset import Rollouts, moments_of
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.probe import Probe, fit_linear_probe, fit_mlp_probe, score_probe
from neon_sim.world_model.worlds import object_names

AXES: Final = ("ahead", "left", "up")
_AT_ONCE: Final = 256  # pictures that are encoded together
_MOST_FITTED, _MOST_JUDGED = 1000, 400  # first moments that the probe of a running training looks at
_FEWEST: Final = 20  # moments with an object, or nothing is said of it
_MOVES_M: Final = 0.01  # standard deviation on an axis, or there is nothing to know of it
_RIDGE: Final = 1e-2  # for some hundreds of moments; more of them need less
Scores = dict[str, dict[str, float]]  # R² by object and axis


@torch.no_grad()
def first_latents(model: LeWM, rollouts: Rollouts, most: int) -> tuple[np.ndarray, Tensor]:
    """Up to `most` episodes that begin with a reset: their indices (N,), and the latents (N, D) of their first moments,
    on the CPU. The model is in eval mode; nothing is drawn.
    """
    rows = np.flatnonzero(rollouts["reset"])[:most]
    device, found = model.predictor.places.device, [torch.zeros(0, model.config.dim)]
    for some in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
        frames = torch.from_numpy(np.stack([rollouts.frames(row, 0, 1) for row in some])).to(device)
        felt = torch.from_numpy(rollouts["proprio"][some, :1]).to(device) if model.config.proprio_dim else None
        found.append(model.encode(frames, felt)[:, 0].float().cpu())
    return rows, torch.cat(found)


def reset_probe(task: str, model: LeWM, train: Rollouts, test: Rollouts) -> dict[str, float]:
    """What z knows of where objects are when an episode begins: R² of a ridge, fitted on training episodes and judged
    on held-out ones, by kind of object and axis (`r2_box_left`), the mean over colours. A second on a CPU; it draws
    nothing.
    """
    rows, z = first_latents(model, train, _MOST_FITTED)
    rows_test, z_test = first_latents(model, test, _MOST_JUDGED)
    found: Scores = {}
    for k, name in enumerate(object_names(task)):
        at, there = _present(train["objects"][rows, 0, k])
        at_test, there_test = _present(test["objects"][rows_test, 0, k])
        if min(len(at), len(at_test)) >= _FEWEST:
            found[name] = _by_axis(fit_linear_probe(z[there], at, _RIDGE), z_test[there_test], at_test)
    return {f"r2_{name}": r2 for name, r2 in over_colours(found).items()}


def object_scores(
    task: str, train: Rollouts, test: Rollouts, z: Tensor, z_test: Tensor, generator: torch.Generator
) -> dict[str, Scores]:
    """R² of linear and MLP probes of each object on its own, over all moments in which it is there; z and z_test are
    latents (N, T, D) of whole episodes.
    """
    told: dict[str, Scores] = {"linear": {}, "mlp": {}}
    found, places = moments_of(train, z, train["objects"])
    found_test, places_test = moments_of(test, z_test, test["objects"])
    for k, name in enumerate(object_names(task)):
        at, there = _present(places[:, k])
        at_test, there_test = _present(places_test[:, k])
        if min(len(at), len(at_test)) >= _FEWEST:
            probes = fit_linear_probe(found[there], at), fit_mlp_probe(found[there], at, generator)
            for scores, probe in zip(told.values(), probes, strict=True):
                scores[name] = _by_axis(probe, found_test[there_test], at_test)
    return told


def over_colours(scores: Scores) -> dict[str, float]:
    """The mean over the objects of a kind, by kind and axis: `ball_left`."""
    found: dict[str, list[float]] = {}
    for name, by_axis in scores.items():
        for axis, r2 in by_axis.items():
            found.setdefault(f"{name.split('_')[0]}_{axis}", []).append(r2)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _by_axis(probe: Probe, latents: Tensor, places: Tensor) -> dict[str, float]:
    """R² by axis, without one that hardly moves, as the height of what lies on the floor."""
    r2, moves = score_probe(probe, latents, places).r2, places.std(0) > _MOVES_M
    return {axis: float(r2[i]) for i, axis in enumerate(AXES) if moves[i]}


def _present(places: np.ndarray) -> tuple[Tensor, Tensor]:
    """(N, 3) with NaN -> those that are there (M, 3), and which they are (N,) bool."""
    there = np.isfinite(places).all(-1)
    return torch.from_numpy(places[there]), torch.from_numpy(there)


class PlaceHead(nn.Module):
    """A linear layer from z to the places of all objects, for a supervised loss beside LeWM's. It is not kept: what it
    pulled into the latents stays there without it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, objects: np.ndarray, weight: float) -> None:
        """objects (M, K, 3) m of the moments to learn from, NaN for what is not there; their spread becomes one."""
        super().__init__()
        self.weight = weight
        self.layer = nn.Linear(dim, int(np.prod(objects.shape[-2:])))
        seen = np.ma.masked_invalid(objects)  # a colour may never be there
        mean, std = seen.mean(0).filled(0.0), seen.std(0).filled(1.0)
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("std", torch.from_numpy(np.where(std > _MOVES_M, std, 1.0)).float())

    def loss(self, latents: Tensor, objects: Tensor) -> Tensor:
        """Weighted mean squared error of (B, T, D) against (B, T, K, 3) in standard deviations, where an object is."""
        there = objects.isfinite()
        wanted = torch.where(there, (objects - self.mean) / self.std, 0.0)
        off = (self.layer(latents).view_as(wanted) - wanted).square() * there
        return self.weight * off.sum() / there.sum().clamp(min=1)

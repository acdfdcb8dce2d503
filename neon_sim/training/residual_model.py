"""The networks of a residual learner, and what is known of the healthy robot that they are measured against.

A fault of the legs is met in two steps. A forward model says what will be sensed under a residual (distal supervised
learning, Jordan and Rumelhart 1992); what it should be is what the healthy robot does with the same command (model
reference adaptive control, Whitaker 1958). Neither needs a label: both come from encoders, IMU and leg odometry.
"""

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from neon_sim.locomotion.residual import OUTCOME, OWN_JOINTS, ResidualConfig, Window
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.fisher import Batch

FEATURES: Final = 3 + len(OUTCOME) + OWN_JOINTS  # command, what was sensed, tracking error
MEMORY: Final = 3  # windows that features and outcomes are the mean of: 0.96 s, more than a stride
_MOST: Final = 10.0  # standard deviations; a fall says no more than that it was one
# What counts as one standard deviation at least: command, outcome, tracking error in their own units.
_LEAST_SPREAD: Final = np.concatenate([np.full(3, 0.1), np.full(6, 0.02), np.full(OWN_JOINTS, 0.02)])
_LEAST_SCALE: Final = (0.03, 0.03, 0.03, 0.01, 0.01, 0.005)  # of OUTCOME
FILE: Final = "residual.pt"  # in a policy's folder


def features_of(windows: Sequence[Window]) -> np.ndarray:
    """What is known when a residual is chosen, (24,): means of the newest windows, at least one."""
    recent = windows[-MEMORY:]
    return np.concatenate([recent[-1].command, *(np.mean([w[i] for w in recent], axis=0) for i in (1, 2))])


@dataclass(frozen=True)
class Healthy:
    """The healthy robot: how its features spread, and what it does with a command."""

    mean: Tensor  # (24,) of the features
    spread: Tensor  # (24,)
    reference: Tensor  # (7, 6) from (1, command, |command|) to an outcome
    scale: Tensor  # (6,) by how much healthy outcomes are off it

    @classmethod
    def measured(cls, features: np.ndarray, outcomes: np.ndarray) -> "Healthy":
        """From features (N, 24) and the outcomes (N, 6) that followed; by least squares."""
        told = _terms(features[:, :3])
        reference = np.linalg.lstsq(told, outcomes, rcond=None)[0]
        scale = np.maximum((outcomes - told @ reference).std(0), _LEAST_SCALE)
        spread = np.maximum(features.std(0), _LEAST_SPREAD)
        return cls(*(torch.from_numpy(part).float() for part in (features.mean(0), spread, reference, scale)))

    def normalised(self, features: np.ndarray) -> Tensor:
        """Features (24,) in standard deviations of the healthy robot's."""
        return ((torch.from_numpy(features).float() - self.mean) / self.spread).clamp(-_MOST, _MOST)

    def missed(self, command: np.ndarray, outcome: np.ndarray) -> Tensor:
        """How far an outcome (6,) is from what the healthy robot does with a command (3,), in its deviations."""
        wanted = torch.from_numpy(_terms(command[None])[0]).float() @ self.reference
        return ((torch.from_numpy(outcome).float() - wanted) / self.scale).clamp(-_MOST, _MOST)


def _terms(command: np.ndarray) -> np.ndarray:
    """(N, 3) -> (N, 7): forward is not the mirror image of backward."""
    return np.concatenate([np.ones((len(command), 1)), command, np.abs(command)], axis=1)


class ResidualNet(nn.Module):
    """Features -> residual; a new one answers with zeros, which leaves the walker alone.

    Args:
        limit: rad, the largest residual.
        hidden: width.
    """

    def __init__(self, limit: float = ResidualConfig.limit, hidden: int = 64) -> None:
        super().__init__()
        self.limit = limit
        last = nn.Linear(hidden, OWN_JOINTS)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Linear(FEATURES, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), last, nn.Tanh()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features (B, 24) -> residual (B, 15) rad."""
        return self.limit * self.net(features)


class ResidualForward:
    """Features and residual -> what will be missed of the healthy outcome: linear, by ridge regression.

    It is held to what was known before, of the healthy robot, as if by so many rows of experience; a network of its own
    was fitted more closely to as many rows and foresaw less.

    Args:
        prior: (40, 6) what was known: one row of constants, one for each feature, one for each joint's residual in
            limits; None = nothing.
        limit: rad, the largest residual.

    Attributes:
        weights: (40, 6) what is known now.
    """

    def __init__(self, prior: Tensor | None = None, limit: float = ResidualConfig.limit) -> None:
        self.limit = limit
        self.prior = torch.zeros(1 + FEATURES + OWN_JOINTS, len(OUTCOME)) if prior is None else prior.clone()
        self.weights = self.prior.clone()

    def __call__(self, features: Tensor, residual: Tensor) -> Tensor:
        """Normalised features (B, 24), residual (B, 15) rad -> (B, 6) healthy standard deviations."""
        return self._told(features, residual) @ self.weights

    def fit(self, batch: Batch, hold: float = 3.0, hold_residual: float = 3.0) -> float:
        """Take in experience: `features`, `executed` and `outcome`, each (N, ...). What was fitted before is forgotten.

        hold, hold_residual: rows that the prior counts as, for what features and what residuals do. Returns the mean
        squared error on the experience, which is small where there are few rows.
        """
        told = self._told(batch["features"], batch["executed"])
        held = torch.full((told.shape[1],), hold)
        held[1 + FEATURES :] = hold_residual
        unexplained = batch["outcome"] - told @ self.prior
        self.weights = self.prior + torch.linalg.solve(told.T @ told + held.diag(), told.T @ unexplained)
        return float((told @ self.weights - batch["outcome"]).square().mean())

    def _told(self, features: Tensor, residual: Tensor) -> Tensor:
        return torch.cat([torch.ones(len(features), 1), features, residual / self.limit], dim=-1)


def save_residual(folder: Path, net: ResidualNet, forward_model: ResidualForward, healthy: Healthy) -> None:
    """Write all three into a folder, in one move."""
    buffer = io.BytesIO()
    parts = {"net": net.state_dict(), "forward_model": forward_model.weights, "healthy": vars(healthy)}
    torch.save(parts | {"limit": net.limit}, buffer)
    replace_bytes(folder / FILE, buffer.getbuffer())


def load_residual(folder: Path) -> tuple[ResidualNet, ResidualForward, Healthy]:
    """Read what `save_residual` wrote.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    try:
        saved: dict[str, Any] = torch.load(folder / FILE, weights_only=True)
        net, forward_model = ResidualNet(saved["limit"]), ResidualForward(saved["forward_model"], saved["limit"])
        net.load_state_dict(saved["net"])
        return net, forward_model, Healthy(**saved["healthy"])
    except (OSError, EOFError, RuntimeError, TypeError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{folder} holds no whole residual policy ({error}). Babble one anew.") from error

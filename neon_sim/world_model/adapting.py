"""A planner whose world model goes on learning in the loop, held by springs, and what that does to what it knew.

One gradient step before each replan (`adapt.Adapter`). What it forgets is measured where it was at home before: the
surprise in recorded windows of the world that it was trained in, before the life and after it, beside the surprise in
the world that it lived in.
"""

from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.names import nearest
from neon_sim.training.fisher import fisher_diagonal
from neon_sim.training.protection import Protection, make_protection, protection_config
from neon_sim.world_model.adapt import AdaptConfig, Adapter, adapted_parameters, sample_loss
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.controllers import LatentController, PlanningConfig
from neon_sim.world_model.lewm import LeWM
from neon_sim.world_model.probe import surprise
from neon_sim.world_model.problems import Problem
from neon_sim.world_model.rollouts import JUDGED_FROM, RolloutConfig, record_episode
from neon_sim.world_model.worlds import Moment

SPRINGS: Final = ("none", "l2", "ewc", "online_ewc")  # protections that hold weights; replay is none of them
WINDOW: Final = 5  # model steps in a window, or as many as the model has positions
_ANCHOR, _HOME, _HERE = 0, 1000, 2000  # episodes: what the Fisher is of, and what is judged, here and there


class NoLifeError(ValueError):
    """The robot falls before there is anything to judge by: this world cannot be lived in."""


@dataclass(frozen=True)
class LifeConfig:
    """How a planner adapts, is protected and judged."""

    protection: str = "ewc"
    strength: float | None = None  # of the springs; None: the strategy's own, not tuned for a world model
    adapt: AdaptConfig = AdaptConfig()
    episodes: int = 8  # that are recorded: for the Fisher, and to judge at home and here
    steps: int = 40  # in each, of 0.1 s

    def __post_init__(self) -> None:
        if self.protection not in SPRINGS:
            raise nearest("protection of a world model", self.protection, SPRINGS)
        if self.adapt.layers != "predictor":
            raise ValueError(
                f"While it plans, only layers 'predictor' can move, got {self.adapt.layers!r}: goals and readout are "
                "made for latents of an encoder that stands still."
            )
        if self.episodes < 1 or self.steps < WINDOW:
            raise ValueError(f"A life wants an episode or more of at least {WINDOW} steps to judge by, got {self}.")


@dataclass(frozen=True)
class Learned:
    """What a life changed: mean squared error per entry of the next latent, told the truth before it."""

    home_before: float
    home_after: float
    here_before: float
    here_after: float
    updates: int

    @property
    def forgetting(self) -> float:
        """How much larger the error at home became, as a share of what it was; below 0 it became smaller."""
        return self.home_after / self.home_before - 1.0

    @property
    def gain(self) -> float:
        """How much smaller the error became where it lives, as a share of what it was."""
        return 1.0 - self.here_after / self.here_before

    def as_figures(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self) | {"forgetting": self.forgetting, "gain": self.gain}


def record_windows(env: Any, bundle: Bundle, life: LifeConfig, first: int) -> dict[str, Tensor]:
    """Windows of fresh episodes in `env` as it is now: frames (B, 6, S, S, 3) uint8, proprio (B, 6, P) if the model
    feels, actions (B, 5, A). No training drew their seeds, and other `first` are other episodes.

    Raises NoLifeError if the robot fell before a window was full in every one of them.
    """
    config = RolloutConfig(bundle.task, 1, life.steps, bundle.model.config.image_size)
    names = {"frames": "frames", "actions": "commands"}
    if bundle.model.config.proprio_dim:
        names["proprio"] = "proprio"
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    window = min(WINDOW, bundle.model.config.positions)
    for i in range(life.episodes):
        episode = record_episode(env, config, 2 * JUDGED_FROM + first + i)
        for start in range(0, episode["length"] - window, window):
            for name, key in names.items():
                rows[name].append(episode[key][start : start + window + (name != "actions")])
    if not rows["frames"]:
        raise NoLifeError(f"All {life.episodes} episodes ended in a fall within {WINDOW} steps. Is the robot broken?")
    return {name: torch.from_numpy(np.stack(values)) for name, values in rows.items()}


@torch.no_grad()
def window_error(model: LeWM, windows: dict[str, Tensor]) -> float:
    """Mean squared error per entry of the next latent in windows, the model in eval mode."""
    latents = model.encode(windows["frames"], windows.get("proprio"))
    return float(surprise(model, latents, windows["actions"]).mean()) / model.config.dim


def protect(model: LeWM, life: LifeConfig, windows: dict[str, Tensor]) -> Protection:
    """The strategy, with the present weights anchored by their Fisher in `windows`."""
    parameters = adapted_parameters(model, life.adapt.layers)
    config: Any = protection_config(life.protection)
    if life.strength is not None and life.protection != "none":
        config = replace(config, strength=life.strength)
    protection = make_protection(config, parameters, np.random.default_rng(0))
    protection.end_regime(lambda: fisher_diagonal(model, sample_loss, windows, names=list(parameters), chunk=8))
    return protection


class AdaptingController(LatentController):
    """A `LatentController` that takes a gradient step on the newest transitions before each plan.

    It has a copy of the bundle's model, which goes on from episode to episode; the bundle stays as it is.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: PlanningConfig,
        life: LifeConfig,
        windows: dict[str, Tensor],
        planner: str = "cem",
        seed: int = 0,
    ) -> None:
        """windows: of the world that it knows, for the Fisher (`record_windows`)."""
        own = replace(bundle, model=deepcopy(bundle.model).requires_grad_(True))
        super().__init__(own, config, planner, seed)
        self.updates = 0
        self._adapter = Adapter(own.model, life.adapt, protect(own.model, life, windows))

    def begin(self, problem: Problem) -> None:
        """See `Controller`."""
        super().begin(problem)
        self._adapter.clear()

    def see(self, seen: Moment, command: np.ndarray | None) -> None:
        """See `Controller`."""
        super().see(seen, command)
        if command is not None:
            self._adapter.did(torch.as_tensor(command, dtype=torch.float32))
        feels = self.bundle.model.config.proprio_dim > 0
        felt = torch.from_numpy(np.asarray(seen.proprio, np.float32)) if feels else None
        self._adapter.see(torch.from_numpy(seen.frame), felt)

    def decide(self) -> np.ndarray:
        """See `Controller`."""
        with torch.enable_grad():
            self.updates += self._adapter.step() is not None
        return super().decide()


class Life:
    """One planner in a world that may differ from the one it knows: how its model changes from before to after.

    Make it while `env` is the world that the model knows, change that, then `arrive`.
    """

    def __init__(self, env: Any, bundle: Bundle, config: LifeConfig) -> None:
        self.bundle, self.config = bundle, config
        self._anchor, self._home = (record_windows(env, bundle, config, first) for first in (_ANCHOR, _HOME))
        self._here = self._home

    def arrive(self, env: Any) -> None:
        """Record in the world that is to be lived in."""
        self._here = record_windows(env, self.bundle, self.config, _HERE)

    def controller(self, planning: PlanningConfig, planner: str = "cem", seed: int = 0) -> AdaptingController:
        """What lives; each begins with the bundle's weights."""
        return AdaptingController(self.bundle, planning, self.config, self._anchor, planner, seed)

    def learned(self, controller: LatentController) -> Learned:
        """What the life of this controller changed up to now; of one that does not adapt, nothing."""
        before, after = self.bundle.model, controller.bundle.model
        home, here = ((window_error(before, w), window_error(after, w)) for w in (self._home, self._here))
        return Learned(*home, *here, getattr(controller, "updates", 0))

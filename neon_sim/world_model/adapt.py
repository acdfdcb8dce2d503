"""A world model that goes on learning while it plans: one gradient step per replan on what just happened.

After AdaJEPA (arXiv 2606.32026), which moves the last layer of encoder and predictor on a buffer of five transitions.
Nobody has measured what it forgets, so anything that holds weights can be put in, EWC for one: `sample_loss` gives its
Fisher.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from neon_sim.names import nearest
from neon_sim.world_model.lewm import LeWM

LAYERS = ("last", "first", "predictor", "all")


class Protection(Protocol):
    """What holds weights where they mattered; `neon_sim.training.ewc.EWC` does."""

    def pull_(self, step: float) -> None:
        """Move the weights by one step of the protection alone, at this learning rate."""
        ...


@dataclass(frozen=True)
class AdaptConfig:
    """How a world model adapts."""

    layers: str = "predictor"  # published: "last" of encoder and predictor, or "first", better for damping
    transitions: int = 5
    learning_rate: float = 1e-4
    encoder_share: float = 0.01  # of the rate, for what leads to z: see `Adapter`
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.layers not in LAYERS:
            raise nearest("part to adapt", self.layers, LAYERS)
        if self.transitions < 1 or min(self.learning_rate, self.encoder_share) < 0.0:
            raise ValueError(f"Adaptation wants a transition or more and rates >= 0, got {self}.")


class Moment(NamedTuple):
    """What was seen, and what was done next."""

    frame: Tensor  # (S, S, 3) uint8
    proprio: Tensor | None  # (P,)
    action: Tensor | None  # (A,) executed after it; None while it is the newest


def adapted_parameters(model: LeWM, layers: str = "predictor") -> dict[str, nn.Parameter]:
    """The parameters that adaptation moves, by name: what an EWC has to hold. Raises ValueError for other `layers`."""
    seeing, telling = len(model.encoder.blocks) - 1, len(model.predictor.blocks) - 1
    prefixes: dict[str, tuple[str, ...]] = {
        "last": (f"encoder.blocks.{seeing}.", f"predictor.blocks.{telling}.", f"predictor.modulation.{telling}."),
        "first": ("encoder.blocks.0.", "predictor.blocks.0.", "predictor.modulation.0."),
        "predictor": ("predictor.",),
        "all": ("",),
    }
    if layers not in prefixes:
        raise nearest("part to adapt", layers, prefixes)
    return {name: value for name, value in model.named_parameters() if name.startswith(prefixes[layers])}


def sample_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Half the squared prediction error of each sequence, (B,): a Gaussian's negative log-likelihood, for a Fisher.

    batch: frames (B, T, S, S, 3) uint8, actions (B, T - 1, A), and proprio (B, T, P) if the model has it. The target
    carries no gradient, as in adaptation. Raises TypeError for another kind of module.
    """
    if not isinstance(model, LeWM):
        raise TypeError(f"sample_loss wants a LeWM, got {type(model).__name__}.")
    latents = model.encode(batch["frames"], batch.get("proprio"))
    predicted = model.predictor(latents[:, :-1], batch["actions"])
    return 0.5 * (predicted - latents[:, 1:].detach()).square().sum(-1).mean(-1)


class Adapter:
    """Keeps the newest transitions of one episode and takes a step on them.

    The model stays in eval mode: five frames are no batch to normalise by. Nor can SIGReg hold the latents open on five
    frames, so the target is detached here, which it is not in training (ours): with the gradient let in, the latents of
    a small world shrank to a fifth in 80 steps. An encoder that moves at the predictor's rate ran away instead: the
    projector's frozen BatchNorm makes much of little. Hence the predictor alone by default, and a slow encoder. When
    it moves, latents of earlier frames and of the goal must be encoded anew.
    """

    def __init__(self, model: LeWM, config: AdaptConfig | None = None, protection: Protection | None = None) -> None:
        self.model = model.eval()
        self.config = config or AdaptConfig()
        self.protection = protection
        self.parameters = adapted_parameters(model, self.config.layers)
        rate = self.config.learning_rate
        groups: list[dict[str, Any]] = [
            {"params": [], "lr": rate * self.config.encoder_share},
            {"params": [], "lr": rate},
        ]
        for name, parameter in self.parameters.items():
            groups[name.startswith("predictor.")]["params"].append(parameter)
        self._optimizer = torch.optim.Adam(groups)
        length = min(self.config.transitions, model.config.positions) + 1
        self._moments: deque[Moment] = deque(maxlen=length)

    def clear(self) -> None:
        """A new episode: what is in the buffer does not lead to what comes. Weights and optimiser stay."""
        self._moments.clear()

    def see(self, frame: Tensor, proprio: Tensor | None = None) -> None:
        """Take what is seen now, (S, S, 3) uint8 and (P,). Raises ValueError if nothing was done since the last."""
        if self._moments and self._moments[-1].action is None:
            raise ValueError("see() was called twice without did() between: which action led from one to the other?")
        self._moments.append(Moment(frame.clone(), None if proprio is None else proprio.clone(), None))

    def did(self, action: Tensor) -> None:
        """Take the action (A,) executed after what was seen. Raises ValueError if nothing was seen before it."""
        if not self._moments or self._moments[-1].action is not None:
            raise ValueError("did() wants to follow see(): what was seen when this action began?")
        self._moments[-1] = self._moments[-1]._replace(action=action.clone())

    @property
    def transitions(self) -> int:
        """Complete transitions in the buffer."""
        return max(0, len(self._moments) - 1)

    def step(self) -> float | None:
        """One gradient step on the buffer; returns the error before it, or None while there is no transition."""
        if not self.transitions:
            return None
        loss = sample_loss(self.model, self._batch()).sum()
        values = list(self.parameters.values())
        gradients = torch.autograd.grad(loss, values, allow_unused=True)
        for parameter, gradient in zip(values, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(values, self.config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self.protection is not None:
            self.protection.pull_(self.config.learning_rate)
        return float(loss.detach())

    def _batch(self) -> dict[str, Tensor]:
        device = self.model.predictor.places.device
        done = [m.action for m in self._moments if m.action is not None][: self.transitions]
        batch = {"frames": torch.stack([m.frame for m in self._moments]), "actions": torch.stack(done)}
        felt = [m.proprio for m in self._moments if m.proprio is not None]
        if len(felt) == len(self._moments):
            batch["proprio"] = torch.stack(felt)
        return {name: value.unsqueeze(0).to(device) for name, value in batch.items()}

    def state_dict(self) -> dict[str, Any]:
        """Optimiser and buffer; the weights are the model's own."""
        return {"optimizer": self._optimizer.state_dict(), "moments": [tuple(m) for m in self._moments]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, for the same layers."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._moments.clear()
        self._moments.extend(Moment(*values) for values in state["moments"])

"""Elastic weight consolidation: springs that pull weights back to where they mattered.

Kirkpatrick et al. 2017: L = L_new + strength / 2 * sum_i F_i (theta_i - theta*_i)^2. F comes from
`neon_sim.training.fisher` and is normalised to mean 1, since a strength is not portable between nets otherwise. Where
several anchors are kept, it is the first F that has mean 1, and the others are in its units: a task whose F is larger
is held as much harder. With each F normalised alone the later tasks are forgotten (`benchmarks/known_ground.py`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neon_sim.training.fisher import Fisher, fisher_diagonal, gaussian_nll, sampled_target

__all__ = ["EWC", "Fisher", "fisher_diagonal", "fisher_mean", "gaussian_nll", "normalise_fisher", "sampled_target"]


def fisher_mean(fisher: Mapping[str, Tensor]) -> float:
    """Mean over all entries. Raises ValueError for a Fisher that is negative, not finite, or zero everywhere."""
    count = sum(value.numel() for value in fisher.values())
    mean = sum(float(value.double().sum()) for value in fisher.values()) / max(count, 1)
    if not (math.isfinite(mean) and mean > 0.0) or any(bool((value < 0.0).any()) for value in fisher.values()):
        raise ValueError(
            f"A Fisher must be non-negative with a positive, finite mean, got {mean}. Does any sample move the output?"
        )
    return mean


def normalise_fisher(fisher: Mapping[str, Tensor]) -> Fisher:
    """Scale a Fisher to mean 1 over all its entries, so that one `strength` means the same for any net and loss.

    Raises ValueError for a Fisher that is negative, not finite, or zero everywhere.
    """
    mean = fisher_mean(fisher)
    return {name: value.detach() / mean for name, value in fisher.items()}


class EWC:
    """Weights held by springs: penalty = strength / 2 * sum over anchors and entries of F (theta - theta*)^2.

    params: the trainable parameters by name. anchors: theta* by name, or a list of them (separate EWC); fisher: F by
    name, or as many, all divided by the first one's mean. Any number of anchors costs as much as one: a sum of
    parabolas is a parabola. strength: 0 is no EWC. Plain gradient steps need learning rate * strength * max F < 2;
    `pull_` any.
    """

    def __init__(
        self,
        params: Mapping[str, nn.Parameter],
        anchors: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]] = (),
        fisher: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]] = (),
        strength: float = 1.0,
    ) -> None:
        if not (math.isfinite(strength) and strength >= 0.0):
            raise ValueError(f"EWC strength must be a finite number >= 0, got {strength}.")
        if not params:
            raise ValueError("EWC needs at least one parameter to protect, got none. Are all of them frozen?")
        self.params = dict(params)
        self.strength = float(strength)
        self.anchor_count = 0
        self._scale: float | None = None  # the first Fisher's mean, where all anchors are kept
        self._shares: tuple[float, Fisher] | None = None  # step * strength, and which share of a gap such a step leaves
        self._weight = 0.0  # of all Fishers that online EWC has in its mean, the newest one's being 1
        self._offset = 0.0  # what the anchors' disagreement among themselves adds to the sum, whatever theta is
        self._centre = {name: param.detach().clone() for name, param in self.params.items()}
        self._fisher = {name: torch.zeros_like(param) for name, param in self.params.items()}
        values = [anchors] if isinstance(anchors, Mapping) else list(anchors)
        weights = [fisher] if isinstance(fisher, Mapping) else list(fisher)
        if len(values) != len(weights):
            raise ValueError(f"Each anchor needs its Fisher: got {len(values)} anchors and {len(weights)} Fishers.")
        for value, weight in zip(values, weights, strict=True):
            self.add_anchor(value, weight)

    @torch.no_grad()
    def add_anchor(
        self, anchor: Mapping[str, Tensor], fisher: Mapping[str, Tensor], decay: float | None = None
    ) -> None:
        """Protect one more set of weights.

        decay None keeps every anchor (separate EWC). A number in [0, 1] is online EWC (Schwarz et al. 2018): the newest
        anchor only, and F <- decay * F + F_new, each F_new with mean 1, divided by the sum of the weights that this
        gives to all that came: F keeps mean 1, and the springs do not stiffen with every regime of a life. Raises
        ValueError when names or shapes are not those of the params.
        """
        if decay is not None and not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay must be None or in [0, 1], got {decay}.")
        anchor, fisher = self._matched(anchor, "anchor"), self._matched(fisher, "Fisher")
        scale = fisher_mean(fisher)
        if decay is None:
            self._scale = scale = self._scale or scale
        self._shares = None
        before = (decay or 0.0) * self._weight
        for name, measured in fisher.items():
            new, old, centre, value = measured / scale, self._fisher[name], self._centre[name], anchor[name]
            if decay is not None or self.anchor_count == 0:
                self._fisher[name], self._centre[name] = (before * old + new) / (before + 1.0), value.clone()
                continue
            share = torch.where(new > 0.0, new / (old + new), 0.0)
            gap = value - centre
            self._offset += float((old * share * gap.square()).double().sum())
            self._fisher[name], self._centre[name] = old + new, centre + share * gap
        self._weight = 1.0 if decay is None else before + 1.0
        self._offset = 0.0 if decay is not None else self._offset
        self.anchor_count = 1 if decay is not None else self.anchor_count + 1

    def penalty(self) -> Tensor:
        """The scalar to add to the loss. Differentiable."""
        total = next(iter(self.params.values())).new_tensor(self._offset)
        for name, param in self.params.items():
            total = total + (self._fisher[name] * (param - self._centre[name]).square()).sum()
        return 0.5 * self.strength * total

    @torch.no_grad()
    def add_gradient_(self) -> None:
        """Add strength * F (theta - theta*) to each parameter's .grad: `penalty().backward()` without the graph."""
        if self.strength == 0.0 or self.anchor_count == 0:
            return
        for name, param in self.params.items():
            if param.grad is None:
                param.grad = torch.zeros_like(param)
            param.grad.addcmul_(self._fisher[name], param - self._centre[name], value=self.strength)

    @torch.no_grad()
    def pull_(self, step: float) -> None:
        """Move the weights by one implicit gradient step of the penalty alone; stable for any step * strength.

        theta <- theta* + (theta - theta*) / (1 + step * strength * F): use after the optimiser's step, with its rate.
        """
        if self.strength == 0.0 or self.anchor_count == 0:
            return
        pull = step * self.strength
        if self._shares is None or self._shares[0] != pull:  # the same at each step between two anchors
            self._shares = pull, {name: (1.0 + pull * value).reciprocal() for name, value in self._fisher.items()}
        for name, param in self.params.items():
            torch.lerp(self._centre[name], param, self._shares[1][name], out=param.data)

    def state_dict(self) -> dict[str, Any]:
        """Everything the penalty depends on besides the parameters themselves."""
        return {
            "strength": self.strength,
            "anchor_count": self.anchor_count,
            "offset": self._offset,
            "scale": self._scale,
            "weight": self._weight,
            "centre": {name: value.clone() for name, value in self._centre.items()},
            "fisher": {name: value.clone() for name, value in self._fisher.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave. Raises ValueError when it belongs to other parameters."""
        centre, fisher = self._matched(state["centre"], "saved anchor"), self._matched(state["fisher"], "saved Fisher")
        self._centre = {name: value.clone() for name, value in centre.items()}
        self._fisher = {name: value.clone() for name, value in fisher.items()}
        self._shares = None
        self.strength, self._offset = float(state["strength"]), float(state["offset"])
        self.anchor_count = int(state["anchor_count"])
        self._scale = state.get("scale")  # states from before there was one go on in the next Fisher's units
        self._weight = float(state.get("weight", min(self.anchor_count, 1)))  # and those as if of one regime

    def _matched(self, given: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
        if set(given) != set(self.params):
            raise ValueError(
                f"The {what} is for other parameters. Only one side has: {sorted(set(given) ^ set(self.params))}."
            )
        wrong = [name for name, param in self.params.items() if given[name].shape != param.shape]
        if wrong:
            raise ValueError(f"The {what} has other shapes than the parameters {wrong}. Make it anew from this net.")
        return {name: given[name].detach().to(param) for name, param in self.params.items()}

"""What was learned is adopted only after a check, within a trust region, and can be taken back.

Between two checks the optimiser moves the weights as it likes. `AdoptionGate.propose` then looks at them beside the
adopted ones on experience that was held back from learning: the chunks must not move farther than the trust region,
and the held-back loss must not rise above the lowest that any adopted weights have (many small rises are a large one).
A step that is too long is halved, as in the line search of TRPO (Schulman et al. 2015), and what fails to the end is
taken back, the optimiser's moments included. Where too little is held back to judge by, as when a regime has just
begun, nothing is adopted: the gate waits, and says so.
"""

import copy
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class AdoptionConfig:
    """What an update must stand up to."""

    trust_radius: float = 0.1  # rms change of held-back chunks, in action units (the box is 2 wide)
    tolerance: float = 0.02  # share by which the held-back loss may lie above that of the best adopted weights
    halvings: int = 3  # shorter steps that are tried before an update is taken back
    hold_back_every: int = 8  # each eighth episode is held back from learning
    held_back_chunks: int = 256  # the newest
    least_held_back: int = 12  # chunks of the present regime: two episodes of six, as those of one are much alike
    history: int = 4  # adopted weights that `rollback` can go back to

    def __post_init__(self) -> None:
        if not self.trust_radius > 0.0 or not self.tolerance >= 0.0:
            raise ValueError(f"Adoption wants trust_radius > 0 and tolerance >= 0, got {self}.")
        if self.halvings < 0 or min(self.hold_back_every - 1, self.held_back_chunks, self.history) < 1:
            raise ValueError(
                f"Adoption wants halvings >= 0, hold_back_every >= 2, held_back_chunks and history >= 1, got {self}."
            )
        if not 1 <= self.least_held_back <= self.held_back_chunks:
            raise ValueError(f"Adoption wants least_held_back from 1 to held_back_chunks, got {self}.")


@dataclass(frozen=True)
class Verdict:
    """What became of one proposal."""

    adopted: bool
    share: float  # of the proposed step that was taken: 1, 1/2, 1/4 ..., 0
    loss_before: float  # on held-back experience
    loss_after: float
    shift: float  # rms change of the held-back chunks, action units
    why: str
    waits: bool = False  # nothing was judged, as there is too little to judge by


class AdoptionGate:
    """Stands between the learner and the policy.

    Args:
        params: the parameters that learn and act. Between `propose` calls they belong to the learner.
        optimizer: whose moments go back together with the weights.
        config: see `AdoptionConfig`.
    """

    def __init__(
        self, params: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, config: AdoptionConfig | None = None
    ) -> None:
        self.params, self.optimizer = dict(params), optimizer
        self.config = config or AdoptionConfig()
        self.proposals = self.adoptions = 0
        self._earlier: deque[Weights] = deque(maxlen=self.config.history)
        self.restart()

    def restart(self) -> None:
        """Take the present weights for the adopted ones, and forget earlier ones."""
        self._adopted = self._best = self._weights()
        self._moments = copy.deepcopy(self.optimizer.state_dict())
        self._earlier.clear()

    def forget_best(self) -> None:
        """From now on the adopted weights are the best: what was held back is of another regime than before."""
        self._best = self._adopted

    def propose(self, loss: Callable[[], float], chunks: Callable[[], Tensor], objection: str | None = None) -> Verdict:
        """Adopt the present weights, a part of the way to them, or go back to the adopted ones.

        Args:
            loss: on held-back experience, with the weights as they are when it is called.
            chunks: what the heads say to held-back experience, (N, T, A), likewise; the same noise at each call.
            objection: a reason not to adopt anything now ("the robot moves", "nobody has confirmed").
        """
        self.proposals += 1
        proposed = self._weights()
        if objection is None and not all(bool(value.isfinite().all()) for value in proposed.values()):
            objection = "a weight is not finite"
        if objection is not None:
            return self._take_back(math.nan, math.nan, math.nan, objection)
        with torch.no_grad():
            return self._search(proposed, loss, chunks)

    def wait(self, why: str) -> Verdict:
        """Go back to the adopted weights, as there is too little to judge the present ones by: no proposal."""
        return replace(self._take_back(math.nan, math.nan, math.nan, why), waits=True)

    def rollback(self, why: str) -> str:
        """Go back to the weights that were adopted before the present ones; says what was done.

        Raises:
            ValueError: nothing earlier is kept.
        """
        if not self._earlier:
            raise ValueError(f"Cannot roll back ({why}): no earlier weights are kept. Raise `history`.")
        self._adopted = self._best = self._earlier.pop()
        self._put(self._adopted)
        self.optimizer.state.clear()  # moments of gradients at other weights
        self._moments = copy.deepcopy(self.optimizer.state_dict())
        return f"rolled back to the weights before: {why}"

    def get_state(self) -> dict[str, Any]:
        """Adopted weights, the best and earlier ones, moments and counts."""
        return {
            "adopted": _copy(self._adopted),
            "best": _copy(self._best),
            "earlier": [_copy(weights) for weights in self._earlier],
            "moments": copy.deepcopy(self._moments),
            "proposals": self.proposals,
            "adoptions": self.adoptions,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over `get_state`; the parameters themselves stay as they are.

        Raises:
            ValueError: it belongs to other parameters.
        """
        wanted = {name: value.shape for name, value in self.params.items()}
        given = {name: value.shape for name, value in state["adopted"].items()}
        if given != wanted:
            odd = sorted(name for name in set(wanted) | set(given) if wanted.get(name) != given.get(name))
            raise ValueError(f"The saved adoption state is for another head; these parameters differ: {odd}.")
        self._adopted = _copy(state["adopted"])
        self._best = _copy(state.get("best", state["adopted"]))  # older states did not keep it
        self._earlier.clear()
        self._earlier.extend(_copy(weights) for weights in state["earlier"])
        self._moments = copy.deepcopy(state["moments"])
        self.proposals, self.adoptions = int(state["proposals"]), int(state["adoptions"])

    def _search(self, proposed: Weights, loss: Callable[[], float], chunks: Callable[[], Tensor]) -> Verdict:
        """Try the whole step, a half, a quarter ...; the first one that passes is adopted."""
        best = self._best_loss(loss)
        self._put(self._adopted)
        before, said = loss(), chunks().clone()
        after = shift = math.nan
        if not best < before:  # of what is held back now, which is not what was held back then
            best, self._best = before, self._adopted
        why = f"the held-back loss of the adopted weights is {before}: the held-back experience is bad"
        if not math.isfinite(before) or not bool(said.isfinite().all()):
            return self._take_back(before, after, shift, why)
        for halving in range(self.config.halvings + 1):
            share = 0.5**halving
            self._put({name: torch.lerp(self._adopted[name], value, share) for name, value in proposed.items()})
            shift, after = float((chunks() - said).square().mean().sqrt()), loss()
            why = self._objection(before, best, after, shift)
            if not why:
                return self._adopt(share, before, after, shift)
        return self._take_back(before, after, shift, f"{why}, with the step halved {self.config.halvings} times")

    def _best_loss(self, loss: Callable[[], float]) -> float:
        """Of the best weights on what is held back now; infinite where the adopted ones are the best."""
        if self._best is self._adopted:
            return math.inf
        self._put(self._best)
        return loss()

    def _objection(self, before: float, best: float, after: float, shift: float) -> str:
        if not shift <= self.config.trust_radius:  # NaN is no way in
            return f"chunks move by {shift:.3g}, the trust region is {self.config.trust_radius:g}"
        if not after <= best * (1.0 + self.config.tolerance):
            kept = f", and the best adopted weights have {best:.4g}" if best < before else ""
            return f"the held-back loss goes from {before:.4g} to {after:.4g}{kept}"
        return ""

    def _adopt(self, share: float, before: float, after: float, shift: float) -> Verdict:
        self.adoptions += 1
        self._earlier.append(self._adopted)
        self._adopted = self._weights()
        self._moments = copy.deepcopy(self.optimizer.state_dict())
        why = f"the held-back loss goes from {before:.4g} to {after:.4g}, chunks move by {shift:.3g}"
        return Verdict(True, share, before, after, shift, why)

    def _take_back(self, before: float, after: float, shift: float, why: str) -> Verdict:
        self._put(self._adopted)
        self.optimizer.load_state_dict(copy.deepcopy(self._moments))
        return Verdict(False, 0.0, before, after, shift, why)

    def _weights(self) -> Weights:
        return _copy(self.params)

    @torch.no_grad()
    def _put(self, weights: Weights) -> None:
        for name, param in self.params.items():
            param.copy_(weights[name])


def same_noise(ask: Callable[[], Answer]) -> Callable[[], Answer]:
    """`ask` with torch's generator set to the same place at each call, and put back: for heads that sample."""

    def ask_alike() -> Answer:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return ask()

    return ask_alike


def _copy(weights: Mapping[str, Tensor]) -> Weights:
    return {name: value.detach().clone() for name, value in weights.items()}

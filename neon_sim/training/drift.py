"""When to learn: the forward model's residual tells that the body or the world is no longer the one that is known.

An EWMA control chart (Roberts 1959) on the logarithm of the residual: with lambda the weight of the newest value, the
running mean of independent values with standard deviation s has the standard deviation
s * sqrt(lambda / (2 - lambda)). Learning starts where the mean leaves its usual level by many of those, goes faster
the farther it is off, and stops when it is back, or when nothing gets better any more and the new level is the usual.
Chunks of one movement are not independent (of the shipped policy on the reach task, the mean of six spreads as widely
as each of them), so a value is the mean over a group of chunks.
What robots side by side carry out together is one chunk, and its residual the (geometric) mean of theirs: a change is
dated by what their world has lived through, however many they are.
A change is dated back to when the mean was last within the stop limit of its level of before. While one learns, the
mean falls: where it rises by the start and the stop limit above the lowest that it has come to, that is another change.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

LOG_KEPT = 1000  # newest events: a life may be long


@dataclass(frozen=True)
class DriftConfig:
    """Limits in standard deviations of the running mean; counts in values, of `group` chunks each."""

    group: int = 6  # chunks whose logarithms are averaged: an episode of 96 steps, 1.9 s
    baseline: int = 20  # values that say what is usual
    smoothing: float = 0.3  # lambda
    start_sigmas: float = 5.0
    stop_sigmas: float = 2.0
    settled: int = 5  # in a row below the stop limit, and learning stops
    patience: int = 50  # in a block; a block that is no better than the one before ends learning
    progress: float = 0.05  # by how much, in natural logarithm, a block must be better
    max_speed: int = 4
    least_spread: float = 0.05  # s is not taken as smaller: 5 % of the residual

    def __post_init__(self) -> None:
        if not 0.0 < self.smoothing <= 1.0 or not 0.0 < self.stop_sigmas < self.start_sigmas:
            raise ValueError(f"Drift wants smoothing in (0, 1] and 0 < stop_sigmas < start_sigmas, got {self}.")
        if min(self.group, self.baseline, self.settled, self.patience, self.max_speed) < 1 or self.least_spread <= 0.0:
            raise ValueError(f"Drift wants counts of 1 or more and least_spread > 0, got {self}.")


@dataclass(frozen=True)
class DriftEvent:
    """One line of the log."""

    chunk: int  # since the beginning
    what: str  # ready, start, change, faster, slower, stop, protect
    why: str


class DriftDetector:
    """Takes one residual after another; `speed` says how fast to learn: 0 not at all, 1 as usual, up to `max_speed`."""

    def __init__(self, config: DriftConfig | None = None) -> None:
        self.config = config or DriftConfig()
        self.speed = 0
        self.chunk = 0
        self.ignored = 0  # residuals that were not finite
        self.change: int | None = None  # chunks seen when the newest change began, until somebody calls `take_up`
        self.log: list[DriftEvent] = []
        self._group: list[float] = []  # logarithms of the chunks that make the next value
        self._first: list[float] = []  # values that the usual level is made from
        self._usual = self._spread = self._mean = 0.0
        self._low = 0.0  # the level that the running mean is compared with: usual, or the lowest since learning began
        self._at_low = 0  # chunks seen when the running mean was last within the stop limit of it
        self._warming = 0  # values that the running mean still needs to reach a new level
        self._calm = 0
        self._block: list[float] = []  # values since the present block began
        self._last_block: float | None = None  # mean of the block before

    @property
    def ready(self) -> bool:
        """Whether the usual level is known."""
        return len(self._first) == self.config.baseline

    @property
    def sigmas(self) -> float:
        """How far the running mean is above the usual level, in its own standard deviations; 0 before `ready`."""
        return self._sigmas_above(self._usual) if self.ready else 0.0

    def take_up(self, what_was_done: str) -> None:
        """Say that the newest change has been acted upon; it goes into the log."""
        self.change = None
        self._note("protect", what_was_done)

    def _sigmas_above(self, level: float) -> float:
        weight = self.config.smoothing
        return (self._mean - level) / (self._spread * math.sqrt(weight / (2.0 - weight)))

    def observe(self, *residuals: float) -> DriftEvent | None:
        """Take in the squared error of one chunk (each robot's, if they are side by side); returns what that changed.

        A residual that is not finite says that a sensor is broken, not that the body is: it is counted and left out.
        """
        usable = [residual for residual in residuals if math.isfinite(residual)]
        self.ignored += len(residuals) - len(usable)
        if not usable:
            return None
        self.chunk += 1
        self._group.append(float(np.mean([math.log(max(residual, 1e-12)) for residual in usable])))
        if len(self._group) < self.config.group:
            return None
        value, self._group = float(np.mean(self._group)), []
        if not self.ready:
            return self._learn_usual(value)
        self._mean += self.config.smoothing * (value - self._mean)
        if self._warming or self._sigmas_above(self._low) <= self.config.stop_sigmas:
            self._at_low = self.chunk
        return self._start() if self.speed == 0 else self._go_on(value)

    def _learn_usual(self, value: float) -> DriftEvent | None:
        self._first.append(value)
        if not self.ready:
            return None
        self._usual = self._mean = self._low = float(np.mean(self._first))
        self._at_low = self.chunk
        self._spread = max(float(np.std(self._first)), self.config.least_spread)
        return self._note("ready", f"the usual residual is {math.exp(self._usual):.3g}, {self._spread:.0%} around it")

    def _start(self) -> DriftEvent | None:
        if self.sigmas < self.config.start_sigmas:
            return None
        self.speed = 1
        return self._changed("start", f"the start limit is {self.config.start_sigmas:g}")

    def _changed(self, what: str, why: str) -> DriftEvent:
        self.change, self._warming = self._at_low, math.ceil(3.0 / self.config.smoothing)  # 95 % of the way
        self._calm, self._block, self._last_block = 0, [], None
        return self._note(what, self._where(why))

    def _rises_again(self) -> bool:
        """Whether the running mean is too far above the lowest that it has come to since the newest change.

        The lowest of many lies below the level that they are spread around, by about the stop limit.
        """
        if self._warming:
            self._warming -= 1
            self._low = self._mean
        self._low = min(self._low, self._mean)
        return self._sigmas_above(self._low) >= self.config.start_sigmas + self.config.stop_sigmas

    def _go_on(self, value: float) -> DriftEvent | None:
        config = self.config
        if self._rises_again():
            return self._changed("change", f"up from {math.exp(self._low):.3g} while learning")
        self._calm = self._calm + 1 if self.sigmas < config.stop_sigmas else 0
        if self._calm >= config.settled:
            self.speed, self._low, self._warming = 0, self._usual, 0
            return self._note(
                "stop", self._where(f"for {self._calm} values below the stop limit of {config.stop_sigmas:g}")
            )
        if self._stuck(value):
            return self._accept_level()
        speed = min(max(int(self.sigmas / config.start_sigmas), 1), config.max_speed)
        if speed == self.speed:
            return None
        what = "faster" if speed > self.speed else "slower"
        self.speed = speed
        return self._note(what, self._where(f"speed {speed} (one per {config.start_sigmas:g})"))

    def _stuck(self, value: float) -> bool:
        """Whether a block has just ended that is no better than the one before it."""
        self._block.append(value)
        if len(self._block) < self.config.patience:
            return False
        level, before = float(np.mean(self._block)), self._last_block
        self._block, self._last_block = [], level
        return before is not None and level > before - self.config.progress

    def _accept_level(self) -> DriftEvent:
        """Stop, and find out anew what is usual."""
        why = self._where(f"no progress in {self.config.patience} values, so this becomes usual")
        self.speed, self._first, self._warming = 0, [], 0
        return self._note("stop", why)

    def _where(self, why: str) -> str:
        levels = f"residual {math.exp(self._mean):.3g}, usually {math.exp(self._usual):.3g}"
        return f"{levels}: {self.sigmas:.1f} sigmas, {why}"

    def _note(self, what: str, why: str) -> DriftEvent:
        self.log.append(DriftEvent(self.chunk, what, why))
        del self.log[:-LOG_KEPT]
        return self.log[-1]

    def get_state(self) -> dict[str, Any]:
        """Everything, the log included."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {**numbers, **lists, "log": [asdict(event) for event in self.log]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over `get_state`."""
        for name in _NUMBERS:
            setattr(self, name, state.get(name, getattr(self, name)))  # older ones knew of no second change
        for name in _LISTS:
            setattr(self, name, list(state[name]))
        self.log = [DriftEvent(**event) for event in state["log"]]


_NUMBERS = (
    "speed", "chunk", "ignored", "change", "_usual", "_spread", "_mean", "_low", "_at_low", "_warming", "_calm",
    "_last_block",
)  # fmt: skip
_LISTS = ("_group", "_first", "_block")


@torch.no_grad()
def residual(predicted_after: Tensor, after: Tensor) -> float:
    """Mean of |f_pred - f_after|^2, both (D,).

    Not as a share of how much the features changed: a hand that has arrived changes nothing, and the share explodes.
    """
    return float((predicted_after - after).square().mean())

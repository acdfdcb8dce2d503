"""Reads the figures of a learner while it lives, and changes nothing: a watched life is the same life to the bit."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from neon_sim.eval.live_table import LiveLine
from neon_sim.training.drift import residual
from neon_sim.training.experience import Experience
from neon_sim.training.online import LifeEpisode
from neon_sim.training.self_learner import NeonSelfLearner

STIFF_SHARE = 0.01  # of the weights: those that the Fisher holds the most


@dataclass(frozen=True)
class Protected:
    """What was put under protection when a phase ended."""

    phase: str
    strategy: str  # "ewc", "replay" ...
    chunks: int  # of experience that was known then
    memory_bytes: int
    weights: int
    half_share: float | None  # share of the weights that carries half of the Fisher; None without one


@dataclass(frozen=True)
class Movement:
    """How far weights are from where springs hold them, root mean square."""

    stiff: float  # the `STIFF_SHARE` with the largest Fisher
    others: float


@dataclass
class LifeRecord:
    """Everything that can be said about one life when it is over."""

    arm: str
    seed: int
    lines: list[LiveLine] = field(default_factory=list)
    protected: list[Protected] = field(default_factory=list)
    proposals: int | None = None  # None: no check was in force
    adoptions: int = 0
    shortened: int = 0  # adopted, with a shorter step than was proposed
    refusals: list[str] = field(default_factory=list)  # why an update was taken back
    waits: int = 0  # updates that were dropped, as there was too little to judge them by
    drift_log: list[str] | None = None  # None: no drift detector was in force
    movement: Movement | None = None
    unusable: int = 0  # chunks that were not finite

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "LifeRecord":
        """Raises ValueError or TypeError for text that is no such record."""
        given: dict[str, Any] = json.loads(text)
        given["lines"] = [LiveLine(**{**line, "curve": LifeEpisode(**line["curve"])}) for line in given["lines"]]
        given["protected"] = [Protected(**entry) for entry in given["protected"]]
        given["movement"] = None if given["movement"] is None else Movement(**given["movement"])
        return cls(**given)


class LearnerWatch:
    """Looks at a learner after each chunk and each episode.

    Args:
        learner: whom; it is not changed.
        record: of the life so far, to go on with.
    """

    def __init__(self, learner: NeonSelfLearner, record: LifeRecord) -> None:
        self.learner, self.record = learner, record
        self._losses, self._verdict, self._end = learner.last_losses, learner.last_verdict, learner.last_end
        self._marks = self._ends()
        self._learned_chunks = 0

    def after_chunk(self) -> None:
        """Call when the learner has had its turn before a chunk: what it learned, protected, was refused, waits for."""
        learner, record = self.learner, self.record
        if learner.last_losses is not self._losses:
            self._losses = learner.last_losses
            self._learned_chunks += 1
        if learner.last_end is not None and learner.last_end is not self._end:
            self._end = chunk, protected = learner.last_end
            if protected and learner.strategy.kind != "none":
                self.after_protection(f"what it had seen up to chunk {chunk}", protected)
        verdict = learner.last_verdict
        if verdict is None or verdict is self._verdict:
            return
        self._verdict = verdict
        record.shortened += verdict.adopted and verdict.share < 1.0
        record.waits += verdict.waits
        if not verdict.adopted and not verdict.waits:
            record.refusals.append(verdict.why)

    def after_episode(self, phase: str, curve: LifeEpisode) -> LiveLine:
        """Call when the learner has closed the episode: its line, which is also kept in the record."""
        learner = self.learner
        line = LiveLine(
            phase=phase,
            curve=curve,
            residual=self._residual(self._newest()),
            learned_chunks=self._learned_chunks,
            learning=self._learned_chunks > 0 and learner.config.learning_rate > 0.0,
            penalty=None if learner.protection is None else float(learner.protection.penalty().detach()),
            losses=dict(learner.last_losses) if self._learned_chunks else {},
        )
        self._marks, self._learned_chunks = self._ends(), 0
        self.record.lines.append(line)
        self._count()
        return line

    def after_protection(self, phase: str, chunks: int) -> None:
        """Call when the learner has protected what it knew at the end of a phase, from so many chunks."""
        springs, strategy = self.learner.protection, self.learner.strategy
        weights = sum(param.numel() for param in self.learner.params.values())
        half = None if springs is None else _half_share(springs.state_dict()["fisher"])
        self.record.protected.append(Protected(phase, strategy.kind, chunks, strategy.memory_bytes(), weights, half))

    def _count(self) -> None:
        learner, record = self.learner, self.record
        if learner.gate is not None:
            record.proposals, record.adoptions = learner.gate.proposals, learner.gate.adoptions
        if learner.drift is not None:
            record.drift_log = [f"chunk {event.chunk}: {event.what}, {event.why}" for event in learner.drift.log]
        record.unusable = learner.unusable
        record.movement = None
        if learner.protection is not None:
            state = learner.protection.state_dict()
            record.movement = movement(learner.params, state["centre"], state["fisher"])

    def _ends(self) -> tuple[Experience | None, Experience | None]:
        """The newest chunk that learns, and the newest that is held back."""
        kept = (self.learner.buffer, self.learner.held_back)
        return (kept[0][-1] if kept[0] else None, kept[1][-1] if kept[1] else None)

    def _newest(self) -> list[Experience]:
        """What came in since `_ends` was looked at last."""
        found: list[Experience] = []
        for kept, mark in zip((self.learner.buffer, self.learner.held_back), self._marks, strict=True):
            for item in reversed(kept):
                if item is mark:
                    break
                found.append(item)
        return found

    @torch.no_grad()
    def _residual(self, items: list[Experience]) -> float | None:
        if not items:
            return None
        foresee = self.learner.forward_model
        errors = [residual(foresee(item.fused[None], item.executed[None])[0], item.fused_after) for item in items]
        return sum(errors) / len(errors)


@torch.no_grad()
def movement(
    params: Mapping[str, Tensor], centre: Mapping[str, Tensor], fisher: Mapping[str, Tensor]
) -> Movement | None:
    """How far the stiffest weights and the others are from `centre`; None where there are fewer than two weights."""
    gap = torch.cat([(param - centre[name]).reshape(-1) for name, param in params.items()])
    stiffness = torch.cat([fisher[name].reshape(-1) for name in params])
    count = max(1, round(STIFF_SHARE * len(gap)))
    if count >= len(gap):
        return None
    stiff = torch.zeros(len(gap), dtype=torch.bool)
    stiff[stiffness.topk(count).indices] = True
    return Movement(*(float(gap[rows].square().mean().sqrt()) for rows in (stiff, ~stiff)))


def _half_share(fisher: Mapping[str, Tensor]) -> float:
    """Share of the entries, the largest first, that makes up half of the sum."""
    values = torch.cat([value.reshape(-1) for value in fisher.values()]).double().sort(descending=True).values
    return (int((values.cumsum(0) < 0.5 * values.sum()).sum()) + 1) / len(values)

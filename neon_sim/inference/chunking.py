"""Real-time chunking: a new chunk of actions takes over from the old one while the robot keeps moving.

A chunk answers an observation that is some steps old by the time it arrives: its first steps are stale and skipped,
and where it overlaps with what is left of the old chunk, the two are blended. Chunks are (B, T, A) arrays, 50 Hz.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neon_sim.names import nearest

BLEND_SCHEDULES: Final = ("linear", "exp", "ema", "latest")
EMA_ALPHA: Final = 0.7  # paper, eq. 20


@dataclass(frozen=True)
class ChunkingConfig:
    """How chunks follow each other.

    blend_schedule: one of `BLEND_SCHEDULES`, see `blend_weights`. execution_horizon: steps from one observation that
    a chunk is asked for to the next. ema_alpha: weight of the new chunk under "ema".
    Raises ValueError for an unknown schedule, a horizon below 1, and an alpha outside (0, 1].
    """

    blend_schedule: str = "linear"
    execution_horizon: int = 10
    ema_alpha: float = EMA_ALPHA

    def __post_init__(self) -> None:
        if self.blend_schedule not in BLEND_SCHEDULES:
            raise nearest("blend schedule", self.blend_schedule, BLEND_SCHEDULES)
        if self.execution_horizon < 1:
            raise ValueError(f"execution_horizon wants at least 1 step, got {self.execution_horizon}. Default: 10.")
        if not 0.0 < self.ema_alpha <= 1.0:
            raise ValueError(f"ema_alpha wants a weight in (0, 1], got {self.ema_alpha}. The paper's is {EMA_ALPHA}.")


def delay_steps(latency_s: float, control_hz: float = 50.0) -> int:
    """Control steps that pass while a chunk is computed: ceil(latency x rate), 3 for 50 ms at 50 Hz.

    A chunk of T steps keeps the robot supplied where execution_horizon + delay_steps <= T.
    Raises ValueError for a negative or endless latency and for a rate that is not positive.
    """
    if not (0.0 <= latency_s < math.inf and 0.0 < control_hz < math.inf):
        raise ValueError(f"delay_steps wants latency_s >= 0 and control_hz > 0, got {latency_s} and {control_hz}.")
    return math.ceil(latency_s * control_hz - 1e-9)  # 0.14 s x 50 Hz is 7.000000000000001 in floats, and 7 steps


def blend_weights(schedule: str, overlap: int, ema_alpha: float = EMA_ALPHA) -> np.ndarray:
    """Weight (overlap,) of the new chunk at each step that both chunks have, in [0, 1] and never falling.

    With c falling evenly between 1 (the last step before the overlap) and 0 (the first after it):
    "linear" gives the old chunk c; "exp" gives it c (e^c - 1) / (e - 1), which hands over sooner (the soft mask of
    Real-Time Chunking, arXiv 2506.07339); "ema" is the paper's eq. 20, ema_alpha throughout; "latest" is 1 throughout.
    The first two meet both neighbours without a jump; the last two change at once.
    """
    if overlap < 0:
        raise ValueError(f"blend_weights wants an overlap of 0 steps or more, got {overlap}.")
    if schedule not in BLEND_SCHEDULES:
        raise nearest("blend schedule", schedule, BLEND_SCHEDULES)
    if schedule in ("ema", "latest"):
        return np.full(overlap, ema_alpha if schedule == "ema" else 1.0)
    old = 1.0 - np.arange(1, overlap + 1) / (overlap + 1)
    return 1.0 - (old if schedule == "linear" else old * np.expm1(old) / math.expm1(1.0))


def merge_chunk(plan: np.ndarray | None, chunk: np.ndarray, stale: int, config: ChunkingConfig) -> np.ndarray:
    """What to do from now on, (B, T - stale or more, A).

    Args:
        plan: (B, N, A) what is left of the old chunk, its first step the next one to be sent; None for nothing.
        chunk: (B, T, A) the new chunk; its step 0 belongs to the observation that it answers.
        stale: steps sent since that observation, 0 <= stale < T.
        config: the schedule.

    Returns:
        The blend where both have a step, then the rest of the new chunk. Where the old one reaches further, it is cut
        off: its end is a guess about the same future from an older look.

    Raises:
        ValueError: shapes that do not go together, or a chunk that is stale from end to end.
    """
    chunk = np.asarray(chunk)
    if chunk.ndim != 3 or not 0 <= stale < chunk.shape[1]:
        raise ValueError(
            f"merge_chunk wants a chunk (B, T, A) with 0 <= stale < T, got {chunk.shape} and stale {stale}. "
            "A chunk that took longer than it lasts holds nothing to do: ask for another, or shorten the latency."
        )
    merged = np.array(chunk[:, stale:])
    if plan is None or plan.shape[1] == 0:
        return merged
    if plan.shape[0] != chunk.shape[0] or plan.shape[2] != chunk.shape[2]:
        raise ValueError(f"The plan {plan.shape} and the chunk {chunk.shape} differ in robots or in action width.")
    overlap = min(plan.shape[1], merged.shape[1])
    weight = blend_weights(config.blend_schedule, overlap, config.ema_alpha)[:, None].astype(merged.dtype)
    merged[:, :overlap] = weight * merged[:, :overlap] + (1.0 - weight) * plan[:, :overlap]
    return merged


class RealTimeChunker:
    """The plan of B robots in step with each other: one action per control step out, a chunk now and then in.

    Use, at each control step: if `due`, take an observation, call `request()` and have its chunk computed elsewhere;
    when that chunk is there, hand it to `add`; send `next_action()`.

    Attributes:
        starved_steps: how often the last action was repeated because the plan had run out.
        dropped_chunks: how many chunks came too late to hold anything new.
    """

    def __init__(self, config: ChunkingConfig | None = None) -> None:
        self.config = config or ChunkingConfig()
        self.reset()

    def reset(self) -> None:
        """Forget the plan, the open request and the counts."""
        self._plan: np.ndarray | None = None
        self._last: np.ndarray | None = None
        self._since_request: int | None = None  # steps sent since the last request, open or answered
        self._waiting = False
        self.starved_steps = self.dropped_chunks = 0

    @property
    def remaining(self) -> int:
        """Steps left in the plan."""
        return 0 if self._plan is None else self._plan.shape[1]

    @property
    def due(self) -> bool:
        """True when it is time for a new chunk: none is on its way, and the horizon is over or the plan is empty."""
        if self._waiting:
            return False
        since = self._since_request
        return since is None or since >= self.config.execution_horizon or self.remaining == 0

    def request(self) -> None:
        """An observation was taken now: step 0 of its chunk is the next action. RuntimeError if a request is open."""
        if self._waiting:
            raise RuntimeError("A chunk is on its way already: add it before the next request, or reset.")
        self._waiting, self._since_request = True, 0

    def add(self, chunk: np.ndarray) -> int:
        """Take in the chunk (B, T, A) of the open request; return how many of its steps were stale.

        A chunk that is stale from end to end is dropped and counted: the plan goes on, and `due` asks for another.
        Raises RuntimeError without a request, ValueError for a shape that does not fit.
        """
        if not self._waiting or self._since_request is None:
            raise RuntimeError("This chunk answers no request. Call request() when its observation is taken.")
        stale = self._since_request
        if np.ndim(chunk) == 3 and stale >= np.shape(chunk)[1]:
            self.dropped_chunks += 1
        else:
            self._plan = merge_chunk(self._plan, chunk, stale, self.config)
        self._waiting = False
        return stale

    def next_action(self) -> np.ndarray:
        """The action (B, A) of this step; the last one again once the plan has run out. ValueError before a chunk."""
        if self._plan is None or self._plan.shape[1] == 0:
            if self._last is None:
                raise ValueError("There is no chunk yet: request() and add() one before the first action.")
            self.starved_steps += 1
        else:
            self._last, self._plan = self._plan[:, 0].copy(), self._plan[:, 1:]
        if self._since_request is not None:
            self._since_request += 1
        return self._last.copy()

    def _arrays(self) -> dict[str, np.ndarray | None]:
        return {"plan": self._plan, "last": self._last}

    def get_state(self) -> dict[str, Any]:
        """Everything but the config."""
        arrays = {name: None if value is None else value.copy() for name, value in self._arrays().items()}
        counts = {"starved_steps": self.starved_steps, "dropped_chunks": self.dropped_chunks}
        return arrays | counts | {"since_request": self._since_request, "waiting": self._waiting}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._plan, self._last = (None if state[name] is None else state[name].copy() for name in ("plan", "last"))
        self.starved_steps, self.dropped_chunks = state["starved_steps"], state["dropped_chunks"]
        self._since_request, self._waiting = state["since_request"], state["waiting"]

"""The tasks of the forgetting benchmark: how long their episodes are, which arms they have, and what acts in them.

reach and wave are done by the arms: a NeonVLA's heads learn. In stand and walk the walker does the work, and a residual
on its targets learns (`neon_sim.training.residual_learner`); the frozen policy is the walker alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from neon_sim.cells import LASTING
from neon_sim.names import nearest


@dataclass(frozen=True)
class Subject:
    """How a task is lived and judged."""

    steps: int  # control steps of an episode of the life
    options: Mapping[str, Any] = field(default_factory=dict)  # of the env, beside those that all tasks share
    legs: bool = False  # whether a residual on the walker learns, not a NeonVLA's heads
    lasts: bool = False  # whether success is being there at the end; else an episode ends with it
    per_cell: int = 0  # episodes of a cell, all seeds together, where more would take too long; 0 = the preset's
    window: int = 20  # episodes that a recovery is judged on
    lacking: tuple[str, ...] = ()  # arms that cannot be had
    practice_m: float = 0.04  # spread of the goals that the arms practise


# Of the gestures those of one hand: a goal token names a hand and the place of its palm. A waving hand needs 180 steps
# to get there and swing four times. A walk is judged from its second 2 to 6, which are 300 steps.
_GESTURES: Final = ("wave", "raise", "offer", "salute")
_ON_LEGS: Final[dict[str, Any]] = {
    "options": {"max_steps": 320},
    "legs": True,
    "lasts": True,
    "per_cell": 100,
    # A residual has no forward model whose error would tell, and no expert makes up for a fault of the legs.
    "lacking": ("by_itself", "replay_by_itself", "oracle"),
}
SUBJECTS: Final[dict[str, Subject]] = {
    "reach": Subject(steps=96),
    "wave": Subject(
        steps=192,
        options={"task_options": {"gestures": _GESTURES}},
        per_cell=100,
        window=12,
        practice_m=0.02,  # a gesture must come within 8 cm of its place all the same
    ),
    "stand": Subject(steps=320, window=6, **_ON_LEGS),
    "walk": Subject(steps=320, window=6, **_ON_LEGS),
}
assert all(subject.lasts == (task in LASTING) for task, subject in SUBJECTS.items())


def subject_of(task: str) -> Subject:
    """How a task is lived.

    Raises:
        ValueError: no such task.
    """
    if task not in SUBJECTS:
        raise nearest("task of the forgetting benchmark", task, SUBJECTS)
    return SUBJECTS[task]

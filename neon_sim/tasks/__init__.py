"""Tasks by name. A new task is one new file and one line here."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from neon_sim.names import nearest
from neon_sim.tasks.follow_voice import FollowVoiceTask
from neon_sim.tasks.lift_box import LiftBoxTask
from neon_sim.tasks.look_at import LookAtTask
from neon_sim.tasks.navigate import NavigateTask
from neon_sim.tasks.press import PressTask
from neon_sim.tasks.push_box import PushBoxTask
from neon_sim.tasks.reach import ReachTask
from neon_sim.tasks.stand import StandTask
from neon_sim.tasks.task import Task
from neon_sim.tasks.track import TrackTask
from neon_sim.tasks.walk import WalkTask
from neon_sim.tasks.wave import WaveTask

TASKS: dict[str, type[Task]] = {
    "stand": StandTask,
    "reach": ReachTask,
    "walk": WalkTask,
    "wave": WaveTask,
    "track": TrackTask,
    "press": PressTask,
    "look_at": LookAtTask,
    "follow_voice": FollowVoiceTask,
    "navigate": NavigateTask,
    "lift_box": LiftBoxTask,
    "push_box": PushBoxTask,
}

__all__ = [
    "TASKS",
    "FollowVoiceTask",
    "LiftBoxTask",
    "LookAtTask",
    "NavigateTask",
    "PressTask",
    "PushBoxTask",
    "ReachTask",
    "StandTask",
    "Task",
    "TrackTask",
    "WalkTask",
    "WaveTask",
    "make_task",
]


def make_task(name: str, options: Mapping[str, Any] | None = None) -> Task:
    """Build the named task.

    Args:
        name: one of `TASKS`.
        options: fields of the task's config by name, such as {"wording": "test", "objects": "test"} for what is held
            out in training; the rest keep their defaults.

    Raises:
        ValueError: no such task, option or value, naming the nearest valid one.
    """
    if name not in TASKS:
        raise nearest("task", name, TASKS)
    task = TASKS[name]()
    if not options:
        return task
    known = [field.name for field in fields(task.config)]
    for option in options:
        if option not in known:
            raise nearest(f"option of task {name!r}", option, known)
    return TASKS[name](replace(task.config, **options))

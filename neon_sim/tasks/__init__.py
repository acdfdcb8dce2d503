"""Tasks by name. A new task is one new file and one line here."""

from neon_sim.names import nearest
from neon_sim.tasks.reach import ReachTask
from neon_sim.tasks.stand import StandTask
from neon_sim.tasks.task import Task
from neon_sim.tasks.walk import WalkTask

TASKS: dict[str, type[Task]] = {"stand": StandTask, "reach": ReachTask, "walk": WalkTask}

__all__ = ["TASKS", "ReachTask", "StandTask", "Task", "WalkTask", "make_task"]


def make_task(name: str) -> Task:
    """Build the named task with its defaults.

    Raises:
        ValueError: naming the nearest valid task.
    """
    if name not in TASKS:
        raise nearest("task", name, TASKS)
    return TASKS[name]()

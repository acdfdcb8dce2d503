"""The tasks as a Markdown table, out of their docstrings and of one episode each: what docs/tasks.md holds."""

import sys
from typing import Any

import gymnasium

from neon_sim.cells import TASKS

_SUCCESS = ("Success: ", "Success is to be ")
_CONTROL_HZ = 50  # of NeonG1-v0
_SEED = 0  # of the episode whose instruction is shown


def task_table() -> str:
    """One row a task: what it is, when it is done, the longest episode in s, and an instruction that it gives."""
    lines = ["| task | what it is | done when | s | for example |", "|---|---|---|---|---|"]
    for name in TASKS:
        env: Any = gymnasium.make("NeonG1-v0", task=name, sensors=(), disable_env_checker=True).unwrapped
        _, info = env.reset(seed=_SEED)
        cells = (f"`{name}`", _what(env.task), _success(env.task), f"{env.task.max_steps / _CONTROL_HZ:g}")
        lines.append(f'| {" | ".join(cells)} | "{info["instruction"]}" |')
        env.close()
    return "\n".join(lines) + "\n"


def _what(task: Any) -> str:
    """The first line of the task's module, without the name that it begins with."""
    return _first_line(sys.modules[type(task).__module__]).removeprefix(f"{task.name}: ")


def _success(task: Any) -> str:
    """The first line of the task's class, without the word that it begins with."""
    line = _first_line(type(task))
    for start in _SUCCESS:
        line = line.removeprefix(start)
    return line


def _first_line(thing: Any) -> str:
    return str(thing.__doc__).strip().splitlines()[0].removesuffix(".")

"""When physics diverges: MuJoCo warns, resets its data and goes on, and whoever steps it has to notice."""

from typing import Any


def started_over(before_s: Any, after_s: Any, step_s: float) -> Any:
    """Whether one step of `step_s` did not lead from `before_s` on by about as much: then the data was reset within it.

    Of simulated times, plain or arrays of them. The clock is the one thing that no reset leaves where it was.
    """
    return after_s < before_s + 0.5 * step_s

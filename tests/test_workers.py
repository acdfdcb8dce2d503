"""Work in several processes: in order, and a worker that is lost is noticed."""

import os
import signal

import pytest

from neon_sim.training.workers import parallel_map


def square(number: int) -> int:
    return number * number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory ends
    return number


def test_results_come_in_order_from_any_number_of_workers() -> None:
    assert list(parallel_map(square, range(6), 1, "alone")) == list(parallel_map(square, range(6), 2, "two"))


def test_a_worker_that_was_killed_is_said() -> None:
    with pytest.raises(ChildProcessError, match="A worker ended with -9 before its work was done"):
        list(parallel_map(die_at_three, range(6), 2, "dying"))

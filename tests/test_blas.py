"""Products of matrices keep to one thread where physics threads want the cores, and nowhere else."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from neon_sim.blas import one_blas_thread
from neon_sim.env import NeonG1Env
from neon_sim.vector_env import NeonG1VectorEnv


def threads_of_numpy() -> int:
    """What a product would take now."""
    counts = {library.num_threads for library in ThreadpoolController().select(user_api="blas").lib_controllers}
    if not counts:
        pytest.skip("numpy's BLAS is none that can be told")
    return max(counts)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As on a user's machine; the suite itself runs with one."""
    with threadpool_limits(2, user_api="blas"):
        assert threads_of_numpy() == 2
        yield


def watched(method: Callable[..., Any], seen: list[int]) -> Callable[..., Any]:
    """The method, which notes how many threads a product would have taken when it was called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        seen.append(threads_of_numpy())
        return method(*args, **kwargs)

    return call


def test_within_it_is_one_and_then_what_it_was() -> None:
    with one_blas_thread():
        assert threads_of_numpy() == 1
    assert threads_of_numpy() == 2


def test_an_error_gives_the_threads_back() -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        1 / 0  # noqa: B018
    assert threads_of_numpy() == 2


def test_two_threads_that_overlap_leave_what_was_set() -> None:
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def second() -> None:
        first_is_in.wait(10)
        with one_blas_thread():
            second_is_in.set()
            first_is_out.wait(10)

    other = threading.Thread(target=second)
    other.start()
    with one_blas_thread():
        first_is_in.set()
        assert second_is_in.wait(10)
    first_is_out.set()
    other.join()
    assert threads_of_numpy() == 2


def test_within_itself_it_changes_nothing() -> None:
    with one_blas_thread():
        with one_blas_thread():
            assert threads_of_numpy() == 1
        assert threads_of_numpy() == 1
    assert threads_of_numpy() == 2


def test_a_reset_keeps_to_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    env, seen = NeonG1Env(sensors=("proprio", "audio")), []
    monkeypatch.setattr(env.task, "reset", watched(env.task.reset, seen))
    env.reset(seed=0)
    env.close()
    assert seen == [1] and threads_of_numpy() == 2


def test_so_do_the_steps_of_many_envs(monkeypatch: pytest.MonkeyPatch) -> None:
    envs, seen = NeonG1VectorEnv(2, threads=2, sensors=("proprio",)), []
    monkeypatch.setattr(envs._fleet, "step", watched(envs._fleet.step, seen))
    envs.reset(seed=0)
    assert threads_of_numpy() == 2
    envs.step(np.zeros(envs.action_space.shape, np.float32))
    envs.close()
    assert seen == [1] and threads_of_numpy() == 2

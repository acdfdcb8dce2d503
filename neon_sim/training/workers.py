"""Running the same work in several processes, with a progress bar."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from tqdm import tqdm

_CHECK_EVERY_S: Final = 2.0  # whether all workers are still there
Item = TypeVar("Item")
Result = TypeVar("Result")


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def single_threaded() -> None:
    """Keep numerical libraries in a worker from taking all cores; call before torch is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"


def parallel_map(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    label: str,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Yield `work(item)` in order, from `workers` spawned processes (GL contexts do not survive a fork).

    Raises ChildProcessError if a worker ends before its work does, as one that is killed for memory does.
    """
    jobs = list(items)
    if workers <= 1:
        if initializer is not None:
            initializer(*initargs)
        yield from tqdm(map(work, jobs), total=len(jobs), desc=label)
        return
    context = multiprocessing.get_context("spawn")
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    single_threaded()  # inherited by the workers
    try:
        others = set(multiprocessing.active_children())
        pool = context.Pool(workers, initializer, initargs)
        crew = set(multiprocessing.active_children()) - others
        try:
            yield from tqdm(_results(pool.imap(work, jobs), crew), total=len(jobs), desc=label)
            pool.close()  # workers that are let go by themselves give back what they hold
            pool.join()
        finally:
            pool.terminate()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _results(results: Any, crew: set[multiprocessing.process.BaseProcess]) -> Iterator[Any]:
    """What a pool's iterator gives. A pool waits for ever for the result of a worker that was killed; this does not."""
    while True:
        try:
            yield results.next(timeout=_CHECK_EVERY_S)
        except StopIteration:
            return
        except multiprocessing.TimeoutError:
            lost = [worker for worker in crew if worker.exitcode is not None]
            if lost:
                raise ChildProcessError(
                    f"A worker ended with {lost[0].exitcode} before its work was done; a lack of memory looks like -9. "
                    "Take fewer --workers; the same line goes on with what is finished."
                ) from None

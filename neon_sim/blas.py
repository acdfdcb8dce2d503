"""BLAS on the thread that asks.

OpenBLAS gives a product of some 100,000 multiplications to all cores, and its threads then spin for tens of
milliseconds, waiting for the next one. An env's products gain nothing from that, and threads that step physics lose a
core to it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

_WITHIN: Final = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Products of matrices within take one thread (15 us for the switch); also a decorator.

    What the process had set before holds again afterwards. The setting is the whole process's: whoever comes while
    somebody is within, in the same thread or another, leaves it to the first one, or two would put back each other's.
    Accelerate, numpy's BLAS on some Macs, has no such switch and goes on as it likes.
    """
    if not _WITHIN.acquire(blocking=False):
        yield
        return
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        _WITHIN.release()


@cache
def _libraries() -> Any:
    """Those that are loaded when an env first asks: numpy's, and scipy's."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

"""Ctrl-C or SIGTERM between two steps instead of within one: what is saved then is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether somebody pressed Ctrl-C, or a job scheduler asked for the end."""

    asked = False


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Within the block the first Ctrl-C, and the first SIGTERM, only sets `asked`; the second acts as usual.

    SIGTERM is how torchrun, Slurm and containers end a process; some send it after a Ctrl-C that was seen already.
    Outside the main thread, which alone gets signals, nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.asked = True
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""The simulated robot as a process of its own, for tests that talk with it over DDS on loopback."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from os import getpid
from typing import Any

DOMAINS = count(100 + getpid() % 60 * 2)  # of this process's own: other processes' tests do not hear them


class BridgeProcess:
    """`python -m neon_sim.real.bridge` with its arguments, on a domain of its own.

    Attributes:
        domain: of DDS. events: what it said, oldest first.
    """

    def __init__(self, *arguments: str) -> None:
        self.domain = next(DOMAINS)
        command = [sys.executable, "-m", "neon_sim.real.bridge", "--domain", str(self.domain), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events: list[dict[str, Any]] = []
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline())["event"] == "ready"
        self._ears = threading.Thread(target=self._hear)
        self._ears.start()

    def tell(self, **order: Any) -> None:
        """Give one order, such as faults={"bad_crc": True}."""
        assert self.process.stdin is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()
        self._ears.join()

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [event for event in self.events if event["event"] == name]

    def _hear(self) -> None:
        assert self.process.stdout is not None
        self.events.extend(json.loads(line) for line in self.process.stdout)


@contextmanager
def bridge_process(*arguments: str) -> Iterator[BridgeProcess]:
    """Run one while this lasts."""
    bridge = BridgeProcess(*arguments)
    try:
        yield bridge
    finally:
        bridge.kill()

"""The simulated robot as a process of its own, for tests that talk with it over DDS on loopback.

Tests run on machines where one of two processes may wait for seconds: nothing here or in the tests that use it takes a
time for granted. What is to happen is waited for, up to `PATIENT_S`; times are judged in slow tests only.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

PATIENT_S: Final = 60.0  # how long something that is bound to happen may take
_HELD: Final[list[socket.socket]] = []  # until this process ends


def free_domains() -> Iterator[int]:
    """DDS domains that no other test process of this machine has: each is held by a port of its number."""
    for domain in (*range(2, 60), *range(110, 220)):  # 60 to 69 are the benchmarks', 97 to 99 those of whole runs
        guard = socket.socket()
        try:
            guard.bind(("127.0.0.1", 17_000 + domain))
        except OSError:
            guard.close()
            continue
        _HELD.append(guard)
        yield domain


DOMAINS: Final = free_domains()


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody has now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def wait_until(condition: Callable[[], Any], timeout_s: float = PATIENT_S) -> None:
    """Wait until `condition()` is true.

    Raises:
        AssertionError: it did not become true in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"it did not happen in {timeout_s:g} s"
        time.sleep(0.002)


class BridgeProcess:
    """`python -m neon_sim.real.bridge` with its arguments, on a domain of its own.

    Attributes:
        domain: of DDS. ready: its first words. events: what it said since, oldest first.
    """

    def __init__(self, *arguments: str) -> None:
        self.domain = next(DOMAINS)
        command = [sys.executable, "-m", "neon_sim.real.bridge", "--domain", str(self.domain), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events: list[dict[str, Any]] = []
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert self.ready["event"] == "ready"
        self._ears = threading.Thread(target=self._hear)
        self._ears.start()

    def tell(self, **order: Any) -> None:
        """Give one order, such as faults={"bad_crc": True}."""
        assert self.process.stdin is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)

    def stop(self) -> int:
        """End it as a person would; its exit status."""
        self.process.terminate()
        status = self.process.wait(PATIENT_S)
        self._ears.join()
        return status

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()
        self._ears.join()

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [event for event in list(self.events) if event["event"] == name]

    def event(self, name: str, after_s: float = 0.0) -> dict[str, Any]:
        """The first event of one name whose `at_s`, if it has one, is later than that; waited for."""

        def there() -> list[dict[str, Any]]:
            return [event for event in self.named(name) if event.get("at_s", float("inf")) > after_s]

        wait_until(there)
        return there()[0]

    def silenced(self) -> dict[str, Any]:
        """Wait until it hears no commands; the watchdog's newest event, which may be older than the call: on a busy
        machine whoever commands may have been silent for a moment before it was silenced.
        """

        def turns() -> list[dict[str, Any]]:
            return [event for event in list(self.events) if event["event"] in ("watchdog", "commands_again")]

        wait_until(lambda: (heard := turns()) and heard[-1]["event"] == "watchdog")
        return self.named("watchdog")[-1]

    def _hear(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))


@contextmanager
def bridge_process(*arguments: str) -> Iterator[BridgeProcess]:
    """Run one while this lasts."""
    bridge = BridgeProcess(*arguments)
    try:
        yield bridge
    finally:
        bridge.kill()

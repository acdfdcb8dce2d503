"""The bridge as a process: prints its events, takes orders for tests and demonstrations, one JSON object a line each.

python -m neon_sim.real.bridge --domain 1 --lock-step

Orders: {"faults": {"bad_crc": true}}  {"press": {"buttons": ["L2", "R2"]}}  {"hang": false}  {"lateness": true}
"""

import argparse
import gc
import json
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from neon_sim.names import nearest
from neon_sim.real.bridge.bridge import Bridge
from neon_sim.real.bridge.config import SENSES, STARTS, TICK_S, BridgeConfig
from neon_sim.real.bridge.faults import WireFaults
from neon_sim.real.bridge.gamepad import Gamepad


def parse(arguments: list[str] | None = None) -> BridgeConfig:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m neon_sim.real.bridge", description=__doc__.split("\n")[0])
    parser.add_argument("--domain", type=int, default=1)
    parser.add_argument("--interface", default="lo")
    parser.add_argument("--allow-network", action="store_true", help="other machines may hear and move this robot")
    parser.add_argument("--lock-step", action="store_true", help="time passes with commands, not with the clock")
    parser.add_argument("--lock-step-s", type=float, default=TICK_S, help="simulated time per command, s")
    parser.add_argument("--physics-dt", type=float, default=TICK_S)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", default="stand", help="whose objects stand around")
    parser.add_argument("--start", choices=STARTS, default="walking")
    parser.add_argument("--gantry", action="store_true", help="begin hanging by the pelvis")
    parser.add_argument("--senses", nargs="*", choices=SENSES, default=[])
    parser.add_argument("--camera-port", type=int, default=BridgeConfig.camera_port, help="TCP")
    parser.add_argument("--microphone-port", type=int, default=BridgeConfig.microphone_port, help="UDP multicast")
    given = parser.parse_args(arguments)
    return BridgeConfig(
        domain=given.domain,
        interface=given.interface,
        allow_network=given.allow_network,
        mode="lock_step" if given.lock_step else "real_time",
        lock_step_s=given.lock_step_s,
        physics_dt=given.physics_dt,
        seed=given.seed,
        task=given.task,
        start=given.start,
        gantry=given.gantry,
        senses=tuple(given.senses),
        camera_port=given.camera_port,
        microphone_port=given.microphone_port,
    )


def obey(bridge: Bridge, line: str) -> None:
    """Carry out one line of orders.

    Raises:
        ValueError: no JSON object, or an order that is not known.
    """
    orders: dict[str, Callable[[Any], Any]] = {
        "faults": lambda value: bridge.inject(WireFaults(**value)),
        "press": lambda value: bridge.press(Gamepad(**value | {"buttons": tuple(value.get("buttons", ()))})),
        "hang": bridge.hang,
        "lateness": lambda value: say("lateness", **asdict(bridge.lateness())),
    }
    given = json.loads(line)
    if not isinstance(given, dict):
        raise ValueError(f"An order is a JSON object, got {line.strip()!r}.")
    for name, value in given.items():
        if name not in orders:
            raise nearest("order", name, orders)
        orders[name](value)


def say(name: str, **details: Any) -> None:
    """Print one event as a line of JSON."""
    print(json.dumps({"event": name, **details}), flush=True)


def listen(bridge: Bridge) -> None:
    """Obey lines from standard input until it ends; a wrong one is answered and does no harm."""
    for line in sys.stdin:
        try:
            obey(bridge, line)
        except (ValueError, TypeError) as error:
            say("not_understood", why=str(error))


def main() -> None:
    """Run until interrupted or terminated."""
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with Bridge(parse()) as bridge:
        threading.Thread(target=listen, args=(bridge,), daemon=True).start()
        gc.freeze()  # nothing that was loaded is looked through again
        say("ready", domain=bridge.config.domain, mode=bridge.config.mode)
        while not stop.is_set():
            bridge.step()
            while bridge.events:
                event = bridge.events.popleft()
                say(event.name, time_s=event.time_s, at_s=event.at_s, **event.details)
        say("lateness", **asdict(bridge.lateness()))


if __name__ == "__main__":
    main()

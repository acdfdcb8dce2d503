"""Who is killed and what is cut off: the part of `dds_loop.py` in which processes and the network go away.

    python benchmarks/dds_cuts.py --domain 65 --repeats 2     # prints JSON; switches `lo` off: in a namespace only

Everything happens at a real robot's own limit on the age of a state, between processes that share one clock.
"""

# mypy: disable-error-code="import-not-found"
# (real/ is neon_sim.real only when installed, and mypy looks in neon_sim/)
import argparse
import fcntl
import json
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from dds_stops import AGE_S, ANSWER_S, GANTRY, PATIENT_S, arm, config_for
from dds_wire import SimulatedRobot

from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.rpc_errors import RpcError
from neon_sim.real.safety_log import read_events
from neon_sim.real.safety_stop import Phase
from neon_sim.real.sport import Fsm, SportClient
from neon_sim.real.transport import Link, LinkConfig

UNSHARE = ("unshare", "--map-root-user", "--net")
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h
HOT_C = 130  # of a winding: a fault from its first state on
STANDS_S = 2.2  # the simulated robot takes 2 s to its feet


def link_cuts(domain: int, repeats: int) -> list[float]:
    """From the death of the control process (kill -9) to the simulated robot's own damping, ms each."""
    cuts = []
    with closing(SimulatedRobot(domain, *GANTRY)) as robot:
        for _ in range(repeats):
            with closing(UnitreeRobot(config_for(domain, PATIENT_S))) as client:
                arm(client)
                killed_s = time.monotonic()
                client._client.process.kill()
                client._client.process.wait()
                cuts.append(1e3 * (robot.told_s("watchdog", killed_s) - killed_s))
    return cuts


def robot_kills(domain: int, repeats: int, age_s: float) -> list[float]:
    """From the death of the simulated robot (kill -9) to the control's damping, ms each: a state that grows old."""
    took: list[float] = []
    while len(took) < repeats:
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(SimulatedRobot(domain, *GANTRY)) as robot,
            closing(UnitreeRobot(config_for(domain, age_s, Path(folder)))) as client,
        ):
            arm(client)
            killed_s = time.monotonic()
            robot.process.kill()
            damped_s = damped_after(Path(folder), killed_s)
            took += [] if damped_s is None else [1e3 * (damped_s - killed_s)]
    return took


def damped_after(log: Path, after_s: float) -> float | None:
    """When the control began to damp by its own log; None: it did not, because the machine had stopped it before."""
    deadline_s = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline_s:
        events = read_events(log / "stops.jsonl")
        times = [e["time_s"] for e in events if e.get("phase") == "damping" and e["time_s"] > after_s]
        if times:
            return float(times[0])
        time.sleep(0.01)
    return None


def network_cuts(domain: int, repeats: int, age_s: float) -> dict[str, Any]:
    """`cuts_here` in a network namespace of its own; {"not_measured": why} where this machine permits none."""
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return {"not_measured": (getattr(error, "stderr", "") or str(error)).strip()}
    asked = ["--domain", str(domain), "--repeats", str(repeats), "--age-s", str(age_s)]
    ran = subprocess.run([*UNSHARE, sys.executable, __file__, *asked], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def cuts_here(domain: int, repeats: int, age_s: float) -> dict[str, list[float]]:
    """Switch this namespace's only interface off under a running robot, and on again.

    Returns:
        ms from the cut to damping, of each cut: "control_ms" by the control process, "robot_ms" by the robot itself.
    """
    switch_loopback(True)
    found: dict[str, list[float]] = {"control_ms": [], "robot_ms": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SimulatedRobot(domain, *GANTRY)) as robot,
        closing(UnitreeRobot(config_for(domain, age_s, Path(folder)))) as client,
    ):
        while len(found["control_ms"]) < repeats:
            arm(client)
            cut_s = time.monotonic()
            switch_loopback(False)
            damped_s = damped_after(Path(folder), cut_s)
            bitten_s = robot.told_s("watchdog", cut_s)
            switch_loopback(True)
            time.sleep(0.5)
            if damped_s is not None:
                found["control_ms"].append(1e3 * (damped_s - cut_s))
                found["robot_ms"].append(1e3 * (bitten_s - cut_s))
    return found


def switch_loopback(on: bool) -> None:
    """Switch `lo` of this process's own namespace on or off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP if on else 0))


def high_level_stops(domain: int, repeats: int, age_s: float) -> list[float]:
    """From the first hot winding to the robot's own controller in damping, ms each, on the path `high_level`.

    Both times are the simulated robot's: its next state is the first that shows the fault, up to 2 ms later.
    """
    config = config_for(domain, age_s)
    config = replace(config, control=replace(config.control, path="high_level"))
    took: list[float] = []
    with (
        closing(SimulatedRobot(domain, "--gantry")) as robot,
        Link(LinkConfig(domain)) as link,
        closing(UnitreeRobot(config)) as client,
    ):
        sport = SportClient(link, ANSWER_S)
        while len(took) < repeats:
            arm(client, prepare=lambda: stand_up(sport))
            begin_s = time.monotonic()
            robot.order(faults={"winding_c": HOT_C})
            hot_s = robot.told_s("faults", begin_s)
            if why_it_damps(client).startswith("winding"):  # else the machine had stopped it before
                took.append(1e3 * (robot.told_s("fsm", hot_s, fsm="damp") - hot_s))
            robot.order(faults={})
    return took


def why_it_damps(client: UnitreeRobot) -> str:
    """The first reason of a control that is bound to damp; waited for.

    Raises:
        TimeoutError: it does not damp.
    """
    deadline_s = time.monotonic() + ANSWER_S
    while client.phase is not Phase.DAMPING:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"A state that is at fault was not answered in {ANSWER_S:g} s.")
        time.sleep(0.002)
    return client.reasons[0]


def stand_up(sport: SportClient) -> None:
    """What a person does with the remote control, if the robot is not on its feet."""
    while sport.fsm_id() != Fsm.WALK:
        try:
            sport.set_fsm_id(Fsm.STAND_UP)
            time.sleep(STANDS_S)
            sport.set_fsm_id(Fsm.WALK)
        except RpcError:  # still on its way, or damped once more by a stop that was on its way too
            time.sleep(0.1)


def main() -> None:
    """What runs in the namespace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", type=int, required=True)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--age-s", type=float, default=AGE_S)
    args = parser.parse_args()
    print(json.dumps(cuts_here(args.domain, args.repeats, args.age_s)))


if __name__ == "__main__":
    main()

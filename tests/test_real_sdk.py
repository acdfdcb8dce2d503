"""Unitree's own Python SDK against the simulated robot, where it is installed: each client in a process of its own.

docs/deployment.md says how to install it. Without it only the last tests run.
"""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from bridge_process import PATIENT_S, bridge_process, wait_until

from neon_sim.g1 import joints
from neon_sim.real.codec import layout
from neon_sim.real.idl import unitree_go, unitree_hg
from neon_sim.real.sdk_peer import have_sdk
from neon_sim.real.sport import Fsm, SportClient
from neon_sim.real.transport import Link, LinkConfig

with_sdk = pytest.mark.skipif(not have_sdk(), reason="unitree_sdk2py is not installed")
OPENED = """
    import json, sys, time
    from neon_sim.real import sdk_peer
    from neon_sim.real.transport import LinkConfig
    sdk_peer.open_sdk(LinkConfig(domain=int(sys.argv[1])))
"""


@contextmanager
def program(code: str, domain: int) -> Iterator["subprocess.Popen[str]"]:
    """A Python program on a domain; ended with the block."""
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(domain)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answer(process: "subprocess.Popen[str]") -> dict[str, object]:
    """Its next line of JSON; the SDK prints lines of its own."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise AssertionError("The program ended before it answered.")


MOVES = (
    OPENED
    + """
    switcher, loco = sdk_peer.sdk_client("motion_switcher", 30.0), sdk_peer.sdk_client("sport", 30.0)
    code, mode = switcher.CheckMode()
    print(json.dumps({"code": code, "mode": mode}), flush=True)
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        loco.Move(0.3, 0.0, 0.0)
        time.sleep(0.1)
    loco.Damp()
    print(json.dumps({"damped": True}), flush=True)
"""
)


@with_sdk
def test_its_clients_ask_for_the_mode_walk_and_damp():
    with bridge_process() as bridge, Link(LinkConfig(bridge.domain)) as link, program(MOVES, bridge.domain) as client:
        odometry = link.reader("rt/odommodestate", unitree_go.SportModeState)
        assert answer(client) == {"code": 0, "mode": {"form": "0", "name": "ai"}}
        assert answer(client) == {"damped": True}
        assert SportClient(link, PATIENT_S).fsm_id() == Fsm.DAMP
        assert odometry.wait(PATIENT_S)
        assert layout(unitree_go.SportModeState).decode(odometry.newest())["position"][0] > 0.2


LOW_LEVEL = (
    OPENED
    + """
    from unitree_sdk2py.core.channel import ChannelPublisher, ChannelSubscriber
    from unitree_sdk2py.idl.default import unitree_hg_msg_dds__LowCmd_
    from unitree_sdk2py.idl.unitree_hg.msg.dds_ import LowCmd_, LowState_
    from unitree_sdk2py.utils.crc import CRC
    newest = []
    states, commands = ChannelSubscriber("rt/lowstate", LowState_), ChannelPublisher("rt/lowcmd", LowCmd_)
    states.Init(lambda state: newest.__setitem__(slice(None), [state]), 10)
    commands.Init()
    end = time.monotonic() + 60.0
    while not newest and time.monotonic() < end:
        time.sleep(0.01)
    crc, command = CRC(), unitree_hg_msg_dds__LowCmd_()
    start = newest[0]
    command.mode_machine = start.mode_machine
    for number in range(29):
        motor = command.motor_cmd[number]
        motor.mode, motor.q, motor.kp, motor.kd = 1, start.motor_state[number].q, 60.0, 1.0
    command.motor_cmd[18].q = 0.5
    seen = crc.Crc(start) == start.crc
    print(json.dumps({"machine": start.mode_machine, "crc": seen, "tick": start.tick}), flush=True)
    while True:
        command.crc = crc.Crc(command)
        commands.Write(command)
        time.sleep(0.01)
"""
)


@with_sdk
def test_its_states_and_commands_are_ours():
    """It reads a LowState, finds its checksum right, and holds the elbow at 0.5 rad."""
    with (
        bridge_process("--start", "released", "--gantry") as bridge,
        Link(LinkConfig(bridge.domain)) as link,
        program(LOW_LEVEL, bridge.domain) as client,
    ):
        first = answer(client)
        assert first["machine"] == 5 and first["crc"] is True and isinstance(first["tick"], int) and first["tick"] > 0
        states = link.reader("rt/lowstate", unitree_hg.LowState)

        def elbow() -> float:
            states.wait(PATIENT_S)
            sample = states.newest()
            return (
                np.inf if sample is None else float(layout(unitree_hg.LowState).decode(sample)["motor_state"]["q"][18])
            )

        wait_until(lambda: abs(elbow() - 0.5) < 0.1)
        assert abs(joints.HOME[18] - 0.5) > 0.3 and not bridge.named("refuses")


DEAF = """
    import json, sys, time
    from unitree_sdk2py.core.channel import ChannelFactoryInitialize, ChannelSubscriber
    from unitree_sdk2py.idl.unitree_hg.msg.dds_ import LowState_
    ChannelFactoryInitialize(int(sys.argv[1]), "lo")
    states = ChannelSubscriber("rt/lowstate", LowState_)
    states.Init()
    print(json.dumps({"heard": sum(states.Read(0.5) is not None for _ in range(6))}), flush=True)
"""


@with_sdk
def test_an_sdk_on_this_cyclonedds_that_is_opened_in_another_way_hears_nothing():
    """What the guide warns of, without a word of complaint from anybody; `sdk_peer` is the way."""
    with bridge_process("--start", "released", "--gantry") as bridge, program(DEAF, bridge.domain) as client:
        assert answer(client) == {"heard": 0}


RUN_BY_US = """
    import json, sys
    from unitree_sdk2py.core.channel import ChannelFactoryInitialize, ChannelSubscriber
    from unitree_sdk2py.idl.unitree_hg.msg.dds_ import LowState_
    if __name__ == "__main__":
        ChannelFactoryInitialize(int(sys.argv[1]), sys.argv[2])
        states = ChannelSubscriber("rt/lowstate", LowState_)
        states.Init()
        print(json.dumps({"machine": states.Read(30).mode_machine, "arguments": sys.argv[1:]}), flush=True)
"""


@with_sdk
def test_a_program_of_its_own_runs_unchanged(tmp_path):
    (script := tmp_path / "example.py").write_text(textwrap.dedent(RUN_BY_US))
    with bridge_process("--start", "released", "--gantry") as bridge:
        given = [sys.executable, "-m", "neon_sim.real.sdk_peer", str(script), str(bridge.domain), "lo"]
        said = subprocess.run(given, capture_output=True, text=True, timeout=2 * PATIENT_S, check=True).stdout
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert lines == [{"machine": 5, "arguments": [str(bridge.domain), "lo"]}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((), "say which program"), (("nowhere.py",), "nowhere.py" if have_sdk() else "PyPI does not")],
)
def test_a_program_that_cannot_run_is_refused_in_words(arguments, words):
    given = [sys.executable, "-m", "neon_sim.real.sdk_peer", *arguments]
    ran = subprocess.run(given, capture_output=True, text=True, timeout=PATIENT_S)
    assert ran.returncode == 1 and words in ran.stderr

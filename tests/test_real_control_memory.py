"""Shared memory: the newest record, whole, between two processes that never wait for each other."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import numpy as np
import pytest
from bridge_process import DOMAINS, wait_until
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat, gravity_in_body
from neon_sim.real import crc
from neon_sim.real.codec import layout
from neon_sim.real.control_client import command_record
from neon_sim.real.control_process import BOXES, ControlLoop
from neon_sim.real.control_records import COMMAND, ORDER, WORDS, Order, StatusSheet
from neon_sim.real.idl.unitree_hg import LowState
from neon_sim.real.robot_config import sim_bridge
from neon_sim.real.safety_stop import Phase, Stop
from neon_sim.real.shared_memory import Mailbox, SharedMemory
from neon_sim.real.state_faults import StateLimits, StateMonitor
from neon_sim.robot import RobotCommand

PAIR = np.dtype([("number", np.int64), ("copies", np.int64, (500,))])


def test_the_newest_record_counts_and_each_box_has_its_own():
    memory = SharedMemory((COMMAND, PAIR, WORDS))
    commands, pairs, words = memory.boxes
    assert commands.read() is None and pairs.count == 0
    record = np.zeros((), PAIR)
    for number in range(10):
        record["number"], record["copies"] = number, number
        pairs.write(record)
    said = np.zeros((), WORDS)
    said["text"] = b"words"
    words.write(said)
    assert pairs.count == 10 and int(pairs.read()["number"]) == 9
    assert words.read()["text"].item() == b"words" and commands.read() is None
    memory.close()
    memory.close()


def test_a_status_carries_what_a_state_says():
    record = layout(LowState).zeros()
    rng = np.random.default_rng(0)
    for name in ("q", "dq", "tau_est"):
        record["motor_state"][name] = rng.normal(size=35)
    record["imu_state"]["quaternion"] = quat = euler_to_quat(np.array([0.1, -0.2, 0.3])).astype(np.float32)
    record["imu_state"]["gyroscope"], record["tick"] = (0.1, 0.2, 0.3), 1000
    crc.seal(record)
    monitor, sheet = StateMonitor(StateLimits()), StatusSheet()
    sheet.show(7.0, 3, Stop(Phase.RUNNING, 6.5), monitor.clock, monitor.numbers)
    assert not sheet.record["has_state"] and sheet.record["age_s"] == np.inf
    monitor.take(layout(LowState).encode(record), 7.0)
    sheet.show(7.25, 4, Stop(Phase.RUNNING, 6.5), monitor.clock, monitor.numbers)
    status = sheet.record
    for name, wanted in (
        ("time_s", 7.25),
        ("steps", 4),
        ("phase", 3),
        ("since_s", 6.5),
        ("has_state", 1),
        ("age_s", 0.25),
    ):
        assert status[name] == wanted
    for name, wanted in (("joint_pos", "q"), ("joint_vel", "dq"), ("joint_torque", "tau_est")):
        np.testing.assert_array_equal(status[name], record["motor_state"][wanted][:29])
    np.testing.assert_array_equal(status["quat_wxyz"], quat)
    np.testing.assert_array_equal(status["gyro"], record["imu_state"]["gyroscope"])
    np.testing.assert_array_equal(status["gravity_b"], gravity_in_body(quat))


@given(st.integers(0, 2**63 - 1), st.integers(0, PAIR.itemsize - 1), st.integers(1, 255))
def test_a_torn_record_is_never_handed_out(number, place, change):
    raw = bytearray(Mailbox.size(PAIR))
    box = Mailbox(memoryview(raw), PAIR)
    record = np.zeros((), PAIR)
    record["number"], record["copies"] = number, number
    box.write(record)
    body = raw.find(record.tobytes())
    raw[body + place] ^= change
    assert box.read() is None


WRITER = """
    import sys, numpy as np
    from neon_sim.real.shared_memory import SharedMemory
    dtype = np.dtype([("number", np.int64), ("copies", np.int64, (500,))])
    box, enough = SharedMemory((dtype, dtype), int(sys.argv[1])).boxes
    record, number = np.zeros((), dtype), 0
    while enough.read() is None:
        number += 1
        record["number"] = number
        record["copies"] = number
        box.write(record)
    sys.exit(number < 30)
"""


def test_a_reader_in_another_process_sees_whole_records_that_only_rise():
    """The writer goes on until the reader has seen thirty, however the machine shares its cores out."""
    memory = SharedMemory((PAIR, PAIR))
    box, enough = memory.boxes
    arguments = [sys.executable, "-c", textwrap.dedent(WRITER), str(memory.fd)]
    writer = subprocess.Popen(arguments, pass_fds=(memory.fd,))
    seen, last, deadline_s = 0, -1, time.monotonic() + 60.0
    while seen < 30 and time.monotonic() < deadline_s:
        record = box.read()
        if record is None:
            continue
        number = int(record["number"])
        assert (record["copies"] == number).all() and number >= last
        seen += number > last
        last = number
    enough.write(np.zeros((), PAIR))
    assert writer.wait(20.0) == 0 and seen == 30
    memory.close()


class Overtaken(Mailbox):
    """A mailbox whose writer comes just after its reader has looked for news, once."""

    def __init__(self, box: Mailbox, write: Callable[[], None]) -> None:
        self.__dict__ |= vars(box)
        self._write = [write]

    @property
    def count(self) -> int:
        count = super().count
        while self._write:
            self._write.pop()()
        return count


@pytest.mark.parametrize("name", ["_commands", "_orders"])
def test_a_person_may_arm_whenever_the_control_looks(name):
    """The env pauses, then arms. Whichever of the two boxes is looked at first, old silence is not held against it."""
    memory = SharedMemory(BOXES)
    commands, orders = memory.boxes[:2]
    target, mask = joints.HOME, np.isin(np.arange(29), joints.GROUPS["arms"])
    command = RobotCommand(target, mask, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)
    commands.write(command_record(command, now_s=0.0))

    def pause_and_arm() -> None:
        commands.write(command_record(command, now_s=5.0, pauses=True))
        order = np.zeros((), ORDER)
        order["number"], order["order"] = 1, Order.ARM
        orders.write(order)

    loop = ControlLoop(sim_bridge(next(DOMAINS)), memory, parent=0)
    loop._read_env(0.0)
    wait_until(lambda: loop.port.services.mode_error)  # nobody answers here
    setattr(loop, name, Overtaken(getattr(loop, name), pause_and_arm))
    state = layout(LowState).zeros()
    state["mode_machine"], state["imu_state"]["quaternion"][0] = 5, 1.0
    state["motor_state"]["q"][:29] = joints.HOME
    for tick in range(4):
        state["tick"] = 1000 + 2 * tick
        crc.seal(state)
        loop.core.take(layout(LowState).encode(state), 5.0 + 0.002 * tick)
        loop._read_env(5.0 + 0.002 * tick)
        loop.core.tick(5.0 + 0.002 * tick)
    assert loop.core.stop.phase is Phase.STANDING, (loop.core.stop.reasons, loop.core.findings)
    loop.port.close()
    memory.close()

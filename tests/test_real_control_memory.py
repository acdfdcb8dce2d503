"""Shared memory: the newest record, whole, between two processes that never wait for each other."""

import subprocess
import sys
import textwrap
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.real.control_records import COMMAND, STATUS
from neon_sim.real.shared_memory import Mailbox, SharedMemory

PAIR = np.dtype([("number", np.int64), ("copies", np.int64, (500,))])


def test_the_newest_record_counts_and_each_box_has_its_own():
    memory = SharedMemory((COMMAND, PAIR, STATUS))
    commands, pairs, statuses = memory.boxes
    assert commands.read() is None and pairs.count == 0
    record = np.zeros((), PAIR)
    for number in range(10):
        record["number"], record["copies"] = number, number
        pairs.write(record)
    status = np.zeros((), STATUS)
    status["text"] = b"words"
    statuses.write(status)
    assert pairs.count == 10 and int(pairs.read()["number"]) == 9
    assert statuses.read()["text"].item() == b"words" and commands.read() is None
    memory.close()
    memory.close()


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

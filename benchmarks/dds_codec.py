"""The wire's codec beside the way in which Unitree's Python SDK does it: a Python object per motor.

The SDK itself is not needed: its dataclasses, CycloneDDS's serialisation of them and `struct.pack` for the checksum are
the same here. Its checksum runs in a C library; ours stands in for it, which is the faster of the two.
"""

# mypy: disable-error-code="import-not-found"
# (real/ is neon_sim.real only when installed, and mypy looks in neon_sim/)
import struct
import time
from collections.abc import Callable

import numpy as np

from neon_sim.real import crc
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_hg import LowCmd, LowState, MotorCmd
from neon_sim.real.low_cmd import LowCmdWriter

MOTORS, RESERVED = 35, 4
STRUCT = struct.Struct("<2B2x" + "B3x5fI" * MOTORS + "5I")  # LowCmd as a C struct: `real/crc.py`
CALLS = {True: 200, False: 10}  # in one timing: ours, the SDK's way


def sample_state() -> bytes:
    """A LowState on the wire with a different number everywhere."""
    rng, state = np.random.default_rng(0), layout(LowState).zeros()
    state["motor_state"]["q"], state["motor_state"]["dq"] = rng.uniform(-1.0, 1.0, (2, MOTORS))
    state["mode_machine"], state["tick"] = 5, 123_456
    crc.seal(state)
    return layout(LowState).encode(state)


def our_command() -> LowCmdWriter:
    """A command that is kept, as the control process keeps it."""
    command = LowCmdWriter(5)
    command.q[:], command.kp[:], command.kd[:] = 0.25, 40.0, 1.0
    return command


def sdk_command() -> LowCmd:
    """The same command as dataclasses."""
    on = [MotorCmd(mode=1, q=0.25, dq=0.0, tau=0.0, kp=40.0, kd=1.0, reserve=0) for _ in range(29)]
    off = [MotorCmd(mode=0, q=0.0, dq=0.0, tau=0.0, kp=0.0, kd=0.0, reserve=0) for _ in range(MOTORS - 29)]
    return LowCmd(mode_pr=0, mode_machine=5, motor_cmd=on + off, reserve=[0] * RESERVED, crc=0)


def encode_as_the_sdk(command: LowCmd) -> bytes:
    """Flatten, pack, checksum, serialise."""
    flat: list[float] = [command.mode_pr, command.mode_machine]
    for motor in command.motor_cmd:
        flat += (motor.mode, motor.q, motor.dq, motor.tau, motor.kp, motor.kd, motor.reserve)
    command.crc = crc.checksum(STRUCT.pack(*flat, *command.reserve, 0)[:-4])
    return command.serialize()


def codec_calls() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """What is timed: ours, the SDK's way."""
    state, ours, theirs = sample_state(), our_command(), sdk_command()
    decode = layout(LowState).decode
    return {
        "decode LowState": (lambda: decode(state), lambda: LowState.deserialize(state)),
        "encode LowCmd + CRC": (ours.encode, lambda: encode_as_the_sdk(theirs)),
    }


def codec_us(rounds: int) -> dict[str, tuple[float, float]]:
    """Best CPU time in us of each call, ours and the SDK's way, taking turns."""
    best: dict[tuple[str, bool], float] = {}
    for _ in range(rounds):
        for name, pair in codec_calls().items():
            for ours, call in zip((True, False), pair, strict=True):
                start_s = time.process_time()
                for _ in range(CALLS[ours]):
                    call()
                took_us = 1e6 * (time.process_time() - start_s) / CALLS[ours]
                best[name, ours] = min(best.get((name, ours), np.inf), took_us)
    return {name: (best[name, True], best[name, False]) for name in codec_calls()}

"""The records that env and control process exchange through shared memory."""

import json
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

import numpy as np

from neon_sim.g1.joints import NUM_JOINTS
from neon_sim.real.lateness import LATE_BINS
from neon_sim.real.safety_stop import Stop
from neon_sim.real.state_faults import Numbers, TickClock

TEXT_BYTES: Final = 4096
_MOST_REASONS: Final = 16

_JOINTS: Final = (NUM_JOINTS,)

# Env -> control process, 50 times a second.
COMMAND: Final = np.dtype(
    [
        ("joint_target", np.float64, _JOINTS),  # rad, hardware order
        ("owned_mask", np.bool_, _JOINTS),
        ("kp", np.float64, _JOINTS),
        ("kd", np.float64, _JOINTS),
        ("velocity", np.float64, (3,)),  # m/s, m/s, rad/s
        ("height", np.float64),  # m
        ("pauses", np.bool_),  # the env lets the robot stand: no commands will come for a while
        ("time_s", np.float64),  # when it was written, monotonic
    ],
    align=True,
)


class Order(IntEnum):
    """What a person, or the end of the program, asks for."""

    NONE = 0
    CHECK = 1  # preflight only
    ARM = 2
    DISARM = 3
    HALT = 4
    RELEASE_MODE = 5  # make the robot's own motion service let go
    QUIT = 6


# Env -> control process, rarely. `number` rises; the answer comes in the status.
ORDER: Final = np.dtype([("number", np.uint32), ("order", np.uint32), ("gantry", np.bool_)], align=True)

# Control process -> env, at every tick.
STATUS: Final = np.dtype(
    [
        ("time_s", np.float64),  # monotonic
        ("steps", np.uint64),  # rises when it is time to decide
        ("phase", np.uint8),  # safety_stop.Phase
        ("since_s", np.float64),  # monotonic, of the phase
        ("has_state", np.bool_),
        ("age_s", np.float64),  # of the state
        ("state_s", np.float64),  # s since the first state, by the robot's clock
        ("joint_pos", np.float64, _JOINTS),
        ("joint_vel", np.float64, _JOINTS),
        ("joint_torque", np.float64, _JOINTS),
        ("joint_target", np.float64, _JOINTS),  # as it was really sent
        ("quat_wxyz", np.float64, (4,)),
        ("gyro", np.float64, (3,)),
        ("gravity_b", np.float64, (3,)),
        ("position_mask", np.bool_, _JOINTS),  # what the control process cut off the last command
        ("speed_mask", np.bool_, _JOINTS),
        ("velocity_mask", np.bool_, (3,)),
        ("distance_mask", np.bool_, _JOINTS),  # whose step would have brought an arm too near to the robot itself
        ("late_ms", np.float64),  # the worst lateness of a tick in the last second
        ("late_counts", np.uint32, (LATE_BINS,)),  # of all ticks so far, by `lateness.late_bin`
        ("answered", np.uint32),  # number of the last order that was carried out or refused
        ("refused", np.bool_),
    ],
    align=True,
)

# Control process -> env, before the status that goes with it.
WORDS: Final = np.dtype([("text", f"S{TEXT_BYTES}")])  # JSON: reasons of the stop, findings of the preflight


# The first fields of `STATUS`, packed at once.
_HEAD: Final = struct.Struct("@dQBd?dd")
_ROWS: Final = struct.Struct(f"@{3 * NUM_JOINTS}d")  # joint_pos, joint_vel, joint_torque
_IMU: Final = struct.Struct("@10d")  # quat_wxyz, gyro, gravity_b


class StatusSheet:
    """One record of `STATUS` that is filled in again and again.

    Attributes:
        record: the record. fields: a view of each of its fields; `fields["answered"][()]` is one that is one number.
    """

    def __init__(self) -> None:
        self._memory = bytearray(STATUS.itemsize)
        self.record = np.ndarray((), STATUS, self._memory)
        self.fields: dict[str, np.ndarray] = {name: self.record[name] for name in STATUS.names or ()}
        offsets = {name: field[1] for name, field in (STATUS.fields or {}).items()}
        self._rows, self._imu = offsets["joint_pos"], offsets["quat_wxyz"]
        self._shown: Numbers | None = None

    def show(self, now_s: float, steps: int, stop: Stop, clock: TickClock, state: Numbers | None) -> None:
        """Fill in what changes in each tick, and a state that is new."""
        there, age_s = state is not None, clock.age_s(now_s)
        _HEAD.pack_into(self._memory, 0, now_s, steps, stop.phase, stop.since_s, there, age_s, clock.tick_s)
        if state is None or state is self._shown:
            return
        self._shown = state
        _ROWS.pack_into(self._memory, self._rows, *state.joint_pos, *state.joint_vel, *state.joint_torque)
        w, x, y, z = state.quat_wxyz
        gravity = 2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1  # as `gravity_in_body`
        _IMU.pack_into(self._memory, self._imu, w, x, y, z, *state.gyro, *gravity)


def text_of(reasons: Sequence[str], findings: Sequence[dict[str, Any]]) -> bytes:
    """Reasons of a stop and findings of a preflight, for `text`: words that are too long are cut, the JSON never is."""
    longest = TEXT_BYTES
    while True:
        found = [finding | {"words": finding["words"][:longest]} for finding in findings]
        said = {"reasons": [reason[:longest] for reason in reasons[:_MOST_REASONS]], "findings": found}
        text = json.dumps(said).encode()
        if len(text) <= TEXT_BYTES:
            return text
        longest //= 2

"""What can be wrong with the states that a robot reports: injected on the wire, while the simulated body is well."""

from collections import deque
from dataclasses import dataclass, fields
from math import asin, atan2, cos, sin

import numpy as np

from neon_sim.g1.geometry import quat_multiply
from neon_sim.g1.joints import JOINT_INDEX
from neon_sim.names import nearest
from neon_sim.real import crc
from neon_sim.real.codec import layout
from neon_sim.real.idl.unitree_hg import LowState


def roll_pitch_yaw(quat_wxyz: np.ndarray) -> tuple[float, float, float]:
    """`geometry.quat_to_euler` of one unit quaternion in plain floats, which take a tenth of the time."""
    w, x, y, z = quat_wxyz.tolist()
    roll = atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = asin(max(-1.0, min(1.0, 2 * (w * y - x * z))))
    return roll, pitch, atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


@dataclass(frozen=True)
class WireFaults:
    """All that is wrong at one time; the default is nothing. Joint faults are those of `joint`.

    Raises ValueError for a joint that is not there.
    """

    silent: bool = False  # no state at all, as with a cut link
    frozen: bool = False  # the last state again and again, tick and all
    delay_s: float = 0.0  # states come late by so much simulated time
    bad_crc: bool = False
    tick_back_ms: int = 0  # every second state carries a tick that lies so far back
    joint: str = "left_knee_joint"
    nan: bool = False  # the joint's angle
    joint_pos: float | None = None  # rad, read instead of the truth
    joint_vel: float | None = None  # rad/s
    casing_c: int | None = None  # degrees C
    winding_c: int | None = None  # degrees C
    tilt_rad: float | None = None  # the IMU believes to be rolled over by so much more
    gyro_rad_s: float | None = None  # about the x axis
    soc: int | None = None  # per cent of battery
    second_writer: bool = False  # somebody else writes to rt/lowcmd: the writer exists and says nothing

    def __post_init__(self) -> None:
        if self.joint not in JOINT_INDEX:
            raise nearest("joint", self.joint, JOINT_INDEX)
        if not 0.0 <= self.delay_s < 10.0:
            raise ValueError(f"delay_s must be in [0, 10) s, got {self.delay_s}.")

    def wrong(self) -> tuple[str, ...]:
        """The names of those that are on."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) != field.default)

    def spoil(self, state: np.ndarray) -> None:
        """Write the wrong readings into a LowState record, before it is sealed."""
        motor = state["motor_state"][JOINT_INDEX[self.joint]]
        for name, value in (("q", np.nan if self.nan else self.joint_pos), ("dq", self.joint_vel)):
            if value is not None:
                motor[name] = value
        for place, celsius in enumerate((self.casing_c, self.winding_c)):
            if celsius is not None:
                motor["temperature"][place] = celsius
        imu = state["imu_state"]
        if self.tilt_rad is not None:
            roll = np.array([cos(self.tilt_rad / 2), sin(self.tilt_rad / 2), 0.0, 0.0])
            quat = quat_multiply(imu["quaternion"], roll)
            imu["quaternion"], imu["rpy"] = quat, roll_pitch_yaw(quat)
        if self.gyro_rad_s is not None:
            imu["gyroscope"][0] = self.gyro_rad_s


class StateLine:
    """The way of a LowState record from the body to the wire, with whatever is wrong on it."""

    def __init__(self) -> None:
        self.faults = WireFaults()
        self._layout = layout(LowState)
        self._waiting: deque[tuple[float, bytes]] = deque()  # (time, sample)
        self._last: bytes | None = None
        self._odd = False

    def pass_on(self, state: np.ndarray, time_s: float) -> list[bytes]:
        """Seal a record made at a time and return the samples to send now, oldest first: one, unless faults are on."""
        faults = self.faults
        self._waiting.append((time_s, self._sealed(state, faults)))
        due = []
        while self._waiting and self._waiting[0][0] <= time_s - faults.delay_s + 1e-9:
            due.append(self._waiting.popleft()[1])
        if faults.silent:
            return []
        if faults.frozen and self._last is not None:
            return [self._last]
        if due:
            self._last = due[-1]
        return due if faults.delay_s else due[-1:]

    def _sealed(self, state: np.ndarray, faults: WireFaults) -> bytes:
        faults.spoil(state)
        self._odd = not self._odd
        if faults.tick_back_ms and self._odd:
            state["tick"] = max(0, int(state["tick"]) - faults.tick_back_ms)
        crc.seal(state)
        if faults.bad_crc:
            state["crc"] ^= 1
        return self._layout.encode(state)

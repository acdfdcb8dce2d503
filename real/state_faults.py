"""What is wrong with the states that a robot reports: each fault in words, judged without a clock of its own.

Limits by default are the vendor's own (unitree_sdk2 21d0a3b2 g1/common/terminations.hpp), but for the age of a state,
which is 1 s there: a robot that falls does so in less.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from operator import le
from typing import Final, NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.real import crc
from neon_sim.real.codec import WireError, layout
from neon_sim.real.idl.unitree_hg import LowState
from neon_sim.safety import all_finite

_LAYOUT = layout(LowState)
AGE: Final = "state age"  # how the words of a state that is too old begin
_RESTART_MS: Final = 1000  # a tick that is further back than this is a robot that has booted again
_SELECT: Final = 1 << 3  # in the third byte of wireless_remote: the button that stops unitree_rl_gym's deployment too
_UNIT: Final = 0.05  # how far a quaternion's square may be from 1
_NARROWER: Final = 1e-9  # rad; what lies between is looked at closely


class Numbers(NamedTuple):
    """What is judged of one state, in plain numbers.

    The control process wakes 500 times a second with cold caches: NumPy's first few calls take longer there than all of
    what is done with these (measured).
    """

    joint_pos: tuple[float, ...]  # (29,) rad, hardware order
    joint_vel: tuple[float, ...]  # (29,) rad/s
    joint_torque: tuple[float, ...]  # (29,) N m
    casing: tuple[int, ...]  # (29,) degrees C
    winding: tuple[int, ...]
    quat_wxyz: tuple[float, ...]
    gyro: tuple[float, ...]  # (3,) rad/s
    keys: int  # third byte of wireless_remote


def _places() -> tuple[struct.Struct, list[int]]:
    """How all motors are read at once, and where tick, motors, IMU, remote control and checksum lie in memory."""
    whole, motor = _LAYOUT.dtype.fields, _LAYOUT.dtype["motor_state"].base
    assert whole is not None and motor.fields is not None
    first, heat = motor.fields["q"][1], motor.fields["temperature"][1]
    one = f"{first}x4f{heat - first - 16}x2h{motor.itemsize - heat - 4}x"  # q, dq, ddq, tau_est; casing, winding
    starts = [whole[name][1] for name in ("tick", "motor_state", "imu_state", "wireless_remote", "crc")]
    return struct.Struct("<" + joints.NUM_JOINTS * one), starts


_MOTORS, (_TICK_AT, _MOTORS_AT, _IMU_AT, _REMOTE_AT, _CRC_AT) = _places()
_IMU: Final = struct.Struct("<7f")  # quaternion, gyroscope


def _numbers(memory: bytearray) -> Numbers:
    motors, imu = _MOTORS.unpack_from(memory, _MOTORS_AT), _IMU.unpack_from(memory, _IMU_AT)
    rows = motors[0::6], motors[1::6], motors[3::6], motors[4::6], motors[5::6]
    return Numbers(*rows, imu[:4], imu[4:], memory[_REMOTE_AT + 2])


@dataclass(frozen=True)
class StateLimits:
    """Beyond these the robot is damped; only below `charge` it is lowered, since nothing is wrong with it yet.

    leg_speed: rad/s for the twelve leg joints, None = joint_speed; the walker's joints have swung at 85 rad/s in
    punches and falls in simulation, so a simulated robot may need more, and a real one must not get it (`RobotConfig`
    refuses).
    beyond_range: rad that an encoder may be outside its joint's range; our own choice, a calibration's error.
    clock_drift: s per s by which robot's and computer's clocks may differ; a simulation below real time needs more.
    """

    age_s: float = 0.05
    tilt: float = 1.0  # rad, pelvis against gravity
    joint_speed: float = 10.0  # rad/s
    leg_speed: float | None = None
    gyro: float = 6.0  # rad/s, each axis
    casing: float = 85.0  # degrees C
    winding: float = 120.0
    beyond_range: float = 0.1
    clock_drift: float = 1e-3
    charge: float = 20.0  # per cent of the battery, 0 = not watched

    def __post_init__(self) -> None:
        if not 0.0 <= self.charge <= 100.0:
            raise ValueError(f"charge must be in [0, 100] per cent, got {self.charge}.")
        for name in ("age_s", "tilt", "joint_speed", "gyro", "casing", "winding"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")

    def speeds(self) -> np.ndarray:
        """Highest speed (29,) rad/s of each joint."""
        speed = np.full(joints.NUM_JOINTS, self.joint_speed)
        if self.leg_speed is not None:
            speed[joints.GROUPS["legs"]] = self.leg_speed
        return speed


class TickClock:
    """How old a state is, from the robot's own tick (ms) and this computer's clock.

    The shortest way that a state ever took counts as no time: what comes later than that is late. So lost, frozen and
    delayed states are all old; a delay that was there from the first state on cannot be seen.
    """

    def __init__(self, drift: float) -> None:
        self._drift = drift
        self._last: int | None = None
        self.tick_s = 0.0  # s since the first state, by the robot
        self._shortest_s = math.inf
        self._judged_s = 0.0

    def take(self, tick: int, now_s: float) -> bool:
        """Note a state's tick; False when it is no newer than the last one."""
        step = 1 if self._last is None else (tick - self._last + 2**31) % 2**32 - 2**31
        if step < -_RESTART_MS:
            self._last, self._shortest_s, step = None, math.inf, 1
        if step <= 0:
            return False
        self.tick_s = 0.0 if self._last is None else self.tick_s + 1e-3 * step
        self._last = tick
        grown = self._shortest_s + self._drift * (now_s - self._judged_s)
        self._shortest_s, self._judged_s = min(grown, now_s - self.tick_s), now_s
        return True

    def age_s(self, now_s: float) -> float:
        """Age of the newest state; infinite before the first."""
        return math.inf if self._last is None else now_s - self.tick_s - self._shortest_s

    def behind(self, tick: int) -> bool:
        """True for a tick that is older than the newest one."""
        return self._last is not None and (tick - self._last + 2**31) % 2**32 - 2**31 < 0


class StateMonitor:
    """Takes LowState samples, keeps the newest good one, and says what is wrong.

    Attributes:
        record: the newest state that could be read, a 0-d record, or None; its numbers may be bad.
        numbers: those of them that matter 500 times a second.
        clock: the robot's.
    """

    def __init__(self, limits: StateLimits) -> None:
        self.limits = limits
        self.record: np.ndarray | None = None
        self.numbers: Numbers | None = None
        self.clock = TickClock(limits.clock_drift)
        self._speeds = limits.speeds()
        self._fastest: list[float] = self._speeds.tolist()
        self._lowest: list[float] = (joints.LOWER - limits.beyond_range + _NARROWER).tolist()
        self._highest: list[float] = (joints.UPPER + limits.beyond_range - _NARROWER).tolist()
        self._cosine = math.cos(limits.tilt)
        self._wire: list[str] = []  # since the last `faults`
        self._body: tuple[str, ...] = ()  # of the newest state
        self._passed: list[str] = []  # of those that a newer one has followed since the last `faults`
        self._unseen = False  # the newest state came after the last `faults`

    @property
    def troubled(self) -> bool:
        """True when something on the wire was wrong since the last `faults`."""
        return bool(self._wire)

    def take(self, sample: bytes, now_s: float) -> bool:
        """Read one sample; True if it is a new state. What is wrong with it shows in `faults`."""
        try:
            memory = _LAYOUT.memory(sample)
        except WireError as error:
            self._wire.append(f"bad state: {error}")
            return False
        if crc.checksum(memory[:_CRC_AT]) != int.from_bytes(memory[_CRC_AT:], "little"):
            self._wire.append("bad CRC: a state's checksum is not that of its content")
            return False
        tick = int.from_bytes(memory[_TICK_AT : _TICK_AT + 4], "little")
        if self.clock.behind(tick):
            self._wire.append(f"out-of-order tick: {tick} ms came after a newer one")
        if not self.clock.take(tick, now_s):
            return False
        self._passed += self._body if self._unseen else ()
        self._unseen = True
        self.record, self.numbers = _LAYOUT.record(memory), _numbers(memory)
        self._body = () if self._sound(self.numbers) else tuple(self._body_faults(self.record))
        return True

    def faults(self, now_s: float) -> tuple[str, ...]:
        """All that is wrong now, and what was wrong since the last call, which is forgotten.

        Several states may come between two calls: a fault in any of them counts.
        """
        found = self.visible(now_s)
        self._wire.clear()
        self._passed.clear()
        self._unseen = False
        return found

    def visible(self, now_s: float) -> tuple[str, ...]:
        """The same, and nothing is forgotten: a look at the robot must not hide a fault from what stops it."""
        wire = tuple(dict.fromkeys(self._wire)) if self._wire else ()
        age_s = self.clock.age_s(now_s)
        if age_s > self.limits.age_s:
            came = "no state has come yet" if age_s == math.inf else f"the newest is {1e3 * age_s:.0f} ms old"
            wire += (f"{AGE}: {came}, the limit is {1e3 * self.limits.age_s:.0f} ms",)
        if self._passed:
            return wire + tuple(dict.fromkeys((*self._passed, *self._body)))
        return wire + self._body

    def _sound(self, state: Numbers) -> bool:
        """A quick look: True when nothing can be wrong, False when the state is to be looked at closely.

        No comparison holds for what is not a number.
        """
        w, x, y, z = state.quat_wxyz
        limits = self.limits
        return (
            not state.keys & _SELECT
            and abs(w * w + x * x + y * y + z * z - 1.0) < 0.9 * _UNIT
            and 1.0 - 2.0 * (x * x + y * y) >= self._cosine
            and all(abs(rate) <= limits.gyro for rate in state.gyro)
            and all(map(le, map(abs, state.joint_vel), self._fastest))
            and all(map(le, self._lowest, state.joint_pos))
            and all(map(le, state.joint_pos, self._highest))
            and math.isfinite(sum(state.joint_torque))
            and max(state.casing) <= limits.casing
            and max(state.winding) <= limits.winding
        )

    def _body_faults(self, record: np.ndarray) -> Iterator[str]:
        motors, imu, limits = record["motor_state"][: joints.NUM_JOINTS], record["imu_state"], self.limits
        q, dq, quat, gyro = motors["q"], motors["dq"], imu["quaternion"], imu["gyroscope"]
        if int(record["wireless_remote"][2]) & _SELECT:
            yield "remote control: the operator pressed select"
        if not all_finite(q, dq, motors["tau_est"], quat, gyro):
            yield "not a number: the state has an entry that is not finite"
            return
        if not abs(float(quat @ quat) - 1.0) < _UNIT:
            yield f"orientation: the IMU's quaternion {quat.tolist()} is not of length 1"
            return
        cosine = -float(gravity_in_body(quat)[2])
        if not cosine >= self._cosine:
            tilt = math.acos(min(max(cosine, -1.0), 1.0))
            yield f"tilt: {tilt:.2f} rad, the limit is {limits.tilt:.2f} rad"
        if not np.abs(gyro).max() <= limits.gyro:
            yield f"turning: {np.abs(gyro).max():.1f} rad/s, the limit is {limits.gyro:.1f} rad/s"
        yield from _worst("joint speed", np.abs(dq), self._speeds, "rad/s")
        beyond = np.maximum(joints.LOWER - q, q - joints.UPPER)
        yield from _worst("joint range", beyond, np.full(joints.NUM_JOINTS, limits.beyond_range), "rad outside")
        heat = motors["temperature"]
        for place, part, limit in ((0, "casing", limits.casing), (1, "winding", limits.winding)):
            yield from _worst(f"{part} temperature", heat[:, place], np.full(joints.NUM_JOINTS, limit), "degrees C")


def _worst(kind: str, values: np.ndarray, limits: np.ndarray, unit: str) -> Iterator[str]:
    """The joint that is furthest over its limit, if any is."""
    over = values - limits
    worst = int(np.argmax(over))
    if over[worst] > 0.0:
        limit = f"the limit is {limits[worst]:g}"
        yield f"{kind}: {joints.JOINT_NAMES[worst]} {values[worst]:.2f} {unit}, {limit}"

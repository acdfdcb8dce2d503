"""What is wrong with the states that a robot reports: each fault in words, judged without a clock of its own.

Limits by default are the vendor's own (unitree_sdk2 21d0a3b2 g1/common/terminations.hpp), but for the age of a state,
which is 1 s there: a robot that falls does so in less.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body
from neon_sim.real import crc
from neon_sim.real.codec import WireError, layout
from neon_sim.real.crc import CrcError
from neon_sim.real.idl.unitree_hg import LowState
from neon_sim.safety import all_finite

_LAYOUT = layout(LowState)
_RESTART_MS: Final = 1000  # a tick that is further back than this is a robot that has booted again
_SELECT: Final = 1 << 3  # in the third byte of wireless_remote: the button that stops unitree_rl_gym's deployment too
_UNIT: Final = 0.05  # how far a quaternion's square may be from 1


@dataclass(frozen=True)
class StateLimits:
    """Beyond these the robot is damped.

    leg_speed: rad/s for the twelve leg joints, None = joint_speed; the walker's ankles have swung at 17 rad/s in
    simulation, so a simulated robot may need more, and a real one must not get it (`RobotConfig` refuses).
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

    def __post_init__(self) -> None:
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
        clock: the robot's.
    """

    def __init__(self, limits: StateLimits) -> None:
        self.limits = limits
        self.record: np.ndarray | None = None
        self.clock = TickClock(limits.clock_drift)
        self._speeds = limits.speeds()
        self._cosine = math.cos(limits.tilt)
        self._wire: list[str] = []  # since the last `faults`
        self._body: tuple[str, ...] = ()

    @property
    def troubled(self) -> bool:
        """True when something on the wire was wrong since the last `faults`."""
        return bool(self._wire)

    def take(self, sample: bytes, now_s: float) -> bool:
        """Read one sample; True if it is a new state. What is wrong with it shows in `faults`."""
        try:
            record = _LAYOUT.decode(sample)
            crc.check(record)
        except CrcError:
            self._wire.append("bad CRC: a state's checksum is not that of its content")
            return False
        except WireError as error:
            self._wire.append(f"bad state: {error}")
            return False
        tick = int(record["tick"])
        if self.clock.behind(tick):
            self._wire.append(f"out-of-order tick: {tick} ms came after a newer one")
        if not self.clock.take(tick, now_s):
            return False
        self.record, self._body = record, tuple(self._body_faults(record))
        return True

    def faults(self, now_s: float) -> tuple[str, ...]:
        """All that is wrong now, and what was wrong on the wire since the last call, which is forgotten."""
        found = self.visible(now_s)
        self._wire.clear()
        return found

    def visible(self, now_s: float) -> tuple[str, ...]:
        """The same, and nothing is forgotten: a look at the robot must not hide a fault from what stops it."""
        wire = tuple(dict.fromkeys(self._wire))
        age_s = self.clock.age_s(now_s)
        if age_s > self.limits.age_s:
            came = "no state has come yet" if age_s == math.inf else f"the newest is {1e3 * age_s:.0f} ms old"
            wire += (f"state age: {came}, the limit is {1e3 * self.limits.age_s:.0f} ms",)
        return wire + self._body

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

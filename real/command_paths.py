"""The two ways in which a G1 can be commanded: every motor by us, or the arms by us and the legs by its own controller.

`low_level` writes rt/lowcmd for all 29 joints, with our walker in the legs; the robot's own motion service must have
let go. `high_level` writes rt/arm_sdk, whose weight blends our arms into the robot's own motion, and asks the `sport`
service for a velocity that ends by itself after a second. Both follow the same plan, made from the same actions.
"""

from typing import Final, NamedTuple, Protocol

import numpy as np

from neon_sim.g1 import joints
from neon_sim.names import nearest
from neon_sim.real.low_cmd import DAMPING_KD, LowCmdWriter
from neon_sim.real.safety_stop import Phase, Stop

PATHS: Final = ("low_level", "high_level")
WEIGHT_SLOT: Final = 29  # of rt/arm_sdk: its q is the weight
RELEASE_S: Final = 1.0  # s in which the weight falls to 0: the vendor's arm_sdk example
# Nothing is wrong with the robot: its own controller keeps it standing.
_NOT_THE_ROBOT: Final = ("stale action", "disarmed", "low battery", "stalled control", "the control process ends")
_UPPER: Final = np.concatenate([joints.GROUPS["waist"], joints.GROUPS["arms"]])  # what rt/arm_sdk blends


class Plan(NamedTuple):
    """What the joints are to do now, before a path makes a message of it."""

    target: np.ndarray  # (29,) rad
    kp: np.ndarray  # (29,) N m/rad
    kd: np.ndarray  # (29,) N m s/rad
    velocity: np.ndarray  # (3,) m/s, m/s, rad/s
    ramp: float  # 0..1, how far arming has come


class Outgoing(NamedTuple):
    """What leaves the control process in one tick."""

    low_cmd: bytes | None  # a sample of the path's topic; None = nothing is said
    velocity: np.ndarray | None = None  # (3,) for the sport service
    damp: bool = False  # the sport service is to damp the robot


class CommandPath(Protocol):
    """A plan in, a message out."""

    topic: str
    walks: bool  # True: our walker has the legs

    def outgoing(self, stop: Stop, plan: Plan, dt: float) -> Outgoing:
        """Make this tick's message; dt is the time since the last one."""


class LowLevel:
    """All joints over rt/lowcmd."""

    topic = "rt/lowcmd"
    walks = True

    def __init__(self, mode_machine: int) -> None:
        self._writer = LowCmdWriter(mode_machine)
        self._gains: tuple[np.ndarray, np.ndarray, float] | None = None  # kp, kd and ramp that are written

    def outgoing(self, stop: Stop, plan: Plan, dt: float) -> Outgoing:
        """Nothing while unarmed; in damping nothing but damping."""
        if stop.phase is Phase.UNARMED:
            return Outgoing(None)
        if stop.phase is Phase.DAMPING:
            self._writer.damp()
            self._gains = None
            return Outgoing(self._writer.encode())
        self._writer.q[:] = plan.target
        self._write_gains(plan.kp, plan.kd, plan.ramp)
        return Outgoing(self._writer.encode())

    def _write_gains(self, kp: np.ndarray, kd: np.ndarray, share: float) -> None:
        gains = self._gains
        if gains is None or kp is not gains[0] or kd is not gains[1] or share != gains[2]:
            self._writer.kp[:] = share * kp
            self._writer.kd[:] = (1.0 - share) * DAMPING_KD + share * kd
            self._gains = kp, kd, share


class HighLevel:
    """Arms over rt/arm_sdk, legs by the sport service.

    The waist is held where the plan has it, as the vendor's example does. When it stops, the arms are given back over a
    second; the robot's own controller goes on standing, unless a fault of the state asks it to damp, in each message
    until a person arms it again.
    """

    topic = "rt/arm_sdk"
    walks = False

    def __init__(self, mode_machine: int, ramp_s: float) -> None:
        self._writer = LowCmdWriter(mode_machine)
        self._writer.mode[:] = 0
        self._writer.mode[_UPPER] = 1
        self._gains: tuple[np.ndarray, np.ndarray] | None = None  # kp and kd that are written
        self._weight_slot: np.ndarray = self._writer.record["motor_cmd"]["q"][WEIGHT_SLOT : WEIGHT_SLOT + 1]
        self._ramp_s = ramp_s
        self.weight = 0.0

    def outgoing(self, stop: Stop, plan: Plan, dt: float) -> Outgoing:
        """Nothing while unarmed; after a stop the weight falls and stays at 0, and so does the velocity."""
        if stop.phase is Phase.UNARMED:
            return Outgoing(None)
        if stop.armed:
            self.weight = min(1.0, self.weight + dt / self._ramp_s) if self._ramp_s > 0.0 else 1.0
        else:
            self.weight = max(0.0, self.weight - dt / RELEASE_S)
        self._writer.q[_UPPER] = plan.target[_UPPER]
        if self._gains is None or plan.kp is not self._gains[0] or plan.kd is not self._gains[1]:
            self._writer.kp[_UPPER] = plan.kp[_UPPER]
            self._writer.kd[_UPPER] = plan.kd[_UPPER]
            self._gains = plan.kp, plan.kd
        self._weight_slot[0] = self.weight
        velocity = plan.velocity if stop.phase is Phase.RUNNING else np.zeros(3)
        damp = stop.phase is Phase.DAMPING and not all(reason.startswith(_NOT_THE_ROBOT) for reason in stop.reasons)
        return Outgoing(self._writer.encode(), velocity, damp)


def make_path(name: str, mode_machine: int, ramp_s: float) -> CommandPath:
    """Build the named path for a robot whose LowState says `mode_machine`.

    Raises:
        ValueError: naming the nearest valid path.
    """
    if name not in PATHS:
        raise nearest("command path", name, PATHS)
    return LowLevel(mode_machine) if name == "low_level" else HighLevel(mode_machine, ramp_s)

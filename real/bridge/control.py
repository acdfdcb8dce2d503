"""Who has the motors: the robot's own program with rt/arm_sdk over it, or one client's LowCmd with a watchdog."""

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

import numpy as np

from neon_sim.real.bridge.arm_sdk import ArmOverlay
from neon_sim.real.bridge.body import Body
from neon_sim.real.bridge.commands import CommandReader
from neon_sim.real.bridge.config import TICK_S, WALKER_TICKS, BridgeConfig
from neon_sim.real.bridge.locomotion import Locomotion
from neon_sim.real.bridge.motors import DAMPING, Motors, commanded
from neon_sim.real.sport import Fsm
from neon_sim.real.transport import Link

Tell = Callable[..., None]  # tell(event, **details)
_A_B: Final = "a_b_taken_as_pitch_roll"  # told once per topic


class Owner(Enum):
    """Whose orders the motors follow; the value is the topic that brings them."""

    INTERNAL = "rt/arm_sdk"
    LOW_CMD = "rt/lowcmd"
    USER_CMD = "rt/user_lowcmd"


class Control:
    """Takes commands in and gives every tick its order for the motors.

    Attributes:
        readers: the three command topics, by who they bring orders to. owner: who has the motors.
        damped: True while the watchdog brakes.
    """

    def __init__(self, link: Link, body: Body, locomotion: Locomotion, config: BridgeConfig, tell: Tell) -> None:
        self._body, self.locomotion, self._tell = body, locomotion, tell
        self._watchdog_s = config.watchdog_s
        self.overlay = ArmOverlay()
        self.readers = {owner: CommandReader(link, owner.value, config.mode_machine) for owner in Owner}
        self.owner = Owner.INTERNAL if config.start == "walking" else Owner.LOW_CMD
        self.damped = False
        self._pending: deque[np.ndarray] = deque()
        self._order: Motors | None = None  # of the client who has the motors
        self._reasons: set[tuple[Owner, str]] = set()

    @property
    def reader(self) -> CommandReader:
        """The topic that counts now."""
        return self.readers[self.owner]

    def hand_over(self, owner: Owner, fsm: Fsm = Fsm.DAMP) -> None:
        """Give the motors to somebody else; what they were told before is forgotten.

        Raises:
            UnknownFsmError: the robot's own program cannot begin in the state `fsm`; nothing has changed then.
        """
        if owner is Owner.INTERNAL:
            self.locomotion.resume(fsm, self._body.state())
        self.owner, self._order, self.damped = owner, None, False
        self._pending.clear()
        self.overlay.drop()
        self.reader.last_s = None
        self._tell("motors", owner=owner.name.lower())

    def go_to(self, fsm_id: int) -> None:
        """Change the state of the robot's own program, and tell of it. Raises as `Locomotion.go_to`."""
        before = self.locomotion.fsm
        self.locomotion.go_to(fsm_id, self._body.state())
        if before is not self.locomotion.fsm:
            self._tell("fsm", fsm=self.locomotion.fsm.name.lower())

    def poll(self, now_s: float) -> None:
        """Take in what came. now_s: the clock of the watchdog."""
        for owner, reader in self.readers.items():
            if owner is self.owner:
                self._pending.extend(reader.take(now_s))
            else:
                reader.ignore("not_in_control")
            self._report(owner, reader)

    def use_newest(self) -> bool:
        """Follow the newest command that came; False if none did."""
        if len(self._pending) > 1:
            self._pending = deque([self._pending[-1]])
        return self.use_next()

    def use_next(self) -> bool:
        """Follow the oldest command that still waits; False if none does."""
        if not self._pending:
            return False
        command = self._pending.popleft()
        if self.owner is Owner.INTERNAL:
            self.overlay.take(command)
        else:
            self._order = commanded(command)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Sleep until there is a command for who has the motors, or the time is over."""
        return bool(self._pending) or self.reader.wait(timeout_s)

    def motors(self, now_s: float) -> Motors:
        """The order for the tick that begins now."""
        silent = self.reader.silent_for(now_s) > self._watchdog_s
        if self.owner is not Owner.INTERNAL:
            return self._guarded(silent, now_s)
        if silent:
            self.overlay.fade(TICK_S)
        if self._body.ticks % WALKER_TICKS == 0:
            self._think()
        return self.overlay.over(self.locomotion.motors)

    def _think(self) -> None:
        before = self.locomotion.fsm
        target = self.overlay.over(self.locomotion.motors).q
        self.locomotion.think(self._body.state(), self.overlay.owned, target)
        if before is not self.locomotion.fsm:
            self._tell("fell", fsm=self.locomotion.fsm.name.lower())

    def _guarded(self, silent: bool, now_s: float) -> Motors:
        if self._order is None:
            return DAMPING
        if silent != self.damped:
            self.damped = silent
            silence_s = self.reader.silent_for(now_s)
            self._tell("watchdog" if silent else "commands_again", silence_s=silence_s)
        return DAMPING if silent else self._order

    def _report(self, owner: Owner, reader: CommandReader) -> None:
        for reason, count in reader.refused.items():
            if count and (owner, reason) not in self._reasons:
                self._reasons.add((owner, reason))
                self._tell("refuses", topic=reader.topic, reason=reason)
        if reader.a_b and (owner, _A_B) not in self._reasons:
            self._reasons.add((owner, _A_B))
            self._tell(_A_B, topic=reader.topic, motors=("ankles", "waist"))

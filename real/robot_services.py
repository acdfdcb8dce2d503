"""What a control process asks of the robot's services, in a thread beside its loop: a call may take its time.

The newest wish counts: a velocity that was overtaken by a newer one is never sent.
"""

import threading
import time
from typing import Final

import numpy as np

from neon_sim.real.codec import WireError, layout
from neon_sim.real.idl.unitree_hg import BmsState
from neon_sim.real.motion_switcher import MotionSwitcherClient
from neon_sim.real.rpc_errors import RpcError
from neon_sim.real.sport import Fsm, SportClient
from neon_sim.real.transport import Link, LinkError

VELOCITY_EVERY_S: Final = 0.1
ASK_EVERY_S: Final = 1.0
_TIMEOUT_S: Final = 0.5
_REST_S: Final = 0.005
_NO_ANSWER: Final = (RpcError, WireError, LinkError)  # nobody there, nonsense, or a network that is no more


class RobotServices:
    """Mode, state machine, battery and velocity of one robot.

    Attributes (written by the thread, read by anybody):
        mode: what motion_switcher says, "" = released, None = not known. mode_error: why.
        fsm: what sport says, None = not known or not asked. charge: per cent, None before the first message.
    """

    def __init__(self, link: Link, path: str, velocity_s: float) -> None:
        """velocity_s: how long one velocity moves the robot, at most 1 s."""
        self.mode: str | None = None
        self.mode_error = ""
        self.fsm: int | None = None
        self.charge: int | None = None
        self._walks_itself, self._velocity_s = path == "high_level", velocity_s
        self._switcher, self._sport = MotionSwitcherClient(link, _TIMEOUT_S), SportClient(link, _TIMEOUT_S)
        self._battery = link.reader("rt/lf/bmsstate", BmsState)
        self._velocity: np.ndarray | None = None
        self._damp = self._damped = self._release = False
        self._ends = threading.Event()
        self._next_ask_s = self._next_velocity_s = 0.0
        self._thread = threading.Thread(target=self._run, name="robot services", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def wish(self, velocity: np.ndarray | None, damp: bool) -> None:
        """What the robot's own controller is to do from now on; None leaves it alone."""
        self._velocity = velocity
        if self._damp and not damp:
            self._damped = False
        self._damp = damp

    def release_mode(self) -> None:
        """Make the motion service let go, as soon as the thread comes to it."""
        self._release = True

    def close(self) -> None:
        """Stop asking."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(4 * _TIMEOUT_S)

    def _run(self) -> None:
        while not self._ends.wait(_REST_S):
            now_s = time.monotonic()
            if self._release:
                self._release_now()
            if self._walks_itself:
                self._move(now_s)
            if now_s >= self._next_ask_s and (self._damped or not self._damp):  # first brake, then ask
                self._ask()
                self._next_ask_s = time.monotonic() + (ASK_EVERY_S if self.mode is not None else 0.0)

    def _release_now(self) -> None:
        try:
            self._switcher.release_mode()
        except _NO_ANSWER as error:
            self.mode, self.mode_error = None, str(error)
        self._release, self._next_ask_s = False, 0.0

    def _move(self, now_s: float) -> None:
        try:
            if self._damp and not self._damped:
                self._sport.set_fsm_id(Fsm.DAMP)
                self._damped = True
            elif self._velocity is not None and not self._damp and now_s >= self._next_velocity_s:
                self._next_velocity_s = now_s + VELOCITY_EVERY_S
                self._sport.set_velocity(self._velocity.tolist(), self._velocity_s)
        except _NO_ANSWER as error:  # it is asked again; the velocity's own dead-man has stopped the robot by then
            self.mode_error = str(error)

    def _ask(self) -> None:
        self._read_battery()
        try:
            self.mode = self._switcher.check_mode().name
            self.fsm = self._sport.fsm_id() if self._walks_itself and self.mode else None
        except _NO_ANSWER as error:
            self.mode, self.fsm, self.mode_error = None, None, str(error)

    def _read_battery(self) -> None:
        sample = self._battery.newest()
        if sample is None:
            return
        try:
            self.charge = int(layout(BmsState).decode(sample)["soc"])
        except WireError as error:
            self.charge, self.mode_error = None, str(error)

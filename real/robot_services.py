"""What a control process asks of the robot's services, and what it orders there, in two threads beside its loop.

Orders wait for nothing, neither for an answer nor for a question that hangs: the newest wish counts, and is repeated.
"""

import threading
import time
from typing import Final, NamedTuple

import numpy as np

from neon_sim.real.codec import WireError, layout
from neon_sim.real.idl.unitree_hg import BmsState
from neon_sim.real.motion_switcher import MotionSwitcherClient
from neon_sim.real.rpc_errors import RpcError
from neon_sim.real.sport import Fsm, SportClient
from neon_sim.real.transport import Link, LinkError

ORDER_EVERY_S: Final = 0.1  # a velocity, and DAMP until the robot says that it is damped
ASK_EVERY_S: Final = 1.0
_ASK_AGAIN_S: Final = 0.05  # what is not known, or is about to change
_SILENT_S: Final = 10.0  # without a message for so long the battery's charge is not known any more
_TIMEOUT_S: Final = 0.5
_REST_S: Final = 0.005
_NO_ANSWER: Final = (RpcError, WireError, LinkError)  # nobody there, nonsense, or a network that is no more
_DAMPED: Final = (Fsm.ZERO_TORQUE, Fsm.DAMP)


class _Wish(NamedTuple):
    """What the robot's own controller is to do."""

    velocity: np.ndarray | None  # (3,) m/s, m/s, rad/s
    damp: bool
    dampings: int  # how often damping has begun, so that none is taken for the one before


class RobotServices:
    """Mode, state machine, battery and velocity of one robot.

    DAMP is repeated until the robot's state machine says that it is there. If it says something else later, a person
    has stood it up by the remote control: that is not fought.

    Attributes (written by the threads, read by anybody):
        mode: what motion_switcher says, "" = released, None = not known. mode_error: why.
        fsm: what sport says; None = not known, not asked, or asked to damp and not yet seen to.
        charge: per cent, None before the first message and when none has come for ten seconds.
    """

    def __init__(self, link: Link, path: str, velocity_s: float) -> None:
        """velocity_s: how long one velocity moves the robot, at most 1 s."""
        self.mode: str | None = None
        self.mode_error = ""
        self.fsm: int | None = None
        self.charge: int | None = None
        self._walks_itself, self._velocity_s = path == "high_level", velocity_s
        self._switcher, self._sport = MotionSwitcherClient(link, _TIMEOUT_S), SportClient(link, _TIMEOUT_S)
        self._battery, self._charged_s = link.reader("rt/lf/bmsstate", BmsState), 0.0
        self._wish = _Wish(None, False, 0)
        self._seen_damped = 0  # the damping that the robot has said to be in
        self._one_fsm = threading.Lock()  # an answer is noted, or a damping begins
        self._release = False
        self._ends, self._ask_now = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._ask_on, name="robot questions", daemon=True)]
        if self._walks_itself:
            self._threads.append(threading.Thread(target=self._order_on, name="robot orders", daemon=True))

    def start(self) -> None:
        """Begin to ask and to order."""
        for thread in self._threads:
            thread.start()

    def wish(self, velocity: np.ndarray | None, damp: bool) -> None:
        """What the robot's own controller is to do from now on; None leaves it alone."""
        before = self._wish
        if not damp or before.damp:
            self._wish = _Wish(velocity, damp, before.dampings)
            return
        with self._one_fsm:
            self.fsm = None  # whatever was known is over
            self._wish = _Wish(velocity, damp, before.dampings + 1)
        self._ask_now.set()

    def release_mode(self) -> None:
        """Make the motion service let go, as soon as the thread comes to it."""
        self._release = True
        self._ask_now.set()

    def close(self) -> None:
        """Stop asking and ordering."""
        self._ends.set()
        self._ask_now.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(4 * _TIMEOUT_S)

    def _order_on(self) -> None:
        """The thread of orders."""
        dampings, due_s = 0, 0.0
        while not self._ends.wait(_REST_S):
            wish, now_s = self._wish, time.monotonic()
            if now_s < due_s and wish.dampings == dampings:
                continue
            if self._order(wish):
                dampings, due_s = wish.dampings, now_s + ORDER_EVERY_S

    def _order(self, wish: _Wish) -> bool:
        """Send what is wished now; False if there is nothing to be sent, or nobody to send it to."""
        try:
            if wish.damp and self._seen_damped < wish.dampings:
                self._sport.post_fsm_id(Fsm.DAMP)
            elif wish.velocity is not None and not wish.damp:
                self._sport.post_velocity(wish.velocity.tolist(), self._velocity_s)
            else:
                return False
        except _NO_ANSWER as error:  # it is tried again; the velocity's own dead-man has stopped the robot by then
            self.mode_error = str(error)
            return False
        return True

    def _ask_on(self) -> None:
        """The thread of questions."""
        while not self._ends.is_set():
            self._ask_now.clear()
            if self._release:
                self._release_now()
            self._ask()
            known = self.mode is not None and (self.fsm is not None or not self._walks_itself or not self.mode)
            self._ask_now.wait(ASK_EVERY_S if known else _ASK_AGAIN_S)

    def _release_now(self) -> None:
        self._release = False
        try:
            self._switcher.release_mode()
        except _NO_ANSWER as error:
            self.mode, self.mode_error = None, str(error)

    def _ask(self) -> None:
        self._read_battery()
        try:
            self.mode = self._switcher.check_mode().name
        except _NO_ANSWER as error:
            self.mode, self.mode_error = None, str(error)
        if self._walks_itself:
            self._ask_fsm()

    def _ask_fsm(self) -> None:
        asked = self._wish
        try:
            fsm = None if self.mode == "" else self._sport.fsm_id()
        except _NO_ANSWER as error:
            fsm, self.mode_error = None, str(error)
        with self._one_fsm:
            if asked.dampings != self._wish.dampings:
                return  # it may have been answered before that damping began
            if fsm in _DAMPED:
                self._seen_damped = asked.dampings
            self.fsm = fsm if self._seen_damped == asked.dampings else None

    def _read_battery(self) -> None:
        now_s = time.monotonic()
        try:
            sample = self._battery.newest()
            if sample is not None:
                self.charge, self._charged_s = int(layout(BmsState).decode(sample)["soc"]), now_s
            elif now_s - self._charged_s > _SILENT_S:
                self.charge = None
        except _NO_ANSWER as error:
            self.charge, self.mode_error = None, str(error)

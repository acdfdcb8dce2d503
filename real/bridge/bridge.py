"""The simulated G1 behind the robot's own topics and services: clients cannot tell it from hardware."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from neon_sim.real.bridge.body import Body
from neon_sim.real.bridge.config import TICK_S, WALKER_TICKS, BridgeConfig
from neon_sim.real.bridge.control import Control, Owner
from neon_sim.real.bridge.faults import WireFaults
from neon_sim.real.bridge.gamepad import Gamepad
from neon_sim.real.bridge.gestures import Arms
from neon_sim.real.bridge.locomotion import Locomotion
from neon_sim.real.bridge.pace import Lateness, Pace
from neon_sim.real.bridge.services import Services, offer_services
from neon_sim.real.bridge.states import StatePublisher
from neon_sim.real.idl.unitree_hg import LowCmd
from neon_sim.real.transport import Link, LinkError, Writer

if TYPE_CHECKING:
    from neon_sim.real.bridge.senses import Senses

REPEAT_S: Final = 0.05  # in lock-step the present state is said again so often, for who came late
_LOG = logging.getLogger(__name__)
_DEBUG_MODE: Final = ("L2", "R2")  # the operator's way to release the motors


@dataclass(frozen=True)
class Event:
    """Something that a person would want to know.

    name: "motors" (somebody else has them), "fsm" (a client changed the state), "fell", "watchdog", "commands_again",
    "refuses" and "a_b_taken_as_pitch_roll" (once per topic), "faults" (those that are on), "gantry", "says", "plays",
    "service_failed" (once per reason), "senses_ended".
    """

    name: str
    time_s: float  # simulated
    at_s: float  # of CLOCK_MONOTONIC, which all processes of a machine share
    details: dict[str, Any]


class Bridge:
    """A simulated G1 on the wire.

    Use it as a context manager and call `step` for as long as it is to live, or run it as a process of its own:
    `python -m neon_sim.real.bridge`. CycloneDDS allows one `Link` per process and domain: a client in the same process
    uses `bridge.link`.

    Attributes:
        body: the machine itself: model, data, ticks. events: what happened, newest last.
    """

    def __init__(self, config: BridgeConfig | None = None) -> None:
        self.config = config = config or BridgeConfig()
        self.body = Body(config)
        self.events: deque[Event] = deque(maxlen=1000)
        self.lock = threading.RLock()  # held through every tick: services and tests look in between
        self.link: Link
        self._running = False
        self._senses: Senses | None = None
        self._sees = False
        self._services: Services | None = None
        self._second_writer: Writer | None = None

    def start(self) -> "Bridge":
        """Join the domain and publish the first state.

        Raises:
            LinkError: not loopback without `allow_network`, the domain cannot be opened, or a sense does not start.
            ImportError: a sense needs an extra that is missing.
        """
        if self._running:
            return self
        self.link = Link(self.config.link())
        arms = Arms()
        self.locomotion = Locomotion(self.body.robot.walker, arms)
        self.control = Control(self.link, self.body, self.locomotion, self.config, self._tell)
        self.states = StatePublisher(self.link, self.body, self.config)
        self._running = True
        try:
            if self.config.senses:
                self._senses = open_senses(self.config, self.body)
                self._sees = True
            speaker = self._senses if "audio" in self.config.senses else None
            self._services = offer_services(self.link, self.control, arms, self.body, self._tell, speaker, self.lock)
        except (LinkError, ImportError):
            self.close()
            raise
        self._publish()
        self._pace = Pace(TICK_S, time.monotonic())
        return self

    def step(self) -> bool:
        """Real time: sleep until the next deadline and let 2 ms pass. Lock-step: let a command's time pass.

        Returns:
            False if no time passed, because in lock-step no command came within `REPEAT_S`.

        Raises:
            LinkError: not started, or closed.
        """
        if not self._running:
            raise LinkError("This bridge does not run. Call start(), or use it in a with statement.")
        if self.config.mode == "lock_step":
            return self._lock_step()
        now_s = self._pace.wait()
        with self.lock:
            self.control.poll(now_s)
            self.control.use_newest()
            self._tick(now_s)
            self._publish()
        return True

    def inject(self, faults: WireFaults) -> None:
        """Let something be wrong on the wire from the next state on; `WireFaults()` heals everything."""
        with self.lock:
            self.states.inject(faults)
            self._tell("faults", wrong=faults.wrong())
            if faults.second_writer and self._second_writer is None:
                self._second_writer = self.link.writer(Owner.LOW_CMD.value, LowCmd)
            elif not faults.second_writer and self._second_writer is not None:
                self._second_writer.close()
                self._second_writer = None

    def press(self, gamepad: Gamepad) -> None:
        """Hold the operator's sticks and buttons so. L2 and R2 together release the motors, as on the robot."""
        with self.lock:
            self.states.gamepad = gamepad
            if set(_DEBUG_MODE) <= set(gamepad.buttons) and self.control.owner is not Owner.LOW_CMD:
                self.control.hand_over(Owner.LOW_CMD)

    def hang(self, holds: bool) -> None:
        """Let the robot down from its gantry (False), or take it up again. Raises ValueError without a gantry."""
        with self.lock:
            self.body.hang(holds)
            self._tell("gantry", holds=holds)

    def lateness(self) -> Lateness:
        """How late the last real-time ticks were."""
        return self._pace.lateness()

    def close(self) -> None:
        """Leave the domain and free the simulation. Safe to call twice."""
        if self._running:
            self._running = False
            if self._services is not None:
                self._services.close()
            if self._senses is not None:
                self._senses.close()
            self.link.close()
        self.body.close()

    def __enter__(self) -> "Bridge":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock_step(self) -> bool:
        heard = self.control.wait(REPEAT_S)
        with self.lock:
            now_s = self.body.time_s  # simulated time is the clock: a slow client is no silent one
            self.control.poll(now_s)
            if not heard or not self.control.use_next():
                self.states.publish_low_state()
                return False
            for _ in range(self.config.lock_step_ticks):
                self._tick(now_s)
            self._publish()
        return True

    def _tick(self, now_s: float) -> None:
        self.body.drive(self.control.motors(now_s))
        self.body.tick()

    def _publish(self) -> None:
        locomotion = self.locomotion
        if self._sees and self.body.ticks % WALKER_TICKS == 0:
            self._show()
        self.states.publish(int(locomotion.fsm), int(locomotion.moving))

    def _show(self) -> None:
        """A robot whose camera has died still stands: it goes on without its senses, and says so."""
        assert self._senses is not None
        try:
            self._senses.show()
        except LinkError as error:
            self._sees = False
            self._senses.close()
            self._tell("senses_ended", why=str(error))
            _LOG.error("%s", error)

    def _tell(self, name: str, **details: Any) -> None:
        self.events.append(Event(name, self.body.time_s, time.monotonic(), details))


def open_senses(config: BridgeConfig, body: Body) -> "Senses":
    """Start the senses; their imports (a renderer, a voice) are not for a bridge without them."""
    from neon_sim.real.bridge.senses import Senses

    return Senses(config, body)

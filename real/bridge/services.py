"""The robot's services, answered by the simulated one: sport, motion_switcher, arm, voice."""

import importlib.util
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from neon_sim.real.arm_gestures import Gesture, serve_arm_gestures
from neon_sim.real.bridge.body import Body
from neon_sim.real.bridge.control import Control, Owner, Tell
from neon_sim.real.bridge.gestures import Arms
from neon_sim.real.motion_switcher import MotionMode, serve_motion_switcher
from neon_sim.real.rpc import RpcServer
from neon_sim.real.rpc_errors import (
    ArmsTakenError,
    BadParameterError,
    NoGestureNowError,
    ServerFailedError,
    SportUnavailableError,
    UnknownApiError,
    UnknownTaskError,
)
from neon_sim.real.sport import Fsm, serve_sport
from neon_sim.real.transport import Link, LinkError
from neon_sim.real.voice import serve_voice

MODE_NAME: Final = "ai"  # what motion_switcher calls the G1's own program
_POLL_S: Final = 0.005
_FAILURES: Final = (ArithmeticError, LookupError, OSError, TypeError, ValueError, LinkError)  # what a request can cause
_LOG = logging.getLogger(__name__)
_TASKS: Final = (Gesture.HIGH_WAVE, Gesture.HIGH_WAVE, Gesture.SHAKE_HAND, Gesture.RELEASE)  # sport's arm tasks 0..3
_ON_FEET: Final = (Fsm.STAND_UP, Fsm.WALK, Fsm.SQUAT)


class Loudspeaker(Protocol):
    """Where the robot's voice goes: into the simulated room."""

    def say(self, text: str, volume: int) -> None:
        """Speak a text, volume 0..100."""

    def play(self, app: str, pcm: bytes, volume: int) -> None:
        """Add 16 kHz 16-bit mono sound to a program's stream."""

    def stop(self, app: str) -> None:
        """Silence a program's stream."""


class SimSport:
    """`Sport`, by our walker. What it does not have answers UnknownApiError, as an older firmware would."""

    def __init__(self, control: Control, arms: "SimGestures", body: Body, lock: threading.RLock) -> None:
        self._control, self._arms, self._body, self._lock = control, arms, body, lock
        self._locomotion = control.locomotion

    def fsm_id(self) -> int:
        """See `Sport`."""
        return int(self._locomotion.fsm)

    def fsm_mode(self) -> int:
        """1 while a velocity is commanded, else 0; what the robot's numbers mean is not published."""
        return int(self._locomotion.moving)

    def balance_mode(self) -> int:
        """Always 0: it stands when it can."""
        return 0

    def swing_height(self) -> float:
        """Not here: the walker lifts its feet as it needs."""
        raise UnknownApiError("the simulated walker has no swing height")

    def stand_height(self) -> float:
        """Pelvis above the floor, m, as commanded."""
        return self._locomotion.height

    def set_fsm_id(self, fsm_id: int) -> None:
        """See `Sport`."""
        with self._lock:
            self._refuse_without_motors()
            self._control.go_to(fsm_id)

    def set_balance_mode(self, mode: int) -> None:
        """Only 0: the walker stands when nothing asks it to go."""
        if mode != 0:
            raise UnknownApiError(f"balance mode {mode}; the simulated walker does not step on the spot")

    def set_swing_height(self, height: float) -> None:
        """Not here."""
        raise UnknownApiError("the simulated walker has no swing height")

    def set_stand_height(self, height: float) -> None:
        """Metres, cut to what the walker reaches: 0 and 2**32 - 1 are the lowest and the highest, as on the robot."""
        with self._lock:
            self._refuse_without_motors()
            self._locomotion.order_height(height)

    def set_velocity(self, velocity: Sequence[float], duration_s: float = 1.0) -> None:
        """See `Sport`. The time is simulated time, and ends the walk whatever the client does."""
        if not duration_s > 0.0:
            raise BadParameterError(f"wanted a duration above 0 s, got {duration_s}")
        with self._lock:
            self._refuse_without_motors()
            self._locomotion.order_velocity(velocity, self._body.time_s + duration_s)

    def set_arm_task(self, task_id: int) -> None:
        """Wave (0, and 1, without the turn), hold out the hand (2), take it back (3)."""
        if not 0 <= task_id < len(_TASKS):
            raise UnknownTaskError(f"{task_id}; there are 0..{len(_TASKS) - 1}")
        self._arms.execute(_TASKS[task_id])

    def set_speed_mode(self, mode: int) -> None:
        """Not here: the walker has one range of speeds."""
        raise UnknownApiError("the simulated walker has one range of speeds")

    def to_user_control(self) -> None:
        """See `Sport`."""
        with self._lock:
            self._control.hand_over(Owner.USER_CMD)

    def to_internal_control(self, state: int) -> None:
        """See `Sport`. Into the last state (0), braking (1) or walking (2)."""
        if state not in (0, 1, 2):
            raise BadParameterError(f"wanted 0 (last state), 1 (passive) or 2 (walking), got {state}")
        fsm = (self._locomotion.fsm, Fsm.DAMP, Fsm.WALK)[state]
        with self._lock:
            self._control.hand_over(Owner.INTERNAL, fsm)

    def _refuse_without_motors(self) -> None:
        if self._control.owner is not Owner.INTERNAL:
            raise SportUnavailableError("rt/user_lowcmd has the motors; take them back first (7111)")


class SimSwitcher:
    """`MotionSwitcher`: one program, "ai", or none."""

    def __init__(self, control: Control, lock: threading.RLock) -> None:
        self._control, self._lock = control, lock

    def check_mode(self) -> MotionMode:
        """See `MotionSwitcher`."""
        return MotionMode("0", "" if self._control.owner is Owner.LOW_CMD else MODE_NAME)

    def select_mode(self, name: str) -> None:
        """See `MotionSwitcher`. The program begins with braking motors."""
        if name != MODE_NAME:
            raise BadParameterError(f"the simulated robot has one program, {MODE_NAME!r}, got {name!r}")
        with self._lock:
            if self._control.owner is Owner.LOW_CMD:
                self._control.hand_over(Owner.INTERNAL)

    def release_mode(self) -> None:
        """See `MotionSwitcher`. The motors brake until commands come on rt/lowcmd."""
        with self._lock:
            if self._control.owner is not Owner.LOW_CMD:
                self._control.hand_over(Owner.LOW_CMD)


class SimGestures:
    """`ArmGestures`, where the state of the robot and rt/arm_sdk allow them."""

    def __init__(self, control: Control, arms: Arms, lock: threading.RLock) -> None:
        self._control, self._arms, self._lock = control, arms, lock

    def execute(self, gesture: int) -> None:
        """See `ArmGestures`."""
        with self._lock:
            if self._control.owner is not Owner.INTERNAL or self._control.locomotion.fsm not in _ON_FEET:
                raise NoGestureNowError(self._control.locomotion.fsm.name)
            if self._control.overlay.weight > 0.0:
                raise ArmsTakenError(f"weight {self._control.overlay.weight:.2f}")
            self._arms.execute(gesture)

    def gestures(self) -> Sequence[Any]:
        """See `ArmGestures`."""
        return self._arms.gestures()


class SimVoice:
    """`Voice`. What is said is told as an event, and sounds in the room where a simulated microphone hears it."""

    def __init__(self, tell: Tell, speaker: Loudspeaker | None) -> None:
        self._tell, self._speaker = tell, speaker
        self._volume = 100
        self.light = (0, 0, 0)

    def speak(self, text: str, speaker_id: int = 0) -> None:
        """See `Voice`. Every speaker is eSpeak NG's one voice."""
        if "\0" in text or text != text.encode(errors="ignore").decode():
            raise BadParameterError("wanted text that can be said: no zero byte, no half of a surrogate pair")
        self._tell("says", text=text)
        if self._speaker is None:
            return
        if importlib.util.find_spec("espeakng_loader") is None:
            raise ServerFailedError("the simulated voice needs eSpeak NG: pip install 'neon-sim[speech]'")
        self._speaker.say(text, self._volume)

    def play(self, app: str, stream: str, pcm: bytes) -> None:
        """See `Voice`."""
        self._tell("plays", app=app, samples=len(pcm) // 2)
        if self._speaker is not None:
            self._speaker.play(app, pcm, self._volume)

    def stop(self, app: str) -> None:
        """See `Voice`."""
        if self._speaker is not None:
            self._speaker.stop(app)

    def volume(self) -> int:
        """See `Voice`."""
        return self._volume

    def set_volume(self, volume: int) -> None:
        """See `Voice`."""
        self._volume = volume

    def set_light(self, red: int, green: int, blue: int) -> None:
        """See `Voice`."""
        self.light = (red, green, blue)


class Services:
    """All services in a thread of their own, because an answer may have to wait for its client's reader to appear.

    `sport` is there only while the robot's own program has the motors or has lent them to rt/user_lowcmd. A request
    that fails in a way that no status is made for (a number that nobody thought of, a loudspeaker whose process has
    ended) is answered with ServerFailedError, logged and told as an event, and ends nothing.
    """

    def __init__(
        self, control: Control, always: Sequence[RpcServer], offer_sport: Callable[[], RpcServer], tell: Tell
    ) -> None:
        self._control, self._always, self._offer_sport, self._tell = control, always, offer_sport, tell
        self._sport: RpcServer | None = None
        self._failures: set[tuple[str, str]] = set()  # service and words: each is told once
        self._choose()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="services", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering. Safe to call twice."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_POLL_S):
            for server in self._always:
                self._poll(server)
            self._choose()
            if self._sport is not None:
                self._poll(self._sport)

    def _poll(self, server: RpcServer) -> None:
        try:
            server.poll()
        except _FAILURES as error:
            words = f"{type(error).__name__}: {error}"
            if (server.service, words) not in self._failures:
                self._failures.add((server.service, words))
                _LOG.exception("The service %s failed, and goes on.", server.service)
                self._tell("service_failed", service=server.service, why=words)

    def _choose(self) -> None:
        if self._control.owner is Owner.LOW_CMD:
            self._sport = None  # nobody holds it any more: it leaves the domain
        elif self._sport is None:
            self._sport = self._offer_sport()


def offer_services(
    link: Link, control: Control, arms: Arms, body: Body, tell: Tell, speaker: Loudspeaker | None, lock: threading.RLock
) -> Services:
    """Start answering for a robot. lock: held through every tick, so that no call meets a half-done one."""
    gestures = SimGestures(control, arms, lock)
    sport = SimSport(control, gestures, body, lock)
    always = (
        serve_motion_switcher(link, SimSwitcher(control, lock)),
        serve_arm_gestures(link, gestures),
        serve_voice(link, SimVoice(tell, speaker)),
    )
    return Services(control, always, lambda: serve_sport(link, sport), tell)

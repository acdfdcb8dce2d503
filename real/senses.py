"""The senses of a real robot, as the same frames that the simulation gives: same keys, shapes, types and rates."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neon_sim.names import nearest
from neon_sim.real.codec import WireError
from neon_sim.real.ears import MicrophoneGroup
from neon_sim.real.errors import SenseError
from neon_sim.real.eyes import RealSenseCamera, ZmqCamera
from neon_sim.real.scans import ImuTopic, LidarTopic, OdometryTopic
from neon_sim.real.sense_source import Place, Receiver

if TYPE_CHECKING:
    from neon_sim.sensors.sensor import SensorConfig

STALE_S: Final = (
    1.0  # without a new frame a sense is called stale; so many frames are missing even at the LiDAR's 10 Hz
)
_ASK_S: Final = 0.005
Now = tuple[float, np.ndarray]  # the robot's own clock in s, and its joint_pos (29,) rad


@dataclass(frozen=True)
class SenseSources:
    """Where each sense of a robot is to be had, by its observation key; None = the robot has it not."""

    camera: ZmqCamera | RealSenseCamera | None = None
    lidar: LidarTopic | None = None
    audio: MicrophoneGroup | None = None
    imu: ImuTopic | None = None
    gps: OdometryTopic | None = None

    def absent(self, wanted: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of the wanted senses that are not to be had."""
        return tuple(name for name in wanted if getattr(self, name, None) is None)


STOCK: Final = SenseSources(ZmqCamera(), LidarTopic(), MicrophoneGroup(), ImuTopic(), OdometryTopic())
SENSE_NAMES: Final = tuple(part.name for part in fields(SenseSources))


def simulated_senses(
    names: Sequence[str] = SENSE_NAMES, camera_port: int = 5555, microphone_port: int = 5555
) -> SenseSources:
    """The sources of the simulated robot on this machine (`python -m neon_sim.real.bridge --senses ...`).

    Raises:
        ValueError: a sense that it has not, naming the nearest that it has.
    """
    there: dict[str, Any] = {
        "camera": ZmqCamera(f"tcp://127.0.0.1:{camera_port}"),
        "lidar": LidarTopic(reliable=True),
        "audio": MicrophoneGroup(port=microphone_port),
        "imu": ImuTopic(),
        "gps": OdometryTopic(),
    }
    for name in names:
        if name not in there:
            raise nearest("sense of the simulated robot", name, there)
    return SenseSources(**{name: there[name] for name in names})


class RobotSenses:
    """All senses that an env wants of a robot.

    A frame is taken when it is due by the wanted rate, and repeated until the next one has come, as in simulation.
    Before its first frame a sense is zeros.

    Args:
        sources: where they are to be had.
        wanted: the simulation's config of each, by observation key.
        place: the network.

    Attributes:
        masked: names of those that stay zeros, because there is no source or nothing came from it.

    Raises:
        ValueError: a source cannot give what is wanted. SenseError: a source cannot be opened.
    """

    def __init__(self, sources: SenseSources, wanted: "Mapping[str, SensorConfig]", place: Place) -> None:
        self.masked = sources.absent(wanted)
        self._rate_hz = {name: config.rate_hz for name, config in wanted.items()}
        self._frames = {name: np.zeros(c.space().shape, c.space().dtype) for name, c in wanted.items()}
        self._came_s: dict[str, float] = {}
        self._due_s: dict[str, float] = {}
        self._words: dict[str, str] = {}
        self._receivers: dict[str, Receiver] = {}
        with ExitStack() as undo:  # one that cannot be opened closes those that are
            undo.callback(self.close)
            for name, config in wanted.items():
                if name not in self.masked:
                    self._receivers[name] = getattr(sources, name).open(config, place)
            undo.pop_all()

    def wait(self, now: Callable[[], Now], timeout_s: float, mask: bool) -> None:
        """Wait for the first frame of each; mask: those from which none comes are zeros from then on.

        Raises:
            SenseError: nothing came from one, and mask is False.
        """
        deadline_s = time.monotonic() + timeout_s
        while missing := [name for name in self._receivers if name not in self._came_s]:
            if time.monotonic() > deadline_s:
                break
            time.sleep(_ASK_S)
            self.frames(missing, *now())
        if missing and not mask:
            what = "; ".join(f"{name} ({self._words.get(name, 'nothing came')})" for name in missing)
            raise SenseError(
                f"No frame in {timeout_s:g} s of {what}. Is it on, and is its address right (RobotConfig.senses)? "
                'Leave it out of the env\'s sensors, or set absent_senses="mask" to see zeros.'
            )
        for name in missing:
            self._receivers.pop(name).close()
        self.masked += tuple(missing)

    def frames(self, names: Sequence[str], now_s: float, joint_pos: np.ndarray) -> dict[str, np.ndarray]:
        """A copy of each named sense's newest frame. now_s: the robot's own clock. joint_pos: (29,) rad.

        Raises:
            ValueError: a sense that nobody wanted.
        """
        for name in names:
            if name not in self._frames:
                raise nearest("sensor", name, self._frames)
            if name in self._receivers and self._is_due(name, now_s):
                self._look(name, now_s, joint_pos)
        return {name: self._frames[name].copy() for name in names}

    def stale(self, now_s: float) -> dict[str, str]:
        """Senses whose newest frame is old, and why, in words."""
        old = {}
        for name in self._receivers:
            came_s = self._came_s.get(name)
            if came_s is None or now_s - came_s > STALE_S:
                age = "no frame yet" if came_s is None else "no new frame"
                old[name] = self._words.get(name, age)
        return old

    def close(self) -> None:
        """Let go of all. Safe to call twice."""
        for receiver in self._receivers.values():
            receiver.close()
        self._receivers.clear()

    def _is_due(self, name: str, now_s: float) -> bool:
        if now_s < self._came_s.get(name, -np.inf):  # the robot has booted again: its clock has too
            del self._came_s[name], self._due_s[name]
        return now_s >= self._due_s.get(name, -np.inf) - 1e-9

    def _look(self, name: str, now_s: float, joint_pos: np.ndarray) -> None:
        try:
            frame = self._receivers[name].look(now_s, joint_pos)
        except WireError as error:  # a broken picture is no reason to leave an armed robot alone: `stale` tells of it
            self._words[name] = str(error)
            return
        if frame is None:
            return
        period_s = 1.0 / self._rate_hz[name]
        self._frames[name], self._came_s[name] = frame, now_s
        self._due_s[name] = max(self._due_s.get(name, now_s), now_s - period_s) + period_s
        self._words.pop(name, None)

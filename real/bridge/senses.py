"""Camera, LiDAR and microphone of the simulated robot, in a process of its own: a picture must not make a tick late.

Pictures go as JPEG over ZMQ (xr_teleoperate's image server), points as PointCloud2 over DDS, sound as UDP multicast
(unitree_sdk2 example/g1/audio). The bridge sends the simulation's state fifty times a second; the process that falls
behind skips some. In lock-step the bridge waits for it instead.
"""

import multiprocessing
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Protocol

import mujoco
import numpy as np

from neon_sim import espeak
from neon_sim.real.bridge.body import Body
from neon_sim.real.bridge.config import BridgeConfig
from neon_sim.real.bridge.outlets import CameraOutlet, MicrophoneOutlet, jpeg, pcm_of
from neon_sim.real.idl.ros import PointCloud2
from neon_sim.real.point_cloud import PointCloud, encode_point_cloud
from neon_sim.real.transport import Link, LinkError
from neon_sim.real.voice import SAMPLE_RATE_HZ
from neon_sim.sensors.audio import SoundSource

LIDAR_TOPIC: Final = "rt/utlidar/cloud_livox_mid360"
POINT: Final = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2"), ("time", "<f4")]
)  # 22 bytes; intensity, ring and time are not simulated and stay 0
_MOST_AHEAD: Final = 2  # states that may wait for the process in real time
_READY_S: Final = 120.0  # a renderer and a DDS domain open in this time, or something is wrong
_ENDED: Final = "The process of the senses has ended. It says why on standard error."
_SPEECH_LEVEL: Final = 0.1  # of full scale at 1 m: speech of 60 dB SPL peaks there


@dataclass(frozen=True, eq=False)
class Scene:
    """The simulation at one moment: all that a sense looks at."""

    time_s: float
    qpos: np.ndarray
    qvel: np.ndarray
    mocap_pos: np.ndarray
    mocap_quat: np.ndarray


class Sense(Protocol):
    """One sense and its way out."""

    def look(self, data: mujoco.MjData, time_s: float) -> None:
        """Publish a frame if one is due."""

    def close(self) -> None:
        """Free what is held."""


class Senses:
    """The other process, as the bridge sees it. Also the robot's loudspeaker, because the room is over there.

    Once it has ended, everything that is sent to it raises LinkError.
    """

    def __init__(self, config: BridgeConfig, body: Body) -> None:
        """Start it and wait until it can see.

        Raises:
            LinkError: it does not come up; its own last words are on standard error.
        """
        self._body, self._waits = body, config.mode == "lock_step"
        context = multiprocessing.get_context("spawn")  # a fork would share the bridge's DDS domain
        self._line, theirs = context.Pipe()
        heard, self._sounds = context.Pipe(duplex=False)  # of its own: the services' thread writes to it
        self._process = context.Process(target=serve, args=(config, body.model, theirs, heard), daemon=True)
        self._process.start()
        theirs.close()
        heard.close()
        self._ahead = 1
        if not self._line.poll(_READY_S) or not self._heard():
            raise LinkError(f"The senses {config.senses} did not start. Their process says why on standard error.")

    def show(self) -> None:
        """Let the senses see the body as it stands."""
        data = self._body.data
        while self._ahead and self._line.poll(None if self._waits else 0.0):
            self._heard()
        if self._ahead >= _MOST_AHEAD:
            return
        parts = (data.qpos.copy(), data.qvel.copy(), data.mocap_pos.copy(), data.mocap_quat.copy())
        self._send(self._line, Scene(self._body.time_s, *parts))
        self._ahead += 1

    def say(self, text: str, volume: int) -> None:
        """See `Loudspeaker`."""
        self._send(self._sounds, ("say", text, volume))

    def play(self, app: str, pcm: bytes, volume: int) -> None:
        """See `Loudspeaker`."""
        self._send(self._sounds, ("play", app, pcm, volume))

    def stop(self, app: str) -> None:
        """See `Loudspeaker`."""
        self._send(self._sounds, ("stop", app))

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._line.close()
        self._sounds.close()
        if self._process.is_alive():
            self._process.join(5.0)
        if self._process.is_alive():
            self._process.terminate()

    def _heard(self) -> bool:
        try:
            self._line.recv()
        except (EOFError, ConnectionResetError) as error:
            raise LinkError(_ENDED) from error
        self._ahead -= 1
        return True

    def _send(self, line: Connection, what: Any) -> None:
        try:
            line.send(what)
        except OSError as error:  # broken, or closed because it was found broken
            raise LinkError(_ENDED) from error


def serve(config: BridgeConfig, model: mujoco.MjModel, line: Connection, sounds: Connection) -> None:
    """What the other process runs: see, publish, acknowledge, until the bridge hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the bridge, and the bridge hangs up
    data = mujoco.MjData(model)
    rng = np.random.default_rng(config.seed)
    link = Link(config.link()) if "lidar" in config.senses else None
    room = Room(config, model, rng)
    senses: list[Sense] = [room] if "audio" in config.senses else []
    if "camera" in config.senses:
        senses.append(Eye(config, model))
    if link is not None:
        senses.append(Scanner(config, model, rng, link))
    line.send(True)
    try:
        while True:
            ready = wait([sounds, line])
            if sounds in ready:  # first, so that what was said before a state is heard in it
                room.obey(*sounds.recv())
            elif line in ready:
                _see(line.recv(), data, model, senses)
                line.send(True)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the bridge has hung up
    finally:
        for sense in senses:
            sense.close()
        if link is not None:
            link.close()


def _see(scene: Scene, data: mujoco.MjData, model: mujoco.MjModel, senses: list[Sense]) -> None:
    data.time, data.qpos[:], data.qvel[:] = scene.time_s, scene.qpos, scene.qvel
    data.mocap_pos[:], data.mocap_quat[:] = scene.mocap_pos, scene.mocap_quat
    mujoco.mj_forward(model, data)  # contacts too: steps are heard
    for sense in senses:
        sense.look(data, scene.time_s)


class Due:
    """A rate kept on average, whatever times it is asked at."""

    def __init__(self, rate_hz: float) -> None:
        self._period_s, self._next_s = 1.0 / rate_hz, 0.0

    def now(self, time_s: float) -> bool:
        """True if a period has passed since the last time that it said so."""
        if time_s < self._next_s - 1e-9:
            return False
        self._next_s = max(self._next_s, time_s - self._period_s) + self._period_s
        return True


class Eye:
    """The camera, as JPEG."""

    def __init__(self, config: BridgeConfig, model: mujoco.MjModel) -> None:
        self._camera, self._due = config.camera.build(model), Due(config.camera.rate_hz)
        self._outlet = CameraOutlet(config.interface, config.camera_port)

    def look(self, data: mujoco.MjData, time_s: float) -> None:
        """See `Sense`."""
        if self._due.now(time_s):
            self._outlet.send(jpeg(self._camera.capture(data, time_s)))

    def close(self) -> None:
        """See `Sense`."""
        self._camera.close()
        self._outlet.close()


class Scanner:
    """The LiDAR, in its own frame: upside down on the robot, so that z points to the floor."""

    def __init__(self, config: BridgeConfig, model: mujoco.MjModel, rng: np.random.Generator, link: Link) -> None:
        self._lidar, self._due = config.lidar.build(model), Due(config.lidar.rate_hz)
        self._lidar.reset(rng)
        self._writer = link.writer(LIDAR_TOPIC, PointCloud2)
        site = model.site(config.lidar.site)
        self._origin, self._matrix = site.pos.copy(), np.empty(9)
        mujoco.mju_quat2Mat(self._matrix, site.quat)

    def look(self, data: mujoco.MjData, time_s: float) -> None:
        """See `Sense`."""
        if self._due.now(time_s):
            points = self._lidar.capture(data, time_s).reshape(-1, 3)
            cloud = lidar_points(points, self._origin, self._matrix.reshape(3, 3))
            self._writer.write(encode_point_cloud(PointCloud(time_s, "livox_frame", cloud)))

    def close(self) -> None:
        """See `Sense`."""
        self._lidar.close()


class Room:
    """The microphone, and what the robot's own loudspeaker adds to what it hears."""

    def __init__(self, config: BridgeConfig, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        self._microphone, self._due = config.audio.build(model), Due(1.0 / config.audio.window_s)
        self._microphone.reset(rng)
        self._outlet = MicrophoneOutlet(config.interface, config.microphone_port)
        self._ends_s: dict[str, tuple[str, float]] = {}  # source -> program, end
        self._now_s, self._count = 0.0, 0

    def look(self, data: mujoco.MjData, time_s: float) -> None:
        """See `Sense`."""
        self._now_s = time_s
        if not self._due.now(time_s):
            return
        self._outlet.send(pcm_of(self._microphone.capture(data, time_s)))
        for name in [name for name, (_, end_s) in self._ends_s.items() if end_s + 1.0 < time_s]:
            self._silence(name)

    def obey(self, order: str, *details: Any) -> None:
        """Carry out what `Senses` passes on."""
        if order == "say":
            text, volume = details
            self._sound("speech", spoken(text), volume)
        elif order == "play":
            app, pcm, volume = details
            self._sound(app, np.frombuffer(pcm, "<i2") / 32768.0, volume)
        else:
            for name in [name for name, (app, _) in self._ends_s.items() if app == details[0]]:
                self._silence(name)

    def close(self) -> None:
        """See `Sense`."""
        self._outlet.close()

    def _sound(self, app: str, samples: np.ndarray, volume: int) -> None:
        """Chunks of one program follow each other without a gap; one without samples is no sound."""
        if not len(samples):
            return
        start_s = max([self._now_s, *(end_s for owner, end_s in self._ends_s.values() if owner == app)])
        name = f"{app} {self._count}"
        self._count += 1
        level = _SPEECH_LEVEL * volume / 100
        self._microphone.add_source(SoundSource(name, samples, self._microphone.config.body, level, start_s))
        self._ends_s[name] = app, start_s + len(samples) / SAMPLE_RATE_HZ

    def _silence(self, name: str) -> None:
        self._microphone.remove_source(name)
        del self._ends_s[name]


def spoken(text: str) -> np.ndarray:
    """A text as eSpeak NG says it: samples (S,) in [-1, 1] at the microphone's 16 kHz."""
    from scipy.signal import resample_poly  # takes as long to import as everything else here together

    samples, rate_hz = espeak.speak(text)
    return resample_poly(samples, SAMPLE_RATE_HZ, rate_hz)


def lidar_points(points: np.ndarray, origin: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (N, 3) m of the torso frame, misses 0, as columns (M,) of `POINT` in the frame of a sensor mounted there.

    origin: (3,) m and matrix (3, 3) of the sensor in the torso frame.
    """
    seen = points[points.any(axis=1)]
    own = (seen - origin) @ matrix
    cloud = np.zeros(len(own), POINT)
    cloud["x"], cloud["y"], cloud["z"] = own.T
    return cloud

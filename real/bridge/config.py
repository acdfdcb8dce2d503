"""Settings of the simulated robot on the wire."""

from dataclasses import dataclass, field
from typing import Final, Literal

from neon_sim.names import nearest
from neon_sim.real.transport import LinkConfig
from neon_sim.real.voice import SAMPLE_RATE_HZ
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.lidar import LidarConfig

TICK_S: Final = 0.002  # s; the robot reads commands and reports its state 500 times a second
WALKER_TICKS: Final = 10  # its walker thinks every 20 ms
MODES: Final = ("real_time", "lock_step")
STARTS: Final = ("walking", "released")
SENSES: Final = ("camera", "lidar", "audio")


@dataclass(frozen=True)
class BridgeConfig:
    """Where the simulated robot listens, how its time passes, and how it begins.

    Raises ValueError for a name that does not exist and for times that do not divide each other.
    """

    domain: int = 1
    interface: str = "lo"
    allow_network: bool = False  # True: robots and clients of other machines can hear this one
    mode: Literal["real_time", "lock_step"] = "real_time"
    physics_dt: float = 0.002  # s, must divide the tick of 2 ms
    lock_step_s: float = TICK_S  # s of simulated time per command in lock-step, a multiple of 2 ms; it is held so long
    seed: int = 0
    task: str = "stand"  # whose objects stand around
    start: Literal["walking", "released"] = "walking"  # its own walker has the motors, or rt/lowcmd has
    gantry: bool = False  # True: it hangs by the pelvis, feet just off the floor, until it is let down
    settle_s: float = 0.4  # s of standing before the first state, as NeonG1Env's
    watchdog_s: float = 0.1  # s without a command after which the motors only brake; in lock-step time waits instead
    mode_machine: int = 5  # 5 is the 29-joint machine
    senses: tuple[str, ...] = ()  # of "camera", "lidar", "audio"; each costs time, in a process of its own
    camera: CameraConfig = field(default_factory=CameraConfig)
    lidar: LidarConfig = field(default_factory=lambda: LidarConfig(num_points=20_000))
    audio: AudioConfig = field(default_factory=lambda: AudioConfig(window_s=0.16))
    camera_port: int = 5555  # TCP, on the interface's address; xr_teleoperate's image server
    microphone_port: int = 5555  # UDP, multicast

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise nearest("bridge mode", self.mode, MODES)
        if self.start not in STARTS:
            raise nearest("bridge start", self.start, STARTS)
        for sense in self.senses:
            if sense not in SENSES:
                raise nearest("sense of the bridge", sense, SENSES)
        if not self.physics_dt > 0.0 or not _divides(self.physics_dt, TICK_S):
            raise ValueError(f"physics_dt must divide the tick of {TICK_S} s (0.002, 0.001), got {self.physics_dt}.")
        if not self.lock_step_s > 0.0 or not _divides(TICK_S, self.lock_step_s):
            raise ValueError(f"lock_step_s must be a multiple of {TICK_S} s (0.002, 0.02), got {self.lock_step_s}.")
        if self.audio.sample_rate_hz != SAMPLE_RATE_HZ or self.audio.microphones != 1:
            raise ValueError(f"The robot's microphone is one of {SAMPLE_RATE_HZ} Hz; set audio so, got {self.audio}.")
        if not self.watchdog_s > 0.0:
            raise ValueError(f"watchdog_s must be positive, got {self.watchdog_s}. The prototype's is 0.1.")

    def link(self) -> LinkConfig:
        """Where to talk."""
        return LinkConfig(self.domain, self.interface, self.allow_network)

    @property
    def substeps(self) -> int:
        """Physics steps in a tick."""
        return round(TICK_S / self.physics_dt)

    @property
    def lock_step_ticks(self) -> int:
        """Ticks that one command moves in lock-step."""
        return round(self.lock_step_s / TICK_S)


def _divides(part_s: float, whole_s: float) -> bool:
    count = round(whole_s / part_s)
    return count >= 1 and abs(count * part_s - whole_s) < 1e-9

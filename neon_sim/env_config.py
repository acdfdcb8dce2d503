"""NeonG1Config: everything that shapes NeonG1-v0."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from neon_sim.g1 import joints
from neon_sim.g1.action_space import ControlMode
from neon_sim.names import nearest, require_counts, require_kinds, require_numbers
from neon_sim.safety import SafetyConfig
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.sensors.senses import EXTRA_SENSORS, ExtraSenses
from neon_sim.sensors.sensor import SensorConfig
from neon_sim.sensors.voice import VoiceConfig
from neon_sim.sim.domain import DomainRandomization
from neon_sim.sim.model import require_variant, substeps_of
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.rooms import RoomConfig
from neon_sim.sim.scene import FLAT, Scene
from neon_sim.sim.terrain import TerrainConfig
from neon_sim.tasks.speaking import check_instruct

SENSORS = ("proprio", "camera", "lidar", "audio")  # on by default
PRIVILEGED = "state"  # the truth, in simulation only
ALL_SENSORS = (*SENSORS, *EXTRA_SENSORS, PRIVILEGED)
CONTROL_DT = 0.02  # s
HIGHEST = 2.0  # m that `command` can say
_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    "task_options": Mapping,
    "scene": (str, Path, RoomConfig, TerrainConfig),
    "safety": SafetyConfig,
    "camera": CameraConfig,
    "lidar": LidarConfig,
    "audio": AudioConfig,
    "voice": VoiceConfig,
    "extra_senses": ExtraSenses,
    "noise": (SensorNoise, type(None)),
    "randomization": (DomainRandomization, type(None)),
}


@dataclass(frozen=True)
class NeonG1Config:
    """Everything that shapes the env. `gymnasium.make("NeonG1-v0", task="reach", ...)` sets any field by name.

    Raises ValueError for a name that does not exist, with the nearest one, and for a number out of its range.
    """

    task: str = "reach"
    task_options: Mapping[str, Any] = field(default_factory=dict)  # of the task's own config: {"wording": "test"}
    instruct: str = "text"  # how the instruction comes: "text", "speech" (its bytes are then zeros) or "both"
    variant: str = "29dof"  # which G1, of `sim.model.VARIANTS`; the spaces stay those of 29 joints
    scene: Scene = FLAT  # or a `RoomConfig`, a `TerrainConfig`, or the path of an MJCF file
    control_mode: str = "arms_only"
    action_center: str = "home"
    sensors: tuple[str, ...] = SENSORS
    physics_dt: float = 0.002  # s; 0.005 for fast training
    max_steps: int | None = None  # control steps; None = the task's own
    settle_s: float = 0.4  # s of standing before an episode begins
    fall_height: float = 0.35  # m, pelvis above the floor
    fall_tilt: float = 1.0  # rad, pelvis against gravity; pi = never
    height: float = joints.HOME_HEIGHT  # m, commanded
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    lidar: LidarConfig = field(default_factory=LidarConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    voice: VoiceConfig = field(default_factory=VoiceConfig)  # how people speak to the robot
    extra_senses: ExtraSenses = field(default_factory=ExtraSenses)  # settings of those that `sensors` must name to have
    noise: SensorNoise | None = None  # errors of encoders and IMU in all that the robot reads of itself; None = none
    randomization: DomainRandomization | None = None  # another robot in every episode; None = the nominal one

    def __post_init__(self) -> None:
        if isinstance(self.sensors, str) or not isinstance(self.sensors, Iterable):
            raise ValueError(f'sensors is a tuple of names, such as ("proprio",), got {self.sensors!r}.')
        object.__setattr__(self, "sensors", tuple(self.sensors))
        for name in self.sensors:
            if name not in ALL_SENSORS:
                raise nearest("sensor", name, ALL_SENSORS)
        if self.control_mode not in list(ControlMode):
            raise nearest("control_mode", self.control_mode, list(ControlMode))
        require_kinds(self, **_KINDS)
        require_variant(self.variant)
        check_instruct(self.instruct, self.sensors)
        if self.max_steps is not None:
            require_counts(self, max_steps=(1, 10**12))
        require_numbers(self, settle_s=(0.0, 60.0), physics_dt=(1e-5, CONTROL_DT))
        substeps_of(self.physics_dt, CONTROL_DT)
        require_numbers(self, fall_height=(-100.0, 100.0), fall_tilt=(0.0, 3.2), height=(0.0, HIGHEST))

    def sensor_configs(self) -> dict[str, SensorConfig]:
        """The configs of the enabled sensors that a robot has to capture, by observation key."""
        captured: dict[str, SensorConfig] = {"camera": self.camera, "lidar": self.lidar, "audio": self.audio}
        captured |= {name: getattr(self.extra_senses, name) for name in EXTRA_SENSORS}
        return {name: config for name, config in captured.items() if name in self.sensors}

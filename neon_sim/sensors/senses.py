"""The opt-in senses, by the name that is their observation key. A new one is a file of its own and a line here."""

from dataclasses import dataclass, field, fields
from typing import Final

from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.depth import DepthConfig
from neon_sim.sensors.force import ForceConfig
from neon_sim.sensors.gps import GpsConfig
from neon_sim.sensors.imu import ImuConfig
from neon_sim.sensors.segmentation import SegmentationConfig
from neon_sim.sensors.stereo import StereoConfig
from neon_sim.sensors.tactile import TactileConfig


@dataclass(frozen=True)
class ExtraSenses:
    """Settings of every sense that is off unless an env names it: `sensors=("proprio", "depth")`.

    `replace(ExtraSenses(), depth=DepthConfig(max_m=5.0))` changes one.
    """

    depth: DepthConfig = field(default_factory=DepthConfig)
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    wrist_left: CameraConfig = field(default_factory=lambda: CameraConfig("wrist_left"))
    wrist_right: CameraConfig = field(default_factory=lambda: CameraConfig("wrist_right"))
    stereo: StereoConfig = field(default_factory=StereoConfig)
    imu: ImuConfig = field(default_factory=ImuConfig)
    force: ForceConfig = field(default_factory=ForceConfig)
    tactile: TactileConfig = field(default_factory=TactileConfig)
    gps: GpsConfig = field(default_factory=GpsConfig)


EXTRA_SENSORS: Final = tuple(part.name for part in fields(ExtraSenses))

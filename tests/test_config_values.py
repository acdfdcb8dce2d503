"""A number that cannot be is refused where it is given: by a ValueError that names field, range and value."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.env_config import NeonG1Config
from neon_sim.names import require_corners, require_counts, require_numbers, require_spans, require_vectors
from neon_sim.safety import SafetyConfig
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.camera_randomization import CameraRandomization
from neon_sim.sensors.depth import DepthConfig
from neon_sim.sensors.force import ForceConfig
from neon_sim.sensors.gps import GpsConfig
from neon_sim.sensors.imu import ImuConfig
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.sensors.robot_noise import ImpactNoiseConfig, MotorNoiseConfig
from neon_sim.sensors.sound_field import SoundSource
from neon_sim.sensors.stereo import StereoConfig
from neon_sim.sensors.tactile import TactileConfig
from neon_sim.sensors.voice import VoiceConfig
from neon_sim.sim.domain import DomainRandomization
from neon_sim.sim.faults import ActuatorFault, AddedLatency, LowFriction, Payload, StuckJoint
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.randomize import ModelRandomization
from neon_sim.sim.rooms import RoomConfig
from neon_sim.sim.terrain import TerrainConfig
from neon_sim.tasks import TASKS, make_task

NAN, INF = math.nan, math.inf
WRONG: list[tuple[Callable[..., Any], str, Any]] = [
    (NeonG1Config, "height", 3),
    (NeonG1Config, "height", NAN),
    (NeonG1Config, "settle_s", -1.0),
    (NeonG1Config, "settle_s", NAN),
    (NeonG1Config, "fall_tilt", -1.0),
    (NeonG1Config, "fall_height", NAN),
    (NeonG1Config, "max_steps", 1.5),
    (NeonG1Config, "max_steps", 0),
    (NeonG1Config, "physics_dt", "0.002"),
    (CameraConfig, "rate_hz", NAN),
    (CameraConfig, "width", 12.5),
    (CameraConfig, "max_depth_m", -1.0),
    (StereoConfig, "height", 0),
    (CameraRandomization, "exposure", (1.0, NAN)),
    (CameraRandomization, "pos_m", INF),
    (DepthConfig, "max_m", NAN),
    (ImuConfig, "rate_hz", 0.0),
    (ForceConfig, "rate_hz", -1.0),
    (TactileConfig, "rate_hz", NAN),
    (TactileConfig, "rows", 2.5),
    (GpsConfig, "rate_hz", INF),
    (LidarConfig, "max_elevation_deg", 400.0),
    (LidarConfig, "rate_hz", NAN),
    (LidarConfig, "num_points", True),
    (AudioConfig, "ambient_db", NAN),
    (AudioConfig, "sample_rate_hz", 0),
    (AudioConfig, "window_s", INF),
    (MotorNoiseConfig, "load_nm", 0.0),
    (ImpactNoiseConfig, "decays_s", (0.04, 0.0, 0.008)),
    (VoiceConfig, "bearing", (NAN, 1.0)),
    (NeonG1Config, "sensors", None),
    (NeonG1Config, "randomization", True),
    (NeonG1Config, "noise", 0.1),
    (NeonG1Config, "camera", None),
    (NeonG1Config, "safety", None),
    (NeonG1Config, "extra_senses", {}),
    (NeonG1Config, "voice", None),
    (NeonG1Config, "scene", 3),
    (ImuConfig, "gyro_noise", "x"),
    (SensorNoise, "gyro", "x"),
    (SensorNoise, "gravity", INF),
    (DomainRandomization, "push_speed", 1.0),
    (DomainRandomization, "noise", True),
    (DomainRandomization, "action_latency_s", (0.0, 1.0)),
    (ModelRandomization, "friction", 0.5),
    (ModelRandomization, "friction", (0.0, 0.5)),
    (ModelRandomization, "kp_scale", (20.0, 20.0)),
    (ModelRandomization, "torso_payload", (-9.0, -8.0)),
    (ActuatorFault, "strength", "x"),
    (ActuatorFault, "bias", 1e6),
    (StuckJoint, "angle", NAN),
    (Payload, "mass", "3"),
    (LowFriction, "friction", 0.0),
    (AddedLatency, "action_s", "x"),
    (SafetyConfig, "arm_speed", 0.0),
    (SafetyConfig, "waist_speed", "fast"),
    (SafetyConfig, "position_margin", 3.0),
    (SafetyConfig, "self_distance", NAN),
    (SafetyConfig, "max_velocity", (NAN, 1.0, 1.0)),
    (RoomConfig, "seed", NAN),
    (RoomConfig, "furniture", 3000),
    (RoomConfig, "clear", 3),
    (TerrainConfig, "height", "x"),
    (TerrainConfig, "seed", -1),
    (partial(SoundSource, "a", np.ones(4), (0.0, 0.0, 1.0)), "level", NAN),
    (partial(SoundSource, "a", np.ones(4)), "position", (1.0, 2.0)),
    (partial(SoundSource, "a", position="pelvis"), "waveform", np.array([])),
]
WRONG_TASKS: list[tuple[str, str, Any]] = [
    ("reach", "hold_s", -1),
    ("reach", "num_balls", "3"),
    ("reach", "radius", -1.0),
    ("reach", "low", (0.2, -0.1)),
    ("reach", "low", (0.9, -0.12, 0.02)),  # beyond `high`
    ("follow_voice", "success_distance", NAN),
    ("track", "judged_s", 0.0),
    ("track", "period_s", (4.0, 2.0)),
    ("press", "named_hand", 1.5),
    ("wave", "swings", 0),
    ("walk", "judged_s", 0),
    ("walk", "smoothing_s", 0.0),
    ("look_at", "least_bearing", 3.2),  # nobody can stand there: a reset would look for ever
    ("look_at", "separation", NAN),
    ("navigate", "bearing", (1.0, -1.0)),
    ("lift_box", "hold_s", "1"),
    ("push_box", "max_tilt", INF),
]


@pytest.mark.parametrize(("config", "field", "value"), WRONG)
def test_a_config_refuses_what_cannot_be(config: Callable[..., Any], field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field} (must be|is) .*, got ") as caught:
        config(**{field: value})
    assert field == "waveform" or repr(value) in str(caught.value)


def test_what_the_physics_cannot_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"physics_dt must divide 0\.02 s .*got 0\.003"):
        NeonG1Config(physics_dt=0.003)


@pytest.mark.parametrize(("task", "field", "value"), WRONG_TASKS)
def test_a_task_option_that_cannot_be_is_refused(task: str, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Config\.{field} (must|is) .*got ") as caught:
        make_task(task, {field: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("task", TASKS)
def test_no_number_of_a_task_may_be_nan(task: str) -> None:
    defaults = vars(make_task(task).config)
    numbers = [name for name, value in defaults.items() if isinstance(value, float)]
    for name in numbers:
        with pytest.raises(ValueError, match=rf"Config\.{name} must be .*, got nan"):
            make_task(task, {name: NAN})
    assert numbers or task == "stand"


def test_an_upside_down_lidar_is_refused() -> None:
    with pytest.raises(ValueError, match="min_elevation_deg < max_elevation_deg, got 60.0 and 52.0"):
        LidarConfig(min_elevation_deg=60.0)


# The helpers themselves


@dataclass(frozen=True)
class Box:
    size: Any = 1.0
    low: Any = (0.0, 0.0)
    high: Any = (1.0, 1.0)


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(-10, 10), st.floats(0, 10))
def test_a_number_passes_if_and_only_if_it_is_in_bounds(value: float, least: float, width: float) -> None:
    most = least + width
    if least <= value <= most:
        require_numbers(Box(value), size=(least, most))
    else:
        with pytest.raises(ValueError, match=r"^Box\.size must be .* to .*, got "):
            require_numbers(Box(value), size=(least, most))


def test_what_is_said_and_what_passes() -> None:
    with pytest.raises(ValueError, match=r"^Box\.size must be 0\.5 to 2, got 3\.$"):
        require_numbers(Box(3), size=(0.5, 2.0))
    with pytest.raises(ValueError, match=r"^Box\.size must be 1 to 4, got 2\.5\. Give a whole number\.$"):
        require_counts(Box(2.5), size=(1, 4))
    with pytest.raises(ValueError, match=r"^Box\.size is \(lowest, highest\) from 0 to 4, got \(2, 1\)\.$"):
        require_spans(Box((2, 1)), size=(0.0, 4.0))
    with pytest.raises(ValueError, match=r"^Box\.high must be 3 numbers 0 to 4, got \(1\.0, 1\.0\)\.$"):
        require_vectors(Box(), 3, high=(0.0, 4.0))
    with pytest.raises(ValueError, match=r"^Box\.low must not be above high on any axis, got \(2, 0\) and"):
        require_corners(Box(low=(2, 0)), 2, 0.0, 4.0)
    require_numbers(Box(np.float32(1.0)), size=(0.0, 1.0))
    require_counts(Box(np.int64(3)), size=(3, 3))
    require_spans(Box([1, 1]), size=(1.0, 1.0))
    require_corners(Box(), 2, 0.0, 1.0)

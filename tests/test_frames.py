"""Frames that are late: each by a number that a person can work out, and the same again from a saved state."""

from typing import Any

import mujoco
import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.robot import RobotCommand
from neon_sim.sensors.audio import AudioConfig
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.depth import DepthConfig
from neon_sim.sensors.gps import GpsConfig
from neon_sim.sensors.imu import ImuConfig
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.sensors.segmentation import SegmentationConfig
from neon_sim.sensors.senses import ExtraSenses
from neon_sim.sim.faults import AddedLatency
from neon_sim.sim.frames import Frames
from neon_sim.sim.model import build_model, build_spec
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.sim_robot import SimRobot

PLAIN = build_model(build_spec(), 0.005)
ARMS = np.isin(np.arange(joints.NUM_JOINTS), joints.GROUPS["arms"])


def served(config: GpsConfig, count: int, added_s: float = 0.0) -> list[int]:
    """Sense at 50 Hz a pelvis that is at x = k m in step k: which step each served frame is of."""
    frames, data = Frames(PLAIN, {"gps": config}), mujoco.MjData(PLAIN)
    frames.reset(np.random.default_rng(0))
    frames.added_latency_s = {"gps": added_s}
    seen = []
    for step in range(count):
        data.time, data.qpos[0] = 0.02 * step, step
        mujoco.mj_kinematics(PLAIN, data)
        seen.append(round(float(frames.sense(["gps"], data)["gps"][0])))
    return seen


def gps(**settings: float) -> GpsConfig:
    return GpsConfig(noise_m=0.0, drift_m=0.0, **settings)


@pytest.mark.parametrize(
    ("rate_hz", "latency_s", "expected"),
    [
        (50.0, 0.0, [0, 1, 2, 3, 4, 5, 6]),
        (50.0, 0.06, [0, 0, 0, 0, 1, 2, 3]),
        (50.0, 0.05, [0, 0, 0, 0, 1, 2, 3]),  # 50 ms have passed at the third step after
        (25.0, 0.0, [0, 0, 2, 2, 4, 4, 6]),
        (25.0, 0.02, [0, 0, 0, 2, 2, 4, 4]),
        (25.0, 0.05, [0, 0, 0, 0, 0, 2, 2]),
    ],
)
def test_a_frame_is_served_once_it_is_old_enough(rate_hz: float, latency_s: float, expected: list[int]) -> None:
    assert served(gps(rate_hz=rate_hz, latency_s=latency_s), len(expected)) == expected


def test_what_is_added_counts_on_top() -> None:
    assert served(gps(rate_hz=50.0, latency_s=0.02), 7, added_s=0.04) == [0, 0, 0, 0, 1, 2, 3]


def test_a_picture_is_as_late_as_its_view() -> None:
    view = CameraConfig(latency_s=0.04)
    assert DepthConfig(view).latency_s == SegmentationConfig(view).latency_s == 0.04
    with pytest.raises(ValueError, match="latency_s must be 0 to 10, got -0.1"):
        CameraConfig(latency_s=-0.1)


def test_a_microphone_is_not_made_late_twice() -> None:
    config, data = AudioConfig(latency_s=0.1), mujoco.MjData(PLAIN)
    frames, alone = Frames(PLAIN, {"audio": config}), config.build(PLAIN)
    frames.reset(np.random.default_rng(0))
    alone.reset(np.random.default_rng(0))
    for step in range(8):
        data.time = 0.02 * step
        mujoco.mj_kinematics(PLAIN, data)
        np.testing.assert_array_equal(frames.sense(["audio"], data)["audio"], alone.capture(data, data.time))


def standing(**options: Any) -> SimRobot:
    robot = SimRobot(build_spec(), {"imu": ImuConfig()}, physics_dt=0.005, **options)
    robot.reset(np.random.default_rng(0))
    return robot


def step(robot: SimRobot) -> np.ndarray:
    """Move the arms a little; what the gyro truly reads after it (3,) rad/s."""
    target = joints.HOME + np.where(ARMS, 0.3, 0.0)
    robot.write(RobotCommand(target, ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT))
    robot.advance()
    return robot.data.sensor("imu-pelvis-angular-velocity").data.copy()


def test_the_imu_is_as_noisy_as_what_the_robot_reads_of_it() -> None:
    robot = standing(noise=SensorNoise(gyro=0.5))
    errors = []
    for _ in range(20):
        truth = step(robot)
        read = robot.read().gyro - robot.data.qvel[3:6]
        errors.append(robot.sense(["imu"])["imu"][:3] - truth)
        np.testing.assert_allclose(errors[-1], read, atol=1e-5)
    assert 0.3 < np.std(errors) < 0.7


def test_a_latency_of_sensing_reaches_the_imu_and_is_healed() -> None:
    robot = standing()
    robot.apply_fault(AddedLatency(0.0, 0.1))
    truths, frames = [], []
    for _ in range(20):
        truths.append(step(robot))
        frames.append(robot.sense(["imu"])["imu"][:3])
    np.testing.assert_allclose(frames[5:], truths[:-5], atol=1e-5)  # 0.1 s are five periods
    robot.apply_fault(None)
    np.testing.assert_allclose(step(robot), robot.sense(["imu"])["imu"][:3], atol=1e-5)


def test_late_frames_are_part_of_the_state() -> None:
    senses = ExtraSenses(imu=ImuConfig(latency_s=0.06), gps=gps(rate_hz=10.0, latency_s=0.3))
    options: dict[str, Any] = {
        "task": "stand",
        "physics_dt": 0.005,
        "sensors": ("proprio", "lidar", "imu", "gps"),
        "lidar": LidarConfig(num_points=64, latency_s=0.15),
        "extra_senses": senses,
        "noise": SensorNoise(),
    }
    env, other = NeonG1Env(**options), NeonG1Env(**options)
    env.reset(seed=1)
    env.world.apply_fault(AddedLatency(0.02, 0.05))
    actions = np.random.default_rng(0).uniform(-1, 1, (50, 17))
    for action in actions[:25]:
        env.step(action)
    saved = env.get_state()
    first = [env.step(action)[0] for action in actions[25:]]
    other.set_state(saved)
    for obs, action in zip(first, actions[25:], strict=True):
        again = other.step(action)[0]
        for key, value in obs.items():
            np.testing.assert_array_equal(value, again[key])

"""The IMU: gravity at rest, a known turn, noise and bias of the asked size."""

import mujoco
import numpy as np
import pytest

from neon_sim.sensors.imu import ImuConfig
from neon_sim.sensors.sensor import Sensor, SensorConfig

BOX = """<mujoco><option timestep="0.002" gravity="0 0 {gravity}"/><worldbody>
  <body name="pelvis"><freejoint/><geom type="box" size=".1 .2 .3" mass="3"/><site name="imu"/></body>
  {floor}</worldbody><sensor>
  <gyro name="imu-pelvis-angular-velocity" site="imu"/><accelerometer name="imu-pelvis-linear-acceleration" site="imu"/>
</sensor></mujoco>"""
FLOOR = '<geom type="plane" size="5 5 .1" pos="0 0 -.3"/>'


def load(gravity: float = -9.81, floor: str = FLOOR) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(BOX.format(gravity=gravity, floor=floor))
    return model, mujoco.MjData(model)


def test_at_rest_it_feels_the_floor_and_in_free_fall_nothing() -> None:
    model, data = load()
    mujoco.mj_step(model, data, 500)
    reading = ImuConfig().build(model).capture(data, data.time)
    assert reading.dtype == np.float32
    assert reading == pytest.approx([0, 0, 0, 0, 0, 9.81], abs=0.02)
    model, data = load(floor="")
    mujoco.mj_step(model, data)
    assert ImuConfig().build(model).capture(data, 0.0) == pytest.approx(np.zeros(6), abs=1e-9)


def test_a_turn_reads_its_rate_in_the_bodys_frame_and_too_fast_a_turn_the_limit() -> None:
    model, data = load(gravity=0.0, floor="")
    data.qpos[3:7] = np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)
    data.qvel[3:6] = 0.0, 0.0, 2.0
    mujoco.mj_step(model, data)
    assert ImuConfig().build(model).capture(data, 0.0)[:3] == pytest.approx([0, 0, 2.0], abs=1e-6)
    data.qvel[3:6] = 0.0, 0.0, 50.0
    mujoco.mj_step(model, data)
    reading = ImuConfig().build(model).capture(data, 0.0)
    assert reading[2] == pytest.approx(34.9) and ImuConfig().space().contains(reading)


def test_noise_is_new_in_every_frame_and_a_bias_lasts_an_episode() -> None:
    model, data = load()
    mujoco.mj_step(model, data, 500)
    config = ImuConfig(gyro_noise=0.01, acceleration_noise=0.1, gyro_bias=0.5, acceleration_bias=2.0)
    imu, biases = config.build(model), []
    for seed in range(200):
        imu.reset(np.random.default_rng(seed))
        biases.append(imu.capture(data, 0.0))
    spread = np.std(biases, axis=0)
    assert spread[:3] == pytest.approx(0.5, rel=0.2) and spread[3:] == pytest.approx(2.0, rel=0.2)
    within = np.std([imu.capture(data, 0.0) for _ in range(400)], axis=0)
    assert within[:3] == pytest.approx(0.01, rel=0.15) and within[3:] == pytest.approx(0.1, rel=0.15)


def test_a_saved_state_goes_on_to_the_bit_and_without_noise_nothing_is_drawn() -> None:
    model, data = load()
    config = ImuConfig(gyro_noise=0.01, gyro_bias=0.1)
    imu, twin = config.build(model), config.build(model)
    assert isinstance(config, SensorConfig) and isinstance(imu, Sensor)
    imu.reset(np.random.default_rng(0))
    imu.capture(data, 0.0)
    saved = imu.get_state()
    expected = imu.capture(data, 0.0)
    twin.reset(np.random.default_rng(9))
    twin.set_state(saved)
    assert np.array_equal(twin.capture(data, 0.0), expected)
    rng = np.random.default_rng(3)
    ImuConfig().build(model).reset(rng)
    assert rng.integers(1 << 30) == np.random.default_rng(3).integers(1 << 30)


def test_wrong_settings_are_explained() -> None:
    model, _ = load()
    with pytest.raises(ValueError, match="Unknown IMU mount 'pelvs'. Did you mean 'pelvis'"):
        ImuConfig("pelvs")
    with pytest.raises(ValueError, match="gyro_noise is a standard deviation.*got -1"):
        ImuConfig(gyro_noise=-1.0)
    with pytest.raises(ValueError, match="imu-torso-angular-velocity"):
        ImuConfig("torso").build(model)

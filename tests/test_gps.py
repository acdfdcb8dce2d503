"""The receiver: true without errors, as noisy as asked, and an error that wanders at its own pace."""

import mujoco
import numpy as np
import pytest

from neon_sim.sensors.gps import GpsConfig
from neon_sim.sensors.sensor import Sensor, SensorConfig

EXACT = GpsConfig(noise_m=0.0, drift_m=0.0)


def load() -> tuple[mujoco.MjModel, mujoco.MjData]:
    body = '<body name="pelvis" mocap="true" pos="3 -4 .8"><geom size=".1"/></body>'
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return model, data


def test_without_errors_it_is_the_position_and_far_away_the_limit() -> None:
    model, data = load()
    gps = EXACT.build(model)
    assert isinstance(EXACT, SensorConfig) and isinstance(gps, Sensor)
    gps.reset(np.random.default_rng(0))
    assert gps.capture(data, 0.0) == pytest.approx([3.0, -4.0, 0.8])
    data.mocap_pos[0] = 5000.0, 0.0, 0.0
    mujoco.mj_kinematics(model, data)
    assert gps.capture(data, 0.1).tolist() == [1000.0, 0.0, 0.0]


def test_noise_has_its_spread() -> None:
    model, data = load()
    gps = GpsConfig(noise_m=0.05, drift_m=0.0).build(model)
    gps.reset(np.random.default_rng(0))
    frames = np.array([gps.capture(data, 0.1 * index) for index in range(500)])
    assert frames.std(axis=0) == pytest.approx(0.05, rel=0.1)
    assert frames.mean(axis=0) == pytest.approx([3.0, -4.0, 0.8], abs=0.01)


def test_the_wandering_error_keeps_its_size_and_forgets_in_its_time() -> None:
    model, data = load()
    gps = GpsConfig(noise_m=0.0, drift_m=0.5, drift_time_s=1.0).build(model)
    starts, errors = [], []
    for seed in range(400):
        gps.reset(np.random.default_rng(seed))
        starts.append(gps.capture(data, 0.0) - [3.0, -4.0, 0.8])
        errors.append(gps.capture(data, 1.0) - [3.0, -4.0, 0.8])
    assert np.std(starts) == pytest.approx(0.5, rel=0.1) and np.std(errors) == pytest.approx(0.5, rel=0.1)
    correlation = np.mean(np.array(starts) * errors) / 0.25
    assert correlation == pytest.approx(np.exp(-1.0), abs=0.08)


def test_a_saved_state_goes_on_to_the_bit() -> None:
    model, data = load()
    gps, twin = GpsConfig().build(model), GpsConfig().build(model)
    gps.reset(np.random.default_rng(0))
    gps.capture(data, 0.0)
    saved = gps.get_state()
    expected = gps.capture(data, 0.3)
    twin.reset(np.random.default_rng(1))
    twin.set_state(saved)
    assert np.array_equal(twin.capture(data, 0.3), expected)


def test_wrong_settings_are_explained() -> None:
    with pytest.raises(ValueError, match="noise_m is a standard deviation"):
        GpsConfig(noise_m=-0.1)
    with pytest.raises(ValueError, match="drift_time_s must be 0.001 to 1e\\+06, got 0.0"):
        GpsConfig(drift_time_s=0.0)
    with pytest.raises(ValueError, match="Did you mean 'pelvis'"):
        GpsConfig("pelvi").build(load()[0])

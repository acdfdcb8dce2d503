"""Depth in a byte: what a level means, how far off it may be, noise and holes."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.depth import DepthConfig, depth_in_metres, quantise
from neon_sim.sensors.sensor import Sensor, SensorConfig

VIEW = CameraConfig(width=64, height=48, backend="ray")
WALL = """<mujoco><worldbody><geom type="box" size="9 9 .1" pos="0 0 {}"/>
  <camera name="task" fovy="90"/></worldbody></mujoco>"""


def wall_at(distance_m: float) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(WALL.format(-distance_m - 0.1))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.mark.parametrize(("wall_m", "level"), [(0.3, 1), (3.0, 255), (1.65, 128), (0.29, 0), (3.01, 0)])
def test_a_wall_reads_the_level_computed_by_hand(wall_m: float, level: int) -> None:
    model, data = wall_at(wall_m)
    frame = DepthConfig(VIEW).build(model).capture(data, 0.0)
    assert (frame == level).all() and frame.shape == (48, 64, 1)  # along the axis: a flat wall is one level


@given(depth=arrays(np.float32, 20, elements=st.floats(0.0, 6.0, width=32)), most=st.floats(1.0, 5.0))
def test_a_level_is_right_to_half_a_step_in_range_and_zero_elsewhere(depth: np.ndarray, most: float) -> None:
    config = DepthConfig(VIEW, min_m=0.5, max_m=most)
    levels = quantise(depth, config)
    seen = (depth >= np.float32(0.5)) & (depth <= np.float32(most))
    back = depth_in_metres(levels, config)
    half = (most - 0.5) / 254 / 2
    assert (np.abs(back - depth)[seen & (levels > 0)] <= half + 1e-5).all()
    assert (levels[depth < 0.499] == 0).all() and (levels[depth > most + 1e-3] == 0).all()
    assert levels[seen].min(initial=1) >= 1


def test_metres_are_there_for_whoever_asks() -> None:
    model, data = wall_at(2.0)
    sensor = DepthConfig(VIEW).build(model)
    metres = sensor.metres(data)
    assert metres.dtype == np.float32 and metres.shape == (48, 64)
    assert metres == pytest.approx(2.0, abs=1e-4)


def test_noise_grows_with_the_square_of_the_distance() -> None:
    for wall_m, spread in ((1.0, 0.01), (2.0, 0.04)):
        model, data = wall_at(wall_m)
        config = DepthConfig(VIEW, min_m=0.0, max_m=2.6, noise_at_2m=0.04)
        sensor = config.build(model)
        sensor.reset(np.random.default_rng(0))
        metres = depth_in_metres(sensor.capture(data, 0.0), config)
        assert metres.mean() == pytest.approx(wall_m, abs=0.003) and metres.std() == pytest.approx(spread, rel=0.1)


def test_dropout_makes_its_share_of_holes_and_a_saved_state_goes_on_to_the_bit() -> None:
    model, data = wall_at(1.0)
    config = DepthConfig(VIEW, dropout=0.25, noise_at_2m=0.02)
    sensor, twin = config.build(model), config.build(model)
    sensor.reset(np.random.default_rng(5))
    assert (sensor.capture(data, 0.0) == 0).mean() == pytest.approx(0.25, abs=0.03)
    saved = sensor.get_state()
    expected = sensor.capture(data, 0.0)
    twin.reset(np.random.default_rng(6))
    twin.set_state(saved)
    assert np.array_equal(twin.capture(data, 0.0), expected)


def test_frames_are_fresh_and_in_the_space() -> None:
    model, data = wall_at(1.0)
    config = DepthConfig(VIEW)
    sensor = config.build(model)
    first = sensor.capture(data, 0.0)
    assert isinstance(config, SensorConfig) and isinstance(sensor, Sensor)
    assert config.space().contains(first) and not np.shares_memory(first, sensor.capture(data, 0.0))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="0 <= min_m < max_m, got 2.0 and 1.0"):
        DepthConfig(min_m=2.0, max_m=1.0)
    with pytest.raises(ValueError, match="dropout must be 0 to 1, got 1.5"):
        DepthConfig(dropout=1.5)

"""What differs between episodes: light and lens by hand, the same for the same seed, nothing when nothing varies."""

import math

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.camera_randomization import NO_RANDOMIZATION, CameraDraw, CameraRandomization, normal_values

# A grey wall at 2 m that the headlight shows as it is, with a white post to aim at in the middle.
WALL = """<mujoco><visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual><worldbody>
  <geom type="box" size="9 9 .1" pos="0 0 -2.1" rgba=".4 .4 .4 1"/>
  <geom type="box" size=".1 9 .01" pos="0 0 -1.99" rgba="1 1 1 1"/>
  <camera name="task" fovy="90"/>
</worldbody></mujoco>"""
SIZE = 100  # pixels; 25 a metre at 2 m


def load() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(WALL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def camera(**ranges: object):
    still = {"exposure": (1.0, 1.0), "color": (1.0, 1.0), "pos_m": 0.0, "angle_rad": 0.0}
    randomization = CameraRandomization(**{**still, **ranges})  # type: ignore[arg-type]
    model, data = load()
    config = CameraConfig(width=SIZE, height=SIZE, backend="ray", randomization=randomization)
    return config.build(model), data


def test_exposure_and_tint_are_factors_and_white_is_the_end() -> None:
    eye, data = camera(exposure=(1.5, 1.5), color=(0.8, 0.8))
    eye.reset(np.random.default_rng(0))
    picture = eye.capture(data, 0.0)
    assert (picture[50, 5] == round(102 * 1.5 * 0.8)).all()  # .4 of 255 is 102
    eye, data = camera(exposure=(3.0, 3.0))
    eye.reset(np.random.default_rng(0))
    assert (eye.capture(data, 0.0) == 255).all()
    eye, data = camera(exposure=(0.0, 0.0))
    eye.reset(np.random.default_rng(0))
    assert not eye.capture(data, 0.0).any()


@given(seed=st.integers(0, 1000))
def test_what_is_drawn_lies_in_the_ranges(seed: int) -> None:
    config = CameraRandomization(exposure=(0.5, 2.0), color=(0.9, 1.1), pos_m=0.01, angle_rad=0.1)
    drawn = CameraDraw(config)
    drawn.draw(np.random.default_rng(seed))
    assert drawn.gain.min() >= 0.45 - 1e-6 and drawn.gain.max() <= 2.2 + 1e-6
    assert drawn.gain.max() / drawn.gain.min() <= 1.1 / 0.9 + 1e-5  # one exposure, three tints
    assert np.abs(drawn.shift).max() <= 0.01 and np.abs(drawn.turn).max() <= 0.1


def test_a_shifted_and_a_turned_lens_move_the_picture_by_what_geometry_says() -> None:
    eye, data = camera()

    def middle_of_the_post() -> float:
        columns = np.nonzero(eye.capture(data, 0.0)[50, :, 0] == 255)[0]
        return float(columns.mean()) + 0.5

    assert middle_of_the_post() == pytest.approx(50.0)
    eye.drawn.shift = np.array([0.4, 0.0, 0.0])
    assert middle_of_the_post() == pytest.approx(50.0 - 0.4 * 50.0 / 1.98, abs=0.5)
    eye.drawn.shift, eye.drawn.turn = np.zeros(3), np.array([0.0, 0.2, 0.0])  # about the picture's upward axis: left
    assert middle_of_the_post() == pytest.approx(50.0 + 50.0 * math.tan(0.2), abs=0.6)


def test_the_lens_is_put_back() -> None:
    eye, data = camera(pos_m=0.1, angle_rad=0.1)
    eye.reset(np.random.default_rng(0))
    before = data.cam_xpos.copy(), data.cam_xmat.copy()
    eye.capture(data, 0.0)
    assert np.array_equal(data.cam_xpos, before[0]) and np.array_equal(data.cam_xmat, before[1])


def test_pixel_noise_has_its_spread_and_is_new_in_every_frame() -> None:
    eye, data = camera(pixel_noise=5.0)
    eye.reset(np.random.default_rng(0))
    first, second = eye.capture(data, 0.0)[:, :40].astype(int), eye.capture(data, 0.0)[:, :40].astype(int)
    assert first.std() == pytest.approx(5.0, rel=0.05) and first.mean() == pytest.approx(102.0, abs=0.3)
    assert (first != second).mean() > 0.8


def test_the_noise_has_a_normal_distribution() -> None:
    """By the textbook: 68.27 % within 1 sigma, 95.45 % within 2, 99.73 % within 3, kurtosis 3, pixels independent."""
    values = normal_values()
    assert values.mean() == pytest.approx(0.0, abs=1e-12) and values.std() == pytest.approx(1.0, abs=1e-12)
    for sigmas, share in ((1.0, 0.68269), (2.0, 0.95450), (3.0, 0.99730)):
        assert (np.abs(values) < sigmas).mean() == pytest.approx(share, abs=2e-4)
    assert (values**4).mean() == pytest.approx(3.0, abs=0.01) and 4.0 < values.max() < 4.5
    drawn = CameraDraw(CameraRandomization(exposure=(1.0, 1.0), color=(1.0, 1.0), pixel_noise=8.0))
    drawn.draw(np.random.default_rng(5))
    error = drawn.expose(np.full((128, 128, 3), 128, np.uint8)).astype(float).ravel() - 128.0
    assert error.mean() == pytest.approx(0.0, abs=0.15) and error.std() == pytest.approx(8.0, rel=0.02)
    for apart in (1, 2, 3, 4, 384):
        assert np.corrcoef(error[apart:], error[:-apart])[0, 1] == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 3), (128, 128, 3)])
def test_a_picture_of_any_size_is_exposed_and_kept_as_it_was(shape: tuple[int, ...]) -> None:
    drawn = CameraDraw(CameraRandomization(exposure=(2.0, 2.0), color=(1.0, 1.0), pixel_noise=1e-6))
    drawn.draw(np.random.default_rng(0))
    picture = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    before = picture.copy()
    np.testing.assert_array_equal(drawn.expose(picture), np.minimum(2 * picture.astype(int), 255))
    np.testing.assert_array_equal(picture, before)


def test_same_seed_same_pictures_and_a_saved_state_goes_on_to_the_bit() -> None:
    ranges = {"exposure": (0.5, 1.5), "pos_m": 0.05, "angle_rad": 0.05, "pixel_noise": 2.0}
    (eye, data), (twin, _) = camera(**ranges), camera(**ranges)
    eye.reset(np.random.default_rng(1)), twin.reset(np.random.default_rng(1))
    first = eye.capture(data, 0.0)
    assert np.array_equal(first, twin.capture(data, 0.0))
    saved = eye.get_state()
    expected = eye.capture(data, 0.0)
    twin.reset(np.random.default_rng(2))
    assert not np.array_equal(twin.capture(data, 0.0), first)
    twin.set_state(saved)
    assert np.array_equal(twin.capture(data, 0.0), expected)


def test_without_randomisation_nothing_is_drawn_and_nothing_is_saved() -> None:
    eye, _ = camera()
    rng = np.random.default_rng(3)
    eye.reset(rng)
    assert rng.integers(1 << 30) == np.random.default_rng(3).integers(1 << 30)
    assert eye.get_state() == {} and eye.config.randomization == NO_RANDOMIZATION


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"exposure": (1.2, 0.8)}, "exposure is .lowest, highest.*got .1.2, 0.8"),
        ({"color": (-0.1, 1.0)}, "color is"),
        ({"pos_m": -1.0}, "pos_m must be 0 to 10, got -1.0"),
        ({"pixel_noise": float("nan")}, "pixel_noise must be"),
    ],
)
def test_ranges_that_cannot_be_are_refused(ranges: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraRandomization(**ranges)

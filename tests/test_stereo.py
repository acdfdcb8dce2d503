"""Two eyes: the disparity of a thing at a known distance, and the size that recordings have."""

import mujoco
import numpy as np
import pytest

from neon_sim.sensors.camera_randomization import CameraRandomization
from neon_sim.sensors.stereo import StereoConfig
from neon_sim.sim.model import STEREO_BASELINE, build_model, build_spec

POST = """<mujoco><visual><headlight ambient="1 1 1" diffuse="0 0 0"/></visual><worldbody>
  <geom type="box" size=".02 9 .01" pos="0 0 -1.01" rgba="1 1 1 1"/>
  <camera name="stereo_left" pos="-.025 0 0" fovy="90"/><camera name="stereo_right" pos=".025 0 0" fovy="90"/>
</worldbody></mujoco>"""
SMALL = StereoConfig(width=400, height=300, backend="ray")


def load(xml: str) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_the_disparity_is_baseline_times_focal_length_over_distance() -> None:
    model, data = load(POST)
    pair = SMALL.build(model).capture(data, 0.0)
    assert pair.shape == (300, 800, 3)
    left, right = (np.nonzero(eye[150, :, 0] > 0)[0].mean() for eye in (pair[:, :400], pair[:, 400:]))
    assert left - right == pytest.approx(0.05 * 150.0 / 1.0, abs=1.0)  # the focal length is 150 pixels


def test_the_robots_eyes_are_a_d435s_baseline_apart_and_look_the_same_way() -> None:
    for variant in ("29dof", "neck"):
        model = build_model(build_spec(variant))
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        left, right, middle = (data.camera(name) for name in ("stereo_left", "stereo_right", "task"))
        assert (left.xpos - right.xpos) == pytest.approx(-STEREO_BASELINE * middle.xmat.reshape(3, 3)[:, 0], abs=1e-9)
        assert (left.xpos + right.xpos) / 2 == pytest.approx(middle.xpos, abs=1e-9)
        assert left.xmat == pytest.approx(middle.xmat, abs=1e-9) and right.xmat == pytest.approx(middle.xmat, abs=1e-9)


def test_recordings_are_640_by_480_twice_at_30_hz() -> None:
    config = StereoConfig()
    assert config.space().shape == (480, 1280, 3) and config.rate_hz == 30.0


def test_both_eyes_share_the_light_of_an_episode_and_its_state() -> None:
    model, data = load(POST)
    config = StereoConfig(
        width=300, height=200, backend="ray",
        randomization=CameraRandomization(exposure=(0.5, 0.5), color=(1.0, 1.0), pos_m=0.01),
    )  # fmt: skip
    pair, twin = config.build(model), config.build(model)
    pair.reset(np.random.default_rng(0))
    frame = pair.capture(data, 0.0)
    assert frame[:, :300].max() == frame[:, 300:].max() == 128
    twin.set_state(pair.get_state())
    assert np.array_equal(twin.capture(data, 0.0), frame)


def test_wrong_settings_are_explained() -> None:
    model, _ = load(POST)
    with pytest.raises(ValueError, match="Unknown camera 'stereo_lef'. Did you mean 'stereo_left'"):
        StereoConfig(left="stereo_lef").build(model)
    with pytest.raises(ValueError, match="width must be 1 to 8192, got 0"):
        StereoConfig(width=0)

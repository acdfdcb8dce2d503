"""Classes: nothing, scene, robot, and one for each object, the same in every episode of a scene."""

import mujoco
import numpy as np
import pytest

from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.segmentation import SegmentationConfig, geom_classes
from neon_sim.sensors.sensor import Sensor, SensorConfig

CONFIG = SegmentationConfig(CameraConfig(width=100, height=100, backend="ray"))
# Looking down from 2 m: the floor's left half, a ball on each side, the robot's own arm; at 2 m a metre is 25 pixels.
SCENE = """<mujoco><worldbody>
  <geom name="floor" type="box" size="2 9 .1" pos="-2 0 -2.1"/>
  <body name="robot"><freejoint/><geom size=".01" pos="0 0 1"/><camera name="task" fovy="90"/>
    <body name="arm"><joint axis="0 0 1"/><geom type="box" size=".1 .1 .1" pos="0 .8 -1.1" mass="1"/></body></body>
  <body name="left_ball" pos="-.5 0 -1"><geom size=".1"/></body>
  <body name="right_ball" pos=".5 0 -1" mocap="true"><body><geom size=".1"/></body></body>
</worldbody></mujoco>"""


def load() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_each_thing_has_its_class_where_it_projects() -> None:
    model, data = load()
    sensor = CONFIG.build(model)
    frame = sensor.capture(data, 0.0)
    assert frame.shape == (100, 100, 1) and frame.dtype == np.uint8
    assert sensor.classes == {"nothing": 0, "scene": 1, "robot": 2, "left_ball": 3, "right_ball": 4}
    # At 1 m: 50 pixels a metre, so the balls are 25 columns off the middle; the arm 40 rows above it.
    assert (frame[50, 25, 0], frame[50, 75, 0], frame[10, 50, 0]) == (3, 4, 2)
    assert (frame[90, 20, 0], frame[90, 80, 0]) == (1, 0)
    assert 70 < (frame == 3).sum() < 95  # a disc of 5 pixels


def test_geom_ids_are_there_for_whoever_asks() -> None:
    model, data = load()
    ids = CONFIG.build(model).geom_ids(data)
    assert ids.dtype == np.int32 and ids[90, 20] == model.geom("floor").id and ids[90, 80] == -1


def test_more_objects_than_classes_share_the_last_one() -> None:
    bodies = "".join(f'<body pos="{i} 0 0"><geom size=".1"/></body>' for i in range(300))
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{bodies}</worldbody></mujoco>")
    classes = geom_classes(model, own_body=0)  # a camera on the world: nothing is "robot"
    assert classes[:3].tolist() == [3, 4, 5] and (classes[252:300] == 255).all() and classes[-1] == 0


def test_frames_are_in_the_space_and_the_config_is_data() -> None:
    model, data = load()
    sensor = CONFIG.build(model)
    assert isinstance(CONFIG, SensorConfig) and isinstance(sensor, Sensor)
    assert CONFIG.space().contains(sensor.capture(data, 0.0))
    with pytest.raises(ValueError, match="Did you mean 'task'"):
        SegmentationConfig(CameraConfig("tusk")).build(model)

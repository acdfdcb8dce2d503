"""Tactile palms: a block resting on one weighs what it weighs, in the cells that it lies on."""

import mujoco
import numpy as np
import pytest

from neon_sim.sensors.sensor import Sensor, SensorConfig
from neon_sim.sensors.tactile import TactileConfig

# Two palms, 12 cm along x and 8 cm along z, turned so that the left one (facing -y) looks up. A heavy ball of 1 cm on
# the middle of a cell: columns are 3 cm, rows 2 cm.
SCENE = """<mujoco><option timestep="0.002"/><worldbody>
  <body name="left" euler="-90 0 0"><geom name="left_hand" type="box" size=".06 .02 .04"/></body>
  <body name="right" pos="1 0 0" euler="-90 0 0"><geom name="right_hand" type="box" size=".06 .02 .04"/></body>
  <body name="ball" pos="{place} .0299"><joint type="slide" axis="0 0 1"/><geom size=".01" mass=".5"/></body>
</worldbody></mujoco>"""


def settled(place: str) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(SCENE.format(place=place))
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 1000)
    return model, data


# Turned by -90 degrees about x, the hand's z axis is the world's y, and its palm (-y) looks up.
@pytest.mark.parametrize(
    ("place", "row", "column"), [(".045 .03", 3, 3), ("-.045 -.03", 0, 0), (".015 -.01", 1, 2), ("-.015 .01", 2, 1)]
)
def test_a_ball_weighs_on_the_cell_that_it_lies_on(place: str, row: int, column: int) -> None:
    model, data = settled(place)
    palms = TactileConfig().build(model).capture(data, 0.0).reshape(2, 4, 4)
    assert palms[0, row, column] == pytest.approx(0.5 * 9.81, rel=0.01)
    palms[0, row, column] = 0.0
    assert not palms.any()


def test_the_back_of_a_hand_feels_nothing() -> None:
    model, data = settled("1 0")  # the right palm faces +y, which is down here
    assert data.ncon == 1
    assert not TactileConfig().build(model).capture(data, 0.0).any()


def test_a_grid_of_one_cell_sums_the_whole_palm_whichever_geom_comes_first() -> None:
    model, data = settled("0 0")
    config = TactileConfig(rows=1, columns=1)
    assert config.build(model).capture(data, 0.0) == pytest.approx([0.5 * 9.81, 0.0], rel=0.01)
    first = SCENE.replace(
        '<body name="left"', '<body name="zero" pos="0 0 9"><geom size=".1"/></body><body name="left"'
    )
    swapped = first.replace('<geom size=".01" mass=".5"/>', '<geom type="box" size=".01 .01 .01" mass=".5"/>')
    model = mujoco.MjModel.from_xml_string(swapped.format(place="0 0"))
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 1000)
    assert config.build(model).capture(data, 0.0) == pytest.approx([0.5 * 9.81, 0.0], rel=0.01)


def test_noise_frames_and_state() -> None:
    model, data = settled("0 0")
    config = TactileConfig(noise=0.3)
    skin = config.build(model)
    assert isinstance(config, SensorConfig) and isinstance(skin, Sensor)
    skin.reset(np.random.default_rng(0))
    frames = np.array([skin.capture(data, 0.0) for _ in range(200)])
    assert frames[:, 20:].std() == pytest.approx(0.3, rel=0.05) and config.space().contains(frames[0])
    saved = skin.get_state()
    expected = skin.capture(data, 0.0)
    skin.set_state(saved)
    assert np.array_equal(skin.capture(data, 0.0), expected)


def test_wrong_settings_are_explained() -> None:
    with pytest.raises(ValueError, match="rows must be 1 to 1000, got 0"):
        TactileConfig(rows=0)
    handless = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><geom name='lefthand' size='.1'/></worldbody></mujoco>"
    )
    with pytest.raises(ValueError, match="Unknown geom 'left_hand'. Did you mean 'lefthand'"):
        TactileConfig().build(handless)
